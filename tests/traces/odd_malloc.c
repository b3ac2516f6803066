/* A malloc with one oddity, for LD_PRELOAD: ODD says which. Most concern blocks of 5000 bytes. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* block);

enum { odd_size = 5000, listed_size = 104 };
static char twice[2 * odd_size];

static int is(const char* odd)
{
    const char* const asked = getenv("ODD");
    return asked != NULL && strcmp(asked, odd) == 0;
}

static int has(const char* odd, size_t size) { return size == odd_size && is(odd); }

/* Not a fault: one list for all threads, so a block that one has freed is another's at once. */
struct block {
    struct block* next;
};
static struct block* list;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

static void* take_listed(void)
{
    pthread_mutex_lock(&list_lock);
    struct block* const block = list;
    if (block != NULL) list = block->next;
    pthread_mutex_unlock(&list_lock);
    return block != NULL ? block : __libc_malloc(listed_size);
}

static void put_listed(struct block* block)
{
    pthread_mutex_lock(&list_lock);
    block->next = list;
    list = block;
    pthread_mutex_unlock(&list_lock);
    sched_yield();
}

void* malloc(size_t size)
{
    if (has("twice", size)) return twice;
    /* Not a fault either. */
    if (is("calls_itself")) free(calloc(1, 77));
    if (is("one_list") && size > listed_size - 8 && size <= listed_size) return take_listed();
    return has("none", size) ? NULL : __libc_malloc(size);
}

void* calloc(size_t count, size_t size)
{
    void* const block = __libc_calloc(count, size);
    if (has("not_zero", count * size)) memset(block, 1, count * size);
    return block;
}

void* realloc(void* block, size_t size)
{
    char* const moved = __libc_realloc(block, size);
    if (has("not_kept", size)) memset(moved, 0, size);
    return moved;
}

int posix_memalign(void** block, size_t alignment, size_t size)
{
    *block = __libc_memalign(alignment, size + 16);
    if (has("not_aligned", size)) *block = (char*)*block + 16;
    return *block == NULL ? ENOMEM : 0;
}

void free(void* block)
{
    if (block == twice) return;
    if (is("one_list") && malloc_usable_size(block) == listed_size)
        put_listed(block);
    else
        __libc_free(block);
}
