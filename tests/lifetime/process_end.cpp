// How a process ends while its threads allocate: each round is a process of its own.
#include "program.hpp"

#include <pthread.h>

#include <atomic>
#include <csignal>
#include <thread>

namespace {

using namespace lifetime;

/// A static object whose destructor is about the last thing that runs.
struct at_the_very_end {
    kit blocks;
    ~at_the_very_end()
    {
        if (blocks.blocks[0].address != nullptr) blocks.free_all();
        exercise(1);
    }
} static_object;

void start_threads_that_never_end(int count)
{
    for (int which = 0; which < count; ++which) {
        std::thread([which] {
            for (std::uint64_t life = 0;; ++life)
                exercise(static_cast<std::uint64_t>(which) << 32 | life);
        }).detach();
    }
}

/// Threads that begin and end without pause, so that their exit hooks run at any moment.
void start_short_lives(int count)
{
    for (int which = 0; which < count; ++which) {
        std::thread([] {
            for (;;) std::thread([] { exercise(3, 30); }).join();
        }).detach();
    }
}

void wait_a_little(std::size_t round)
{
    random_source random(seed() + round);
    ::usleep(static_cast<useconds_t>(random.below(5000)));
}

/// 0 by return from main, with all handlers and static objects.
int end_by_return(std::size_t round)
{
    start_threads_that_never_end(3);
    start_short_lives(1);
    static_object.blocks.make(round);
    require(std::atexit([] { exercise(4); }) == 0, "atexit");
    wait_a_little(round);
    return 0;
}

/// The same by exit() in another thread, while main allocates.
int end_by_exit_in_a_thread(std::size_t round)
{
    start_threads_that_never_end(2);
    static_object.blocks.make(round);
    require(std::atexit([] { exercise(5); }) == 0, "atexit");
    std::thread([round] {
        exercise(6);
        wait_a_little(round);
        std::exit(0);
    }).detach();
    for (std::uint64_t life = 0;; ++life) exercise(life, 100);
}

int end_by_quick_exit(std::size_t round)
{
    start_threads_that_never_end(2);
    static kit blocks;
    blocks.make(round);
    for (int i = 0; i < 100; ++i) {
        require(std::at_quick_exit([] { exercise(7, 20); }) == 0, "at_quick_exit");
    }
    require(std::at_quick_exit([] { blocks.free_all(); }) == 0, "at_quick_exit");
    wait_a_little(round);
    std::quick_exit(0);
}

constexpr int aborted = 17;

void on_abort(int)
{
    // More than a handler may do; but a process that is about to end in abort() often does it, to
    // say where it was.
    exercise(8);
    ::_exit(aborted);
}

int end_by_abort(std::size_t round)
{
    start_threads_that_never_end(2);
    std::signal(SIGABRT, on_abort);
    exercise(9);
    wait_a_little(round);
    std::abort();
}

/// The heap itself ends the process: it has to be usable for the handler.
int end_by_misuse(std::size_t round)
{
    start_threads_that_never_end(2);
    std::signal(SIGABRT, on_abort);
    exercise(10);
    wait_a_little(round);
    // With its own mapping, which is known to be free whoever else allocates.
    void* const block = opaque(allocate(20 * mib));
    deallocate(opaque(static_cast<char*>(block) + 16));
    return 1;
}

/// The main thread ends before others do; the last one's end is the process's.
int end_with_the_last_thread(std::size_t round)
{
    static kit blocks;
    blocks.make(round);
    static_object.blocks.make(round + 1);
    for (std::uint64_t which = 0; which < 4; ++which) {
        std::thread([which, round] {
            wait_a_little(round + static_cast<std::size_t>(which));
            for (std::uint64_t i = 0; i < 5; ++i) exercise(which << 32 | i);
            if (which == 0) blocks.free_all(); // of a thread that may be gone
        }).detach();
    }
    require(std::atexit([] { exercise(11); }) == 0, "atexit");
    ::pthread_exit(nullptr);
}

/// The main thread, alone, ends as a thread: exit handlers run after its exit hook.
int end_late(std::size_t round)
{
    static_object.blocks.make(round);
    require(std::atexit([] { exercise(12); }) == 0, "atexit");
    std::thread([] { exercise(13); }).join();
    ::pthread_exit(nullptr);
}

struct mode {
    const char* name;
    int (*run)(std::size_t round);
    std::size_t rounds;
    int status;
};

constexpr mode modes[] = {
    {"return", end_by_return, 100, 0},        {"exit_in_thread", end_by_exit_in_a_thread, 50, 0},
    {"quick_exit", end_by_quick_exit, 50, 0}, {"abort", end_by_abort, 50, aborted},
    {"misuse", end_by_misuse, 50, aborted},   {"last_thread", end_with_the_last_thread, 50, 0},
    {"late_exit", end_late, 20, 0},
};

} // namespace

int main(int, char** arguments)
{
    end_after(50);
    require(on_binmalloc(), "another allocator");
    for (const mode& each : modes) {
        if (std::strcmp(arguments[1], each.name) != 0) continue;
        const std::size_t round = std::strtoul(arguments[2], nullptr, 10);
        if (round != 0) return each.run(round);
        // Our own caller gives a path there, which is no number.
        for (std::size_t i = 1; i <= scaled(each.rounds, 5); ++i) {
            char number[32];
            std::snprintf(number, sizeof number, "%zu", i);
            const int status = run_again(each.name, number);
            if (status == each.status) continue;
            std::fprintf(stderr, "round %zu: status %d\n", i, status);
            fail("a process that did not end as it should");
        }
        return 0;
    }
    fail("no such mode");
}
