// What the threads of a parent had cached is the child's to use: memory is not lost with them. And
// heaps beside the process heap.
#include <binmalloc/binmalloc.hpp>

#include <gtest/gtest.h>

#if defined(__linux__)

#    include "support/child.hpp"
#    include "support/heap.hpp"
#    include "support/pattern.hpp"
#    include "support/process.hpp"
#    include "support/random.hpp"
#    include "support/scale.hpp"
#    include "support/threads.hpp"

#    include <sys/syscall.h>
#    include <unistd.h>

#    include <algorithm>
#    include <array>
#    include <atomic>
#    include <chrono>
#    include <csignal>
#    include <cstddef>
#    include <cstdint>
#    include <cstdio>
#    include <cstring>
#    include <latch>
#    include <memory>
#    include <string>
#    include <thread>
#    include <vector>

namespace {

using namespace binmalloc_test;

// --- threads that wait while their process forks --------------------------------------------------

/// With the forking thread, as many as may have a cache of their own; they are all there is.
std::size_t threads_with_a_cache()
{
    const std::size_t cpus = std::max(1U, std::thread::hardware_concurrency());
    return std::min<std::size_t>(3 * cpus, 24) - 1;
}

/// Threads that do something once and then wait, their caches full of what they have freed.
class waiting_threads {
public:
    template <class Body>
    waiting_threads(std::size_t count, Body body) : done_(static_cast<std::ptrdiff_t>(count))
    {
        for (std::size_t index = 0; index < count; ++index) {
            threads_.emplace_back([this, body, index] {
                body(index);
                done_.count_down();
                stop_.wait(false);
            });
        }
        done_.wait();
    }
    ~waiting_threads()
    {
        stop_ = true;
        stop_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }
    waiting_threads(const waiting_threads&) = delete;
    waiting_threads& operator=(const waiting_threads&) = delete;

private:
    std::latch done_;
    std::atomic<bool> stop_ = false;
    std::vector<std::thread> threads_;
};

constexpr std::size_t block_size = 1000;
constexpr std::size_t blocks_of_a_thread = 6000;
constexpr std::size_t bytes_of_a_thread = block_size * blocks_of_a_thread;
constexpr std::size_t slab_bytes = 16 * kib; // of such blocks

using addresses = std::vector<std::unique_ptr<std::array<void*, blocks_of_a_thread>>>;

addresses room_for(std::size_t threads)
{
    addresses result(threads);
    for (auto& blocks : result) blocks = std::make_unique<std::array<void*, blocks_of_a_thread>>();
    return result;
}

void allocate_all(std::array<void*, blocks_of_a_thread>& blocks)
{
    for (void*& block : blocks) {
        block = binmalloc::allocate(block_size);
        std::memset(block, 1, block_size);
    }
}

pid_t clone_only() { return static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }

struct way_to_fork {
    const char* name;
    fork_function function;
};

class ForkOrClone : public testing::TestWithParam<way_to_fork> {};

// Nobody changes the heap at the moment of these forks, so the bare clone inherits it, too.
INSTANTIATE_TEST_SUITE_P(Ways, ForkOrClone,
                         testing::Values(way_to_fork{"fork", ::fork},
                                         way_to_fork{"clone", clone_only}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(ForkOrClone, blocks_that_waiting_threads_own_go_back_by_purge)
{
    // The parent's main thread has freed them: they wait in the inboxes of threads that sleep.
    const std::size_t threads = threads_with_a_cache();
    const addresses blocks = room_for(threads);
    const std::size_t held_before = heap::held_bytes_after_purge();
    const waiting_threads waiting(threads, [&](std::size_t me) { allocate_all(*blocks[me]); });
    EXPECT_GE(heap::held_bytes(), held_before + threads * bytes_of_a_thread);
    for (const auto& own : blocks) {
        for (void* const block : *own) binmalloc::deallocate(block);
    }
    const auto child = [&]() -> int {
        return heap::held_bytes_after_purge() < held_before + 1 * mib ? use_heap() : memory_lost;
    };
    EXPECT_EQ(in_child(child, GetParam().function), none);
}

TEST_P(ForkOrClone, blocks_that_live_on_go_back_when_the_child_frees_them)
{
    const std::size_t threads = threads_with_a_cache();
    const addresses blocks = room_for(threads);
    const std::size_t held_before = heap::held_bytes_after_purge();
    const waiting_threads waiting(threads, [&](std::size_t me) { allocate_all(*blocks[me]); });
    const auto child = [&]() -> int {
        for (const auto& own : blocks) {
            for (void* const block : *own) binmalloc::deallocate(block);
        }
        return heap::held_bytes_after_purge() < held_before + 1 * mib ? use_heap() : memory_lost;
    };
    EXPECT_EQ(in_child(child, GetParam().function), none);
    for (const auto& own : blocks) {
        for (void* const block : *own) binmalloc::deallocate(block);
    }
}

TEST(ForkMemory, as_many_new_threads_reuse_what_the_old_ones_had_free)
{
    if (sanitized) GTEST_SKIP() << "a sanitizer's own locks do not survive a fork between threads";
    const std::size_t threads = threads_with_a_cache();
    const addresses blocks = room_for(threads);
    // One block in 15 stays, so no slab can go back: what is free is in the threads' caches alone.
    constexpr std::size_t step = 15;
    const waiting_threads waiting(threads, [&](std::size_t me) {
        allocate_all(*blocks[me]);
        for (std::size_t i = 0; i < blocks_of_a_thread; ++i) {
            if (i % step != 0) binmalloc::deallocate((*blocks[me])[i]);
        }
    });
    const auto child = [&]() -> int {
        const std::size_t live_before = binmalloc::statistics().live;
        const waiting_threads new_ones(threads, [](std::size_t) {
            for (std::size_t i = 0; i < blocks_of_a_thread - blocks_of_a_thread / step; ++i) {
                opaque(binmalloc::allocate(block_size));
            }
        });
        const std::size_t grown = binmalloc::statistics().live - live_before;
        ::_exit(grown < threads * bytes_of_a_thread / 8 ? none : memory_lost);
    };
    EXPECT_EQ(in_child(child), none);
    for (const auto& own : blocks) {
        for (std::size_t i = 0; i < blocks_of_a_thread; i += step) binmalloc::deallocate((*own)[i]);
    }
}

TEST(ForkMemory, blocks_that_old_threads_held_back_for_others_go_home)
{
    // Each waiting thread has freed a few blocks of the main thread, every one in another slab,
    // and holds them back. What pins whole slabs must not stay so in the child.
    if (sanitized) GTEST_SKIP() << "a sanitizer's own locks do not survive a fork between threads";
    const std::size_t threads = threads_with_a_cache();
    constexpr std::size_t held_back = 15; // of each thread
    const std::size_t held_before = heap::held_bytes_after_purge();
    const addresses blocks = room_for(1);
    allocate_all(*blocks[0]);
    const std::size_t apart = blocks_of_a_thread / (threads * held_back);
    ASSERT_GT(apart * block_size, slab_bytes) << "else fewer slabs than blocks";
    const waiting_threads waiting(threads, [&](std::size_t me) {
        for (std::size_t i = 0; i < held_back; ++i) {
            void*& block = (*blocks[0])[(me * held_back + i) * apart];
            binmalloc::deallocate(block);
            block = nullptr;
        }
    });
    for (void* const block : *blocks[0]) binmalloc::deallocate(block);
    const auto child = [&]() -> int {
        // All at the same time, so that each inherits another cache.
        waiting_threads(
            threads, [](std::size_t) { binmalloc::deallocate(opaque(binmalloc::allocate(100))); });
        const std::size_t slabs = heap::held_bytes_after_purge() / slab_bytes;
        return slabs < held_before / slab_bytes + threads * 4 ? none : memory_lost;
    };
    EXPECT_EQ(in_child(child), none);
}

// --- threads that are in the middle of something --------------------------------------------------

constexpr std::size_t slots = 6000;
constexpr std::size_t slot_bytes = 1000;

/// Threads that fill many slots and empty most of them again, without end: at any moment they may
/// be anywhere in the heap, with MiB of free blocks in their caches. What they have is in the slots,
/// except for the one block that each has in hand.
class churning_threads {
public:
    explicit churning_threads(std::size_t count) : rows_(count)
    {
        for (row& mine : rows_) threads_.emplace_back([this, &mine] { churn(mine); });
    }

    void free_all() noexcept
    {
        for (row& some : rows_) {
            for (std::atomic<void*>& slot : some) binmalloc::deallocate(slot.exchange(nullptr));
        }
    }

    void stop()
    {
        stop_ = true;
        for (std::thread& thread : threads_) thread.join();
        free_all();
    }

private:
    using row = std::array<std::atomic<void*>, slots>;

    void churn(row& mine) noexcept
    {
        while (!stop_) {
            for (std::atomic<void*>& slot : mine) {
                if (slot.load() == nullptr) slot = binmalloc::allocate(slot_bytes);
            }
            for (std::size_t i = 0; i < slots; ++i) {
                if (i % 15 != 0) binmalloc::deallocate(mine[i].exchange(nullptr));
            }
            if (++rounds_ % 8 == 0) binmalloc::purge();
        }
    }

    std::vector<row> rows_;
    std::vector<std::thread> threads_;
    std::atomic<bool> stop_ = false;
    std::atomic<std::size_t> rounds_ = 0;
};

TEST(ForkMemory, nothing_is_lost_over_generations_of_busy_processes)
{
    if (sanitized) GTEST_SKIP() << "a sanitizer's own locks do not survive a fork between threads";
    const std::size_t threads = std::min<std::size_t>(threads_with_a_cache(), 5);
    const std::size_t generations = scaled(12, 6);
    const std::size_t held_before = heap::held_bytes_after_purge();
    // Each thread may have had a block in hand, and its stack or its name another: a slab for each.
    const std::size_t bound = generations * threads * 4 * slab_bytes + 1 * mib;

    // Never destroyed where it has lost its threads.
    auto* churning = new churning_threads(threads);
    const auto lineage = [&]() -> int {
        for (std::size_t generation = 1;; ++generation) {
            churning->free_all();
            if (heap::held_bytes_after_purge() > held_before + bound) return memory_lost;
            if (const child_error error = use_heap()) return error;
            if (generation == generations) return none;

            churning = new churning_threads(threads);
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            const pid_t next = ::fork();
            if (next < 0) return bad_process;
            if (next > 0) {
                churning->stop();
                return result_of(next);
            }
            ::alarm(seconds_of_a_child);
        }
    };
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(in_child(lineage), none);
    churning->stop();
    delete churning;
}

TEST(ForkMemory, an_only_child_finds_what_busy_threads_had_free)
{
    // One generation, many times: each child frees all and gives all back.
    const std::size_t threads = std::min<std::size_t>(threads_with_a_cache(), 5);
    const std::size_t held_before = heap::held_bytes_after_purge();
    const std::size_t bound = threads * 4 * slab_bytes + 1 * mib;
    churning_threads churning(threads);
    for (std::size_t round = 0; round < scaled(25, 5); ++round) {
        const auto child = [&]() -> int {
            churning.free_all();
            const std::size_t held = heap::held_bytes_after_purge();
            if (held < held_before + bound) return use_heap();
            ::dprintf(STDERR_FILENO, "%zu bytes held, %zu before the fork\n", held, held_before);
            return memory_lost;
        };
        EXPECT_EQ(in_child(child), none) << "round " << round;
        if (testing::Test::HasFailure()) break;
    }
    churning.stop();
}

// --- a heap that is just being made ---------------------------------------------------------------

// Of their own footprints, so nothing else in this process has made these heaps.
struct new_footprint : binmalloc::default_footprint {};
struct new_leased_policy : binmalloc::default_policy {
    using footprint = new_footprint;
};
struct new_single_policy : binmalloc::single_cache_policy {
    using footprint = new_footprint;
};

/// Between the handlers of a fork, as if the process were copied just now.
template <class Heap>
void make_while_another_thread_forks()
{
    using namespace std::chrono_literals;
    std::atomic<bool> made = false;
    binmalloc::detail::before_fork();
    std::thread other([&] {
        Heap::deallocate(opaque(Heap::allocate(100)));
        made = true;
    });
    std::this_thread::sleep_for(100ms);
    EXPECT_FALSE(made) << "what it has would be lost in the child";
    binmalloc::detail::after_fork_in_parent();
    other.join();
    EXPECT_TRUE(made);
}

TEST(ForkMemory, no_heap_is_made_while_another_thread_forks)
{
    make_while_another_thread_forks<binmalloc::basic_heap<new_leased_policy>>();
    make_while_another_thread_forks<binmalloc::basic_heap<new_single_policy>>();
}

struct own_footprint : binmalloc::default_footprint {};
struct own_policy : binmalloc::default_policy {
    using footprint = own_footprint;
};

TEST(ForkMemory, a_heap_is_made_by_the_thread_that_forks)
{
    using own_heap = binmalloc::basic_heap<own_policy>;
    const std::uint64_t begin = binmalloc::os::now_ms();
    binmalloc::detail::before_fork();
    void* const block = opaque(own_heap::allocate(100));
    EXPECT_NE(block, nullptr);
    own_heap::deallocate(block);
    binmalloc::detail::after_fork_in_parent();
    EXPECT_LT(binmalloc::os::now_ms() - begin, binmalloc::detail::fork_patience_ms / 2)
        << "it waited for itself";
}

// --- several heaps --------------------------------------------------------------------------------

struct other_sizes {
    static constexpr std::array<std::uint32_t, 5> sizes{16, 64, 256, 1024, 4096};
};
struct other_policy : binmalloc::default_policy {
    using size_classes = other_sizes;
};
struct impatient : binmalloc::default_footprint {
    static constexpr std::uint64_t purge_delay_ms = 0;
};
struct impatient_policy : binmalloc::default_policy {
    using footprint = impatient;
};
struct single_policy : binmalloc::single_cache_policy {};

using heap_of_other_sizes = binmalloc::basic_heap<other_policy>;
using impatient_heap = binmalloc::basic_heap<impatient_policy>;
using single_heap = binmalloc::basic_heap<single_policy>;

/// A block of one heap in each slot, taken and replaced by whoever comes.
template <class Heap>
class exchange_of {
public:
    void step(random_source& random) noexcept
    {
        const std::size_t size = random.size_up_to(random.one_in(50) ? 200 * kib : 2 * kib);
        Heap::deallocate(
            slots_[random.below(slots_.size())].exchange(opaque(Heap::allocate(size))));
        if (random.one_in(500)) Heap::purge();
    }
    void free_all() noexcept
    {
        for (std::atomic<void*>& slot : slots_) Heap::deallocate(slot.exchange(nullptr));
    }
    child_error use_in_child() noexcept
    {
        free_all();
        if (const child_error error = use_heap<Heap>()) return error;
        Heap::purge();
        return Heap::statistics().dirty == 0 ? none : bad_statistics;
    }

private:
    std::array<std::atomic<void*>, 200> slots_{};
};

TEST(ForkHeaps, all_of_them_go_on_in_the_child)
{
    exchange_of<binmalloc::heap> process_blocks;
    exchange_of<heap_of_other_sizes> other_blocks;
    exchange_of<impatient_heap> impatient_blocks;
    exchange_of<single_heap> single_blocks;
    const auto all = [&](auto action) {
        action(process_blocks);
        action(other_blocks);
        action(impatient_blocks);
        action(single_blocks);
    };
    constexpr std::size_t busy = 4;
    constexpr std::size_t forking = 2;
    std::atomic<std::size_t> forking_now = forking;
    run_threads(busy + forking, [&](std::size_t me) {
        random_source random(seed() + me);
        if (me < busy) {
            while (forking_now != 0) all([&](auto& blocks) { blocks.step(random); });
            return;
        }
        for (std::size_t round = 0; round < scaled(100, 5); ++round) {
            all([&](auto& blocks) { blocks.step(random); });
            const auto child = [&]() -> int {
                child_error result = none;
                all([&](auto& blocks) {
                    if (const child_error error = blocks.use_in_child()) result = error;
                });
                return result;
            };
            const int result = in_child(child);
            EXPECT_EQ(result, none) << "round " << round;
            if (result != none) break;
        }
        --forking_now;
    });
    all([](auto& blocks) { blocks.free_all(); });
}

TEST(ForkHeaps, a_heap_is_made_while_others_fork)
{
    // Its handlers are registered in the middle of somebody's fork.
    const auto in_new_process = []() -> int {
        std::atomic<bool> stop = false;
        std::atomic<int> result = none;
        std::thread forking([&] {
            while (!stop) {
                const int status = in_child([]() -> int {
                    const child_error error = use_heap<impatient_heap>();
                    return error != none ? error : use_heap<single_heap>();
                });
                if (status != none) result = status;
            }
        });
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        const child_error first = use_heap<heap_of_other_sizes>();
        const child_error second = use_heap<impatient_heap>();
        const child_error third = use_heap<single_heap>();
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        stop = true;
        forking.join();
        return first | second | third | result;
    };
    if (sanitized) GTEST_SKIP() << "a sanitizer's own locks do not survive a fork between threads";
    for (std::size_t round = 0; round < scaled(30, 5); ++round) {
        ASSERT_EQ(in_child(in_new_process), none) << "round " << round;
    }
}

} // namespace

#endif
