// The last calls of threads: in destructors of thread-locals and in every round of key destructors,
// with so many keys in use that the heap's own needs memory in each thread, or does not exist.
#include "program.hpp"

#include <pthread.h>

#include <atomic>
#include <climits>
#include <thread>
#include <vector>

namespace {

using namespace lifetime;

// Keys that nobody uses.
pthread_key_t taken[PTHREAD_KEYS_MAX];
std::size_t taken_count = 0;

void take_keys(std::size_t count)
{
    while (taken_count < count && pthread_key_create(&taken[taken_count], nullptr) == 0)
        ++taken_count;
}

/// Reads the mode before main: the heap takes its key when it is made, which may be long before.
void take_keys_early(int count, char** arguments, char**)
{
    if (count < 2) return;
    if (std::strcmp(arguments[1], "many_keys") == 0) take_keys(100);
    if (std::strcmp(arguments[1], "all_keys") == 0) take_keys(PTHREAD_KEYS_MAX);
}
__attribute__((section(".preinit_array"), used)) void (*const before_all)(int, char**,
                                                                          char**) = take_keys_early;

// A key destructor that sets its key again as long as the system calls it again.
pthread_key_t round_key;
std::atomic<std::size_t> rounds = 0;

struct last_will {
    kit blocks;
    std::uintptr_t rounds_left = PTHREAD_DESTRUCTOR_ITERATIONS;
};

extern "C" void on_round(void* argument)
{
    auto* const will = static_cast<last_will*>(argument);
    ++rounds;
    will->blocks.free_all();
    exercise(rounds, 60);
    if (--will->rounds_left == 0) {
        deallocate(will);
        return;
    }
    will->blocks.make(will->rounds_left);
    pthread_setspecific(round_key, will);
}

struct at_thread_end {
    kit blocks;
    ~at_thread_end()
    {
        blocks.free_all();
        exercise(1, 60);
    }
};

// Its first value in a thread is the thread's first call: if there are many keys, the C library
// allocates room for those of the heap's kind, too.
pthread_key_t first_key;

void begin_thread()
{
    if (taken_count < PTHREAD_KEYS_MAX / 2)
        require(pthread_setspecific(first_key, &first_key) == 0, "pthread_setspecific");
}

block left_behind; // by the last thread, for the next

void* live_and_die(void*)
{
    begin_thread();
    thread_local at_thread_end local;
    local.blocks.make(2);
    if (left_behind.address != nullptr) free_block(left_behind);

    if (taken_count < PTHREAD_KEYS_MAX / 2) {
        auto* const will = static_cast<last_will*>(allocate(sizeof(last_will)));
        require(will != nullptr, "no memory for a will");
        new (will) last_will;
        will->blocks.make(3);
        require(pthread_setspecific(round_key, will) == 0, "pthread_setspecific");
    }
    exercise(4);
    left_behind = make_block(3000, 5);
    return nullptr;
}

/// One thread after the other, and then several at a time.
void run(std::size_t lives)
{
    for (std::size_t i = 0; i < lives; ++i) {
        pthread_t thread;
        require(pthread_create(&thread, nullptr, live_and_die, nullptr) == 0, "pthread_create");
        require(pthread_join(thread, nullptr) == 0, "pthread_join");
    }
    std::vector<std::thread> threads;
    for (int which = 0; which < 8; ++which) {
        threads.emplace_back([lives] {
            for (std::size_t i = 0; i < lives / 4; ++i) {
                std::thread([] {
                    begin_thread();
                    exercise(6);
                }).join();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}

} // namespace

int main(int, char** arguments)
{
    end_after(50);
    const bool all_keys = std::strcmp(arguments[1], "all_keys") == 0;
    require(on_binmalloc(), "another allocator");
    if (std::strcmp(arguments[1], "every_round") != 0)
        require(taken_count >= 100, "the keys were not taken early");
    if (!all_keys) {
        require(pthread_key_create(&round_key, on_round) == 0, "pthread_key_create");
        require(pthread_key_create(&first_key, nullptr) == 0, "pthread_key_create");
    }

    const std::size_t lives = scaled(200, 20);
    run(lives);
    const std::size_t resident_before = binmalloc_test::memory_in_use().resident;
    run(lives);
    require(binmalloc_test::memory_in_use().resident < resident_before + 8 * mib,
            "threads that come and go leave memory behind");
    if (!all_keys)
        require(rounds == 2 * lives * PTHREAD_DESTRUCTOR_ITERATIONS, "rounds of key destructors");
    free_block(left_behind);
    return 0;
}
