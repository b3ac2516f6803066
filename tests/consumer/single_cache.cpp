// The single-cache variant as malloc, new and allocate of a threaded program that links only the
// C library. Blocks are filled, checked and freed by other threads than allocated them.
#define BINMALLOC_SINGLE_CACHE 1
#define BINMALLOC_OVERRIDE_MALLOC 1
#include <binmalloc/binmalloc.hpp>

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

namespace {

constexpr int thread_count = 4;
constexpr int block_count = 2000;
constexpr int rounds = 20;

struct worker {
    unsigned char* blocks[block_count];
    worker* neighbour;
    pthread_barrier_t* barrier;
    unsigned char mark;
    bool failed;
};

size_t size_of(int block) { return static_cast<size_t>(block % 97) * 13 + 1; }

void* work(void* argument)
{
    worker& self = *static_cast<worker*>(argument);
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < block_count; ++i) {
            void* const block = i % 2 == 0 ? malloc(size_of(i)) : binmalloc::allocate(size_of(i));
            if (block == nullptr) {
                self.failed = true;
                return nullptr;
            }
            self.blocks[i] = static_cast<unsigned char*>(memset(block, self.mark, size_of(i)));
        }
        pthread_barrier_wait(self.barrier);
        for (int i = 0; i < block_count; ++i) {
            unsigned char* const block = self.neighbour->blocks[i];
            for (size_t byte = 0; byte < size_of(i); ++byte) {
                self.failed |= block[byte] != self.neighbour->mark;
            }
            free(block);
        }
        pthread_barrier_wait(self.barrier);
    }
    return nullptr;
}

} // namespace

int main()
{
    worker* const workers = new worker[thread_count]();
    pthread_t threads[thread_count];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, thread_count);
    for (int i = 0; i < thread_count; ++i) {
        workers[i].neighbour = &workers[(i + 1) % thread_count];
        workers[i].barrier = &barrier;
        workers[i].mark = static_cast<unsigned char>(i + 1);
        pthread_create(&threads[i], nullptr, work, &workers[i]);
    }
    bool failed = false;
    for (int i = 0; i < thread_count; ++i) {
        pthread_join(threads[i], nullptr);
        failed |= workers[i].failed;
    }
    delete[] workers;
    return failed ? 1 : 0;
}
