// fork() in a process whose other threads are busy in the heap: the child can use it as if
// nothing happened.
#include <binmalloc/binmalloc.hpp>

#include "support/filled_block.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#if defined(__unix__) || defined(__APPLE__)

#    include <sys/wait.h>
#    include <unistd.h>

#    include <atomic>
#    include <cstddef>
#    include <cstdint>
#    include <mutex>
#    include <string>
#    include <thread>
#    include <utility>
#    include <vector>

namespace {

using namespace binmalloc_test;

/// What the other threads are busy with at the moment of a fork.
struct business {
    const char* name;
    std::size_t threads;
    std::size_t smallest;
    std::size_t largest; // of nearly all blocks
};

constexpr business small_blocks{"small_blocks", 4, 0, 1000};
constexpr business more_threads_than_caches{"more_threads_than_caches", 24, 0, 1000};
constexpr business spans{"spans", 4, 17 * kib, 100 * kib};
constexpr business huge_blocks{"huge_blocks", 3, 17 * mib, 18 * mib};

/// Threads that allocate and free without pause, hand blocks to each other, and now and then
/// end and begin anew.
class busy_threads {
public:
    explicit busy_threads(const business& what) : what_(what), slots_(256)
    {
        const std::size_t count = what.threads;
        for (std::size_t index = 0; index < count; ++index) {
            threads_.emplace_back([this, index] {
                for (std::uint64_t life = 0; !stop_.load(std::memory_order_relaxed); ++life) {
                    std::thread([this, index, life] { work(index << 32 | life); }).join();
                }
            });
        }
    }
    ~busy_threads()
    {
        stop_ = true;
        for (std::thread& thread : threads_) thread.join();
        for (std::atomic<void*>& slot : slots_) binmalloc::deallocate(slot.load());
        for (const live_block& block : keepsakes_) binmalloc::deallocate(block.address);
    }
    busy_threads(const busy_threads&) = delete;
    busy_threads& operator=(const busy_threads&) = delete;

    /// Blocks of theirs that nobody frees while the child looks at them.
    std::vector<live_block> keepsakes()
    {
        const std::lock_guard guard(mutex_);
        return std::exchange(keepsakes_, {});
    }

private:
    void work(std::uint64_t seed_of_life)
    {
        random_source random(seed() + seed_of_life);
        for (std::size_t step = 0; step < 3000 && !stop_.load(std::memory_order_relaxed); ++step) {
            const std::size_t size =
                random.one_in(5000) ? 20 * mib
                : random.one_in(100)
                    ? random.size_up_to(128 * kib)
                    : what_.smallest + random.size_up_to(what_.largest - what_.smallest);
            if (random.one_in(1000)) binmalloc::purge();
            binmalloc::deallocate(
                slots_[random.below(slots_.size())].exchange(opaque(binmalloc::allocate(size))));
            if (!random.one_in(500)) continue;
            const std::lock_guard guard(mutex_);
            if (keepsakes_.size() < 100)
                keepsakes_.push_back(filled_block(random.size_up_to(64 * kib), step));
        }
    }

    const business what_;
    std::atomic<bool> stop_ = false;
    std::vector<std::atomic<void*>> slots_;
    std::mutex mutex_;
    std::vector<live_block> keepsakes_;
    std::vector<std::thread> threads_;
};

// What the child may report; 0 is success.
enum child_error : int { none, lost_block, damaged_block, bad_allocation, bad_thread };

/// A short life: free what came from everywhere, allocate of every kind.
child_error use_heap(const std::vector<live_block>& inherited)
{
    for (const live_block& block : inherited) {
        if (!free_checked(block)) return damaged_block;
    }
    random_source random(seed());
    std::vector<live_block> live;
    for (std::uint64_t i = 0; i < 500; ++i) {
        live.push_back(filled_block(random.size_up_to(random.one_in(20) ? 1 * mib : 4 * kib), i));
        if (live.back().address == nullptr) return bad_allocation;
    }
    for (const live_block& block : live) {
        if (!free_checked(block)) return damaged_block;
    }
    void* const zeroed = binmalloc::allocate_zeroed(100 * kib);
    if (zeroed == nullptr || !all_zero(zeroed, 100 * kib)) return bad_allocation;
    binmalloc::deallocate(binmalloc::reallocate(zeroed, 1 * mib));
    return none;
}

/// Forks; the child runs `body` and exits with its result, which is returned. A hanging child
/// is killed.
template <class Body>
int in_child(Body body)
{
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        ::_exit(body());
    }
    EXPECT_GT(child, 0);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

class ForkAmid : public testing::TestWithParam<business> {};

INSTANTIATE_TEST_SUITE_P(Business, ForkAmid,
                         testing::Values(small_blocks, more_threads_than_caches, spans,
                                         huge_blocks),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(ForkAmid, child_uses_the_heap)
{
    std::vector<live_block> mine;
    for (std::uint64_t i = 0; i < 200; ++i) mine.push_back(filled_block(i * 100, i));
    busy_threads others(GetParam());
    for (std::size_t round = 0; round < scaled(100, 20); ++round) {
        std::vector<live_block> theirs = others.keepsakes();
        const int result = in_child([&]() -> int {
            if (const child_error error = use_heap(mine)) return error;
            return use_heap(theirs);
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
    for (std::size_t round = 0; round < scaled(50, 10); ++round) {
        const std::vector<live_block> theirs = others.keepsakes();
        const int result = in_child([&]() -> int {
            std::atomic<int> result_of_threads = none;
            std::thread first([&] {
                if (const child_error error = use_heap(theirs)) result_of_threads = error;
            });
            std::thread second([&] {
                if (const child_error error = use_heap({})) result_of_threads = error;
            });
            const child_error own = use_heap({});
            first.join();
            second.join();
            return own != none ? own : result_of_threads.load();
        });
        ASSERT_EQ(result, none) << "round " << round;
        for (const live_block& block : theirs) binmalloc::deallocate(block.address);
    }
}

TEST(Fork, from_a_thread_that_is_not_the_first)
{
    busy_threads others(small_blocks);
    for (std::size_t round = 0; round < scaled(50, 5); ++round) {
        std::thread([&] {
            std::vector<live_block> mine;
            for (std::uint64_t i = 0; i < 50; ++i) mine.push_back(filled_block(i * 50, i));
            EXPECT_EQ(in_child([&]() -> int { return use_heap(mine); }), none) << "round " << round;
            for (const live_block& block : mine) EXPECT_TRUE(free_checked(block));
        }).join();
    }
}

TEST(Fork, grandchildren_and_memory_of_lost_threads)
{
    // Each generation finds the caches of threads that no longer exist.
    busy_threads others(small_blocks);
    const int result = in_child([&]() -> int {
        for (int generation = 0; generation < 5; ++generation) {
            if (const child_error error = use_heap({})) return error;
            const pid_t next = ::fork();
            if (next < 0) return bad_thread;
            if (next > 0) {
                int status = 0;
                if (::waitpid(next, &status, 0) != next || !WIFEXITED(status)) return lost_block;
                return WEXITSTATUS(status);
            }
        }
        return none;
    });
    EXPECT_EQ(result, none);
}

} // namespace

#endif
