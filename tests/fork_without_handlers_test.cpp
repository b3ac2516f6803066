// Children of _Fork() and of a bare clone(): nobody has called the heap's fork handlers, and the
// other threads of the parent were anywhere. The heap works in the child all the same, and blocks
// from before can be read, resized and freed there.
//
// Nothing here may reach the C library's allocator, or any other lock of its own, in such a child.
#include <binmalloc/binmalloc.hpp>

#include <gtest/gtest.h>

#if defined(__linux__)

#    include "support/busy_threads.hpp"
#    include "support/child.hpp"
#    include "support/filled_block.hpp"
#    include "support/live_blocks.hpp"
#    include "support/process.hpp"
#    include "support/scale.hpp"
#    include "support/threads.hpp"

#    include <sys/syscall.h>
#    include <unistd.h>

#    include <atomic>
#    include <csignal>
#    include <cstddef>
#    include <cstdint>
#    include <string>
#    include <thread>
#    include <tuple>
#    include <vector>

namespace {

using namespace binmalloc_test;

pid_t clone_only() { return static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }

struct way_to_fork {
    const char* name;
    fork_function function;
};

constexpr way_to_fork by_clone{"clone", clone_only};
#    if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
constexpr way_to_fork by_libc{"_Fork", ::_Fork};
#    else
constexpr way_to_fork by_libc = by_clone;
#    endif

class RawForkAmid : public testing::TestWithParam<std::tuple<way_to_fork, business>> {
protected:
    static fork_function way() { return std::get<0>(GetParam()).function; }
    static const business& what() { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Business, RawForkAmid,
                         testing::Combine(testing::Values(by_clone, by_libc),
                                          testing::Values(small_blocks, more_threads_than_caches,
                                                          spans, huge_blocks, purges)),
                         [](const auto& test) {
                             return std::string(std::get<0>(test.param).name) + "_"
                                    + std::get<1>(test.param).name;
                         });

TEST_P(RawForkAmid, child_uses_the_heap)
{
    std::vector<live_block> mine;
    for (std::size_t i = 0; i < 100; ++i) mine.push_back(filled_block(i * 100, i));
    busy_threads others(what());
    for (std::size_t round = 0; round < scaled(100, 5); ++round) {
        const std::vector<live_block> theirs = others.keepsakes();
        const auto body = [&]() -> int {
            // By turns: the first call decides how the child finds out what it is.
            switch (round % 5) {
            case 0: binmalloc::purge(); break;
            case 1: static_cast<void>(binmalloc::statistics()); break;
            case 2:
                if (const child_error error = free_inherited(theirs)) return error;
                break;
            case 3:
                if (const child_error error = free_inherited(mine)) return error;
                break;
            default: break;
            }
            if (const child_error error = use_heap()) return error;
            if (round % 5 != 2) {
                if (const child_error error = free_inherited(theirs)) return error;
            }
            if (round % 5 != 3) {
                if (const child_error error = free_inherited(mine)) return error;
            }
            if (const child_error error = check_statistics()) return error;
            return use_heap();
        };
        ASSERT_EQ(others.in_child(body, way()), none) << "round " << round;
        for (const live_block& block : theirs)
            ASSERT_TRUE(free_checked(block)) << "the child's frees reached the parent";
    }
    for (const live_block& block : mine) EXPECT_TRUE(free_checked(block));
}

TEST_P(RawForkAmid, child_consumes_blocks_of_every_origin)
{
    stock inherited;
    busy_threads others(what());
    for (std::size_t round = 0; round < scaled(20, 5); ++round) {
        const auto body = [&]() -> int {
            if (!inherited.resize_and_free_some()) return damaged_block;
            if (const child_error error = use_heap()) return error;
            return inherited.free_rest() ? check_statistics() : damaged_block;
        };
        ASSERT_EQ(others.in_child(body, way()), none) << "round " << round;
        ASSERT_TRUE(inherited.intact()) << "the child reached the parent";
    }
}

class RawFork : public testing::TestWithParam<way_to_fork> {};

INSTANTIATE_TEST_SUITE_P(Ways, RawFork, testing::Values(by_clone, by_libc),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(RawFork, from_three_threads_at_once)
{
    constexpr std::size_t forking = 3;
    stock inherited;
    busy_threads others(small_blocks);
    std::atomic<std::size_t> failed = 0;
    run_threads(forking, [&](std::size_t me) {
        const live_block mine = filled_block(me * 1000, me);
        for (std::size_t turn = 0; turn < scaled(100, 5) && failed == 0; ++turn) {
            const auto body = [&]() -> int {
                if (!free_checked(mine)) return damaged_block;
                if (turn % 8 == 0 && !inherited.free_rest()) return damaged_block;
                return use_heap();
            };
            const int result = in_child(body, GetParam().function);
            EXPECT_EQ(result, none) << "turn " << turn;
            if (result != none) ++failed;
        }
        EXPECT_TRUE(free_checked(mine));
    });
    EXPECT_TRUE(inherited.intact());
}

TEST_P(RawFork, from_a_thread_that_has_no_cache_yet)
{
    busy_threads others(more_threads_than_caches);
    for (std::size_t round = 0; round < scaled(50, 5); ++round) {
        std::atomic<int> result = none;
        run_thread([&] { result = others.in_child([] { return use_heap(); }, GetParam().function); });
        ASSERT_EQ(result, none) << "round " << round;
    }
}

TEST_P(RawFork, generation_after_generation)
{
    constexpr int generations = 20;
    stock inherited;
    busy_threads others(small_blocks);
    for (std::size_t round = 0; round < scaled(5); ++round) {
        const auto body = [&]() -> int {
            const live_block kept_throughout = filled_block(3000, 1);
            for (int generation = 0; generation < generations; ++generation) {
                if (const child_error error = use_heap()) return error;
                const live_block kept = filled_block(100 * kib, 2);
                const pid_t next = GetParam().function();
                if (next < 0) return bad_process;
                if (next > 0) {
                    const int result = result_of(next);
                    if (!free_checked(kept) || !free_checked(kept_throughout)) return damaged_block;
                    return result;
                }
                ::alarm(seconds_of_a_child);
                if (!free_checked(kept)) return damaged_block;
            }
            if (!inherited.resize_and_free_some()) return damaged_block;
            if (!free_checked(kept_throughout)) return damaged_block;
            return use_heap();
        };
        ASSERT_EQ(others.in_child(body, GetParam().function), none) << "round " << round;
    }
}

TEST_P(RawFork, mixed_with_forks_that_call_the_handlers)
{
    // A child of each kind of the other kind. (Not fork() in a raw child: the C library's own locks
    // may be held there.)
    busy_threads others(small_blocks);
    for (std::size_t round = 0; round < scaled(60, 3); ++round) {
        const live_block mine = filled_block(round * 500, round);
        const auto grandchild = [&]() -> int {
            return free_checked(mine) ? use_heap() : damaged_block;
        };
        const auto child = [&]() -> int {
            if (round % 2 == 0) {
                if (const child_error error = use_heap()) return error;
            }
            const int result = in_child(grandchild, GetParam().function);
            if (result != none) return result;
            return free_checked(mine) ? use_heap() : damaged_block;
        };
        ASSERT_EQ(others.in_child(child), none) << "round " << round;
        ASSERT_EQ(others.in_child([] { return use_heap(); }, GetParam().function), none);
        ASSERT_TRUE(free_checked(mine));
    }
}

TEST_P(RawFork, without_other_threads_the_child_goes_on_with_the_same_heap)
{
    std::vector<live_block> mine;
    for (std::uint64_t i = 0; i < 1000; ++i) mine.push_back(filled_block(30 * kib, i));
    const std::size_t live = binmalloc::statistics().live;
    const auto body = [&]() -> int {
        if (binmalloc::statistics().live != live) return bad_statistics;
        if (const child_error error = use_heap()) return error;
        if (const child_error error = free_inherited(mine)) return error;
        if (binmalloc::statistics().live > live - 1000 * 30 * kib) return memory_lost;
        return check_statistics();
    };
    EXPECT_EQ(in_child(body, GetParam().function), none);
    for (const live_block& block : mine) EXPECT_TRUE(free_checked(block));
}

} // namespace

#endif
