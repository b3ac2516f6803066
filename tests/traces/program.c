/* program CASE: allocation calls that are known to traces.py, between two marks. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { first_mark = 900001, last_mark = 900002 };

static void mark(size_t size) { free(malloc(size)); }

static void require(int condition, const char* what)
{
    if (condition) return;
    fprintf(stderr, "program: %s\n", what);
    _exit(1);
}

/* Every call, in an order that traces.py has too. */
static void calls(void)
{
    volatile size_t too_much = SIZE_MAX / 2;
    void* aligned;
    char* first = malloc(24);
    char* zeroed = calloc(10, 11);
    first = realloc(first, 2400);
    errno = 7;
    require(realloc(first, too_much) == NULL, "realloc did not fail");
    require(malloc(too_much) == NULL, "malloc did not fail");
    require(calloc(too_much, 4) == NULL, "calloc did not fail");
    require(errno == ENOMEM, "errno is not the allocator's");
    require(posix_memalign(&aligned, 64, 100) == 0, "posix_memalign failed");
    free(aligned);
    free(aligned_alloc(4096, 8192));
    free(memalign(32, 33));
    free(valloc(50));
    free(pvalloc(50));
    free(strdup("1234567"));
    free(reallocarray(NULL, 3, 7));
    require(malloc_usable_size(first) >= 2400, "malloc_usable_size says too little");
    free(realloc(NULL, 60));
    free(NULL);
    free(malloc(0));
    require(realloc(zeroed, 0) == NULL, "realloc to nothing gave a block");
    errno = 7;
    free(first);
    require(errno == 7, "free changed errno");
}

enum { thread_count = 4, rounds = 10, blocks_per_round = 2000 };

static void* blocks[thread_count][blocks_per_round];
static pthread_barrier_t everyone;

/* Frees what its neighbour allocated, and then, in the midst of the others, its own. */
static void* exchange(void* argument)
{
    const size_t own = (size_t)argument, other = (own + 1) % thread_count;
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < blocks_per_round; ++i) blocks[own][i] = malloc(100 + own);
        pthread_barrier_wait(&everyone);
        for (int i = 0; i < blocks_per_round; ++i) free(blocks[other][i]);
        pthread_barrier_wait(&everyone);
    }
    for (int i = 0; i < rounds * blocks_per_round; ++i) free(malloc(100 + own));
    return NULL;
}

static void threads(void)
{
    pthread_t started[thread_count];
    pthread_barrier_init(&everyone, NULL, thread_count);
    for (size_t i = 0; i < thread_count; ++i)
        require(pthread_create(&started[i], NULL, exchange, (void*)i) == 0, "no thread");
    for (size_t i = 0; i < thread_count; ++i) pthread_join(started[i], NULL);
}

static void wait_for(pid_t child)
{
    int status = -1;
    require(waitpid(child, &status, 0) == child && status == 0, "a child failed");
}

/* In a child that is not recorded. */
static void child_calls(void)
{
    void* block = NULL;
    for (size_t size = 70000; size < 70050; ++size) {
        block = realloc(block, size);
        free(calloc(1, 70000));
    }
    free(block);
}

static volatile int busy = 1;

static void* keep_busy(void* nothing)
{
    while (busy) free(malloc(300));
    return nothing;
}

/* Children that allocate, forked while another thread is in the middle of a call. */
static void forks(void)
{
    pthread_t other;
    void* const shared = malloc(500);
    require(pthread_create(&other, NULL, keep_busy, NULL) == 0, "no thread");
    for (int i = 0; i < 50; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            child_calls();
            free(shared);
            _exit(0);
        }
        wait_for(child);
    }
    busy = 0;
    pthread_join(other, NULL);
    free(shared);
}

/* The same program again, in a child. */
static void starts(char* self)
{
    const pid_t child = fork();
    if (child == 0) {
        execl(self, self, "started", (char*)NULL);
        _exit(1);
    }
    wait_for(child);
}

/* Programs that tidy up close what they do not know. */
static void closes(void)
{
    for (int file = 3; file < 1024; ++file) close(file);
    require(chdir("/") == 0, "no root");
    for (int i = 0; i < 100000; ++i) free(malloc(100000));
}

int main(int argc, char** argv)
{
    const char* const wanted = argc > 1 ? argv[1] : "";
    if (strcmp(wanted, "started") == 0) {
        child_calls();
        return 0;
    }
    mark(first_mark);
    if (strcmp(wanted, "calls") == 0) calls();
    if (strcmp(wanted, "threads") == 0) threads();
    if (strcmp(wanted, "forks") == 0) forks();
    if (strcmp(wanted, "starts") == 0) starts(argv[0]);
    if (strcmp(wanted, "closes") == 0) closes();
    mark(last_mark);
    if (strcmp(wanted, "_exit") == 0) _exit(0);
    if (strcmp(wanted, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(wanted, "abort") == 0) abort();
    if (strcmp(wanted, "exec") == 0) execl(argv[0], argv[0], "started", (char*)NULL);
    return 0;
}
