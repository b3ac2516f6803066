// fork() in a process whose other threads are busy in the heap: the child can use it as if
// nothing happened.
#include <binmalloc/binmalloc.hpp>

#include <gtest/gtest.h>

#if defined(__unix__) || defined(__APPLE__)

#    include "support/busy_threads.hpp"
#    include "support/child.hpp"
#    include "support/filled_block.hpp"
#    include "support/live_blocks.hpp"
#    include "support/random.hpp"
#    include "support/scale.hpp"
#    include "support/threads.hpp"

#    include <pthread.h>
#    include <spawn.h>
#    include <sys/wait.h>
#    include <unistd.h>

#    include <array>
#    include <atomic>
#    include <cstddef>
#    include <cstdint>
#    include <cstdlib>
#    include <string>
#    include <thread>
#    include <vector>

namespace {

using namespace binmalloc_test;

class ForkAmid : public testing::TestWithParam<business> {};

INSTANTIATE_TEST_SUITE_P(Business, ForkAmid,
                         testing::Values(small_blocks, more_threads_than_caches, spans, huge_blocks,
                                         purges),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(ForkAmid, child_uses_the_heap)
{
    std::vector<live_block> mine;
    for (std::size_t i = 0; i < 200; ++i) mine.push_back(filled_block(i * 100, i));
    busy_threads others(GetParam());
    for (std::size_t round = 0; round < scaled(100, 5); ++round) {
        std::vector<live_block> theirs = others.keepsakes();
        const int result = others.in_child([&]() -> int {
            if (const child_error error = free_inherited(mine)) return error;
            if (const child_error error = use_heap()) return error;
            if (const child_error error = free_inherited(theirs)) return error;
            return use_heap();
        });
        ASSERT_EQ(result, none) << "round " << round;
        for (const live_block& block : theirs)
            ASSERT_TRUE(free_checked(block)) << "the child's frees reached the parent";
    }
    for (const live_block& block : mine) EXPECT_TRUE(free_checked(block));
}

TEST_P(ForkAmid, child_starts_threads)
{
    if (sanitized) GTEST_SKIP() << "a sanitizer's own locks do not survive a fork between threads";
    busy_threads others(GetParam());
    for (std::size_t round = 0; round < scaled(50, 4); ++round) {
        const std::vector<live_block> theirs = others.keepsakes();
        const int result = others.in_child([&]() -> int {
            std::atomic<int> result_of_threads = none;
            std::thread first([&] {
                if (const child_error error = free_inherited(theirs)) result_of_threads = error;
                if (const child_error error = use_heap()) result_of_threads = error;
            });
            std::thread second([&] {
                if (const child_error error = use_heap()) result_of_threads = error;
            });
            const child_error own = use_heap();
            first.join();
            second.join();
            return own != none ? own : result_of_threads.load();
        });
        ASSERT_EQ(result, none) << "round " << round;
        for (const live_block& block : theirs) binmalloc::deallocate(block.address);
    }
}

TEST_P(ForkAmid, child_consumes_blocks_of_every_origin)
{
    stock inherited;
    busy_threads others(GetParam());
    for (std::size_t round = 0; round < scaled(20, 5); ++round) {
        const int result = others.in_child([&]() -> int {
            if (const child_error error = check_statistics()) return error;
            if (!inherited.resize_and_free_some()) return damaged_block;
            if (const child_error error = use_heap()) return error;
            return inherited.free_rest() ? check_statistics() : damaged_block;
        });
        ASSERT_EQ(result, none) << "round " << round;
        ASSERT_TRUE(inherited.intact()) << "the child reached the parent";
    }
}

TEST(Fork, from_a_thread_that_is_not_the_first)
{
    busy_threads others(small_blocks);
    for (std::size_t round = 0; round < scaled(50, 5); ++round) {
        std::thread([&] {
            std::vector<live_block> mine;
            for (std::size_t i = 0; i < 50; ++i) mine.push_back(filled_block(i * 50, i));
            const int result = others.in_child([&]() -> int {
                const child_error error = free_inherited(mine);
                return error != none ? error : use_heap();
            });
            EXPECT_EQ(result, none) << "round " << round;
            for (const live_block& block : mine) EXPECT_TRUE(free_checked(block));
        }).join();
    }
}

TEST(Fork, grandchildren_and_memory_of_lost_threads)
{
    // Each generation finds the caches of threads that no longer exist.
    busy_threads others(small_blocks);
    const int result = others.in_child([&]() -> int {
        for (int generation = 0; generation < 5; ++generation) {
            if (const child_error error = use_heap()) return error;
            const pid_t next = ::fork();
            if (next < 0) return bad_process;
            if (next > 0) return result_of(next);
        }
        return none;
    });
    EXPECT_EQ(result, none);
}

// --- again and again, from several threads at once ------------------------------------------------

int run_a_program()
{
    ::execl("/bin/sh", "sh", "-c", "exit 7", static_cast<char*>(nullptr));
    return bad_process;
}

/// One of the things that children do, by turns.
int live_as_a_child(std::size_t turn)
{
    if (const child_error error = use_heap()) return error;
    switch (turn % 16) {
    case 3: return in_child(run_a_program) == 7 ? use_heap() : bad_process;
    case 7: return in_child([] { return use_heap(); }) == none ? use_heap() : bad_process;
    case 11: {
        if (sanitized) return none; // as above: no threads there
        std::atomic<int> result = none;
        std::thread([&] { result = use_heap(); }).join();
        return result;
    }
    case 15: binmalloc::purge(); return use_heap();
    default: return none;
    }
}

// BINMALLOC_TEST_SCALE=10 makes it ten thousand forks.
TEST(Fork, from_three_threads_at_once_amid_everything)
{
    constexpr std::size_t forking = 3;
    stock inherited;
    busy_threads small(small_blocks);
    busy_threads large(spans);
    busy_threads purging(purges);
    std::atomic<std::size_t> failed = 0;
    run_threads(forking, [&](std::size_t me) {
        std::array<live_block, 50> mine;
        for (std::size_t i = 0; i < mine.size(); ++i) mine[i] = filled_block(i * i * 10, me);
        const std::size_t turns = scaled(1000, 30) / forking;
        for (std::size_t turn = 0; turn < turns && failed == 0; ++turn) {
            const int result = in_child([&]() -> int {
                if (const child_error error = free_inherited(mine)) return error;
                if (turn % 8 == 0 && !inherited.free_rest()) return damaged_block;
                return live_as_a_child(turn);
            });
            EXPECT_EQ(result, none) << "turn " << turn;
            if (result != none) ++failed;
        }
        for (const live_block& block : mine) EXPECT_TRUE(free_checked(block));
    });
    EXPECT_TRUE(inherited.intact());
}

// --- children that run another program ------------------------------------------------------------

/// vfork(): until the child runs another program, it is in the parent's memory and thread.
[[gnu::noinline]] pid_t spawn_by_vfork(int exit_status)
{
    const pid_t child = ::vfork();
    if (child == 0) {
        if (exit_status == 7) ::execl("/bin/sh", "sh", "-c", "exit 7", static_cast<char*>(nullptr));
        ::_exit(exit_status);
    }
    return child;
}

TEST(ForkAndExec, vfork_amid_allocations)
{
    busy_threads others(small_blocks);
    std::vector<live_block> mine;
    for (std::size_t round = 0; round < scaled(150, 5); ++round) {
        mine.push_back(filled_block(round * 7, round));
        const int expected = round % 2 == 0 ? 7 : 9;
        ASSERT_EQ(result_of(spawn_by_vfork(expected)), expected);
        EXPECT_EQ(use_heap(), none);
    }
    for (const live_block& block : mine) EXPECT_TRUE(free_checked(block));
}

TEST(ForkAndExec, a_vforked_child_that_allocates_does_it_in_its_parent)
{
    // What such a child may do at all is little, but programs do it; and whoever recognises a
    // child must not take this one for a process of its own. Another heap would not know of `old`;
    // what the others' stashes hold at the moment may be counted as free though it is in use again.
    constexpr std::size_t size_of_old = 100 * mib;
    constexpr std::size_t stashes = 40 * mib;
    void* const old = opaque(binmalloc::allocate(size_of_old));
    busy_threads others(small_blocks);
    for (std::size_t round = 0; round < scaled(100, 5); ++round) {
        void* const mine = opaque(binmalloc::allocate(100 + round));
        static void* volatile theirs;
        static volatile std::size_t live_bytes;
        const std::size_t size = 5 * mib + round;
        const pid_t child = ::vfork();
        if (child == 0) {
            binmalloc::deallocate(opaque(binmalloc::allocate(200)));
            theirs = binmalloc::allocate(size);
            live_bytes = binmalloc::statistics().live;
            ::_exit(theirs != nullptr ? none : bad_allocation);
        }
        ASSERT_EQ(result_of(child), none);
        void* const block = theirs;
        EXPECT_GE(live_bytes, size_of_old - stashes) << "another heap than the parent's";
        EXPECT_GE(binmalloc::usable_size(block), size);
        fill(block, size, round);
        EXPECT_TRUE(holds(block, size, round));
        binmalloc::deallocate(block);
        binmalloc::deallocate(mine);
        ASSERT_EQ(use_heap(), none);
    }
    binmalloc::deallocate(old);
}

TEST(ForkAndExec, posix_spawn_and_system_from_three_threads)
{
    busy_threads others(more_threads_than_caches);
    run_threads(3, [](std::size_t me) {
        char shell[] = "sh";
        char option[] = "-c";
        char script[] = "exit 5";
        char* const arguments[] = {shell, option, script, nullptr};
        for (std::size_t round = 0; round < scaled(60, 3); ++round) {
            if (me == 0) {
                const int status = std::system("exit 6");
                ASSERT_TRUE(WIFEXITED(status));
                ASSERT_EQ(WEXITSTATUS(status), 6);
            } else {
                pid_t child = -1;
                ASSERT_EQ(::posix_spawn(&child, "/bin/sh", nullptr, nullptr, arguments, environ),
                          0);
                ASSERT_EQ(result_of(child), 5);
            }
            ASSERT_EQ(use_heap(), none);
        }
    });
}

// --- a thread that is past its end ----------------------------------------------------------------

pthread_key_t late_key;
std::atomic<int> forks_in_vain;

extern "C" void fork_late(void* rounds_left)
{
    // Set again, so that it also runs after the heap's own hook.
    const auto left = reinterpret_cast<std::uintptr_t>(rounds_left);
    if (in_child([] { return use_heap(); }) != none) ++forks_in_vain;
    if (left > 1) pthread_setspecific(late_key, reinterpret_cast<void*>(left - 1));
}

TEST(Fork, in_a_thread_whose_exit_hook_has_run)
{
    ASSERT_EQ(pthread_key_create(&late_key, fork_late), 0);
    forks_in_vain = 0;
    busy_threads others(small_blocks);
    for (std::size_t round = 0; round < scaled(20, 3); ++round) {
        run_thread([] {
            EXPECT_EQ(use_heap(), none);
            pthread_setspecific(late_key, reinterpret_cast<void*>(std::uintptr_t{3}));
        });
    }
    EXPECT_EQ(forks_in_vain, 0);
    pthread_key_delete(late_key);
}

} // namespace

#endif
