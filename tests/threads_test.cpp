// Threads: frees that cross, more threads than caches, threads that come and go, and their very
// last calls.
#include <binmalloc/binmalloc.hpp>

#include "support/heap.hpp"
#include "support/filled_block.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#    include <pthread.h>
#    define BINMALLOC_TEST_PTHREAD 1
#endif

namespace {

using namespace binmalloc_test;

/// A thread's life with blocks of its own, and at its end nothing left. Returns the number of
/// damaged blocks.
std::size_t work(std::uint64_t which, std::size_t steps, std::size_t live_count = 64)
{
    random_source random(seed() + which);
    std::vector<live_block> live(live_count);
    std::size_t damaged = 0;
    for (std::size_t step = 0; step < steps; ++step) {
        live_block& chosen = live[random.below(live.size())];
        if (chosen.address != nullptr) damaged += free_checked(chosen) ? 0 : 1;
        chosen = filled_block(random.size_up_to(random.one_in(100) ? 256 * kib : 2 * kib),
                              which << 32 | step);
        damaged += chosen.address == nullptr ? 1 : 0;
    }
    for (const live_block& block : live) {
        if (block.address != nullptr) damaged += free_checked(block) ? 0 : 1;
    }
    return damaged;
}

TEST(Threads, every_thread_frees_blocks_of_every_other)
{
    constexpr std::size_t threads = 6;
    constexpr std::size_t blocks = 200;
    using mail = std::vector<live_block>;
    std::array<std::array<mail, threads>, threads> mailbox; // [from][to]
    barrier everyone(threads);
    std::atomic<std::size_t> damaged = 0;
    run_threads(threads, [&](std::size_t me) {
        random_source random(seed() + me);
        for (std::size_t round = 0; round < scaled(30, 4); ++round) {
            for (std::size_t to = 0; to < threads; ++to) {
                for (std::size_t i = 0; i < blocks; ++i) {
                    mailbox[me][to].push_back(
                        filled_block(random.size_up_to(i % 50 == 0 ? 100 * kib : 3000),
                                     std::uint64_t{me} << 40 | std::uint64_t{to} << 32 | i));
                }
            }
            everyone.arrive_and_wait();
            for (std::size_t from = 0; from < threads; ++from) {
                for (const live_block& block : mailbox[from][me])
                    damaged += free_checked(block) ? 0 : 1;
                mailbox[from][me].clear();
            }
            everyone.arrive_and_wait();
        }
    });
    EXPECT_EQ(damaged.load(), 0U);
}

class ManyThreads : public testing::TestWithParam<std::size_t> {};

INSTANTIATE_TEST_SUITE_P(Threads, ManyThreads, testing::Values(2, 16, 64, 200));

TEST_P(ManyThreads, all_alive_at_once)
{
    const std::size_t threads = GetParam();
    barrier everyone(threads);
    std::atomic<std::size_t> damaged = 0;
    run_threads(threads, [&](std::size_t me) {
        damaged += work(me, 50);
        everyone.arrive_and_wait(); // each has had its first block: no cache is left unwanted
        damaged += work(me, scaled(200000) / threads + 10);
        everyone.arrive_and_wait();
    });
    EXPECT_EQ(damaged.load(), 0U);
}

TEST_P(ManyThreads, exchange_blocks_through_slots)
{
    struct header {
        std::size_t size;
        std::uint64_t id;
    };
    const auto intact = [](const header* block) {
        return holds(block + 1, block->size - sizeof(header), block->id);
    };
    const std::size_t threads = GetParam();
    std::vector<std::atomic<header*>> slots(256);
    std::atomic<std::size_t> damaged = 0;
    run_threads(threads, [&](std::size_t me) {
        random_source random(seed() * 3 + me);
        const std::size_t steps = scaled(300000) / threads + 10;
        for (std::size_t step = 0; step < steps; ++step) {
            const std::size_t size =
                sizeof(header) + random.size_up_to(random.one_in(200) ? 64 * kib : 1000);
            auto* const mine = static_cast<header*>(binmalloc::allocate(size));
            if (mine == nullptr) {
                ++damaged;
                continue;
            }
            *mine = {size, std::uint64_t{me} << 32 | step};
            fill(mine + 1, size - sizeof(header), mine->id);
            header* const theirs = slots[random.below(slots.size())].exchange(mine);
            if (theirs == nullptr) continue;
            damaged += intact(theirs) ? 0 : 1;
            binmalloc::deallocate(theirs);
        }
    });
    for (std::atomic<header*>& slot : slots) {
        header* const last = slot.load();
        if (last == nullptr) continue;
        damaged += intact(last) ? 0 : 1;
        binmalloc::deallocate(last);
    }
    EXPECT_EQ(damaged.load(), 0U);
}

TEST(Threads, four_byte_blocks_cross_threads)
{
    // Too small for a pointer, so they take another way home than all others.
    using ints = binmalloc::allocator<std::uint32_t>;
    std::vector<std::atomic<std::uint32_t*>> slots(2000);
    std::atomic<std::size_t> damaged = 0;
    run_threads(6, [&](std::size_t me) {
        random_source random(seed() + me);
        for (std::size_t step = 0; step < scaled(100000, 5000); ++step) {
            const std::size_t slot = random.below(slots.size());
            std::uint32_t* const mine = ints{}.allocate(1);
            *mine = static_cast<std::uint32_t>(slot);
            std::uint32_t* const theirs = slots[slot].exchange(mine);
            if (theirs == nullptr) continue;
            damaged += *theirs == slot ? 0 : 1;
            ints{}.deallocate(theirs, 1);
        }
    });
    for (std::size_t slot = 0; slot < slots.size(); ++slot) {
        std::uint32_t* const last = slots[slot].load();
        if (last == nullptr) continue;
        damaged += *last == slot ? 0 : 1;
        ints{}.deallocate(last, 1);
    }
    EXPECT_EQ(damaged.load(), 0U);
}

TEST(Threads, blocks_outlive_their_thread)
{
    std::vector<live_block> blocks;
    for (std::uint64_t generation = 0; generation < 20; ++generation) {
        run_thread([&] {
            random_source random(seed() + generation);
            for (std::uint64_t i = 0; i < 300; ++i) {
                blocks.push_back(filled_block(random.size_up_to(40 * kib), generation << 32 | i));
            }
        });
    }
    random_source random(seed());
    for (live_block& block : blocks) {
        ASSERT_NE(block.address, nullptr);
        if (random.one_in(3)) {
            ASSERT_TRUE(holds(block.address, block.size, block.id));
            const std::size_t bigger = block.size + 100;
            block.address = binmalloc::reallocate(block.address, bigger);
            ASSERT_NE(block.address, nullptr);
            ASSERT_TRUE(holds_prefix(block.address, block.size, block.id));
            fill(block.address, bigger, block.id);
            block.size = bigger;
        }
        ASSERT_TRUE(free_checked(block));
    }
}

TEST(Threads, memory_stays_flat_while_threads_come_and_go)
{
    const auto generation = [](std::uint64_t which) {
        std::vector<live_block> left;
        run_thread([&] {
            EXPECT_EQ(work(which, 300), 0U);
            for (std::size_t i = 0; i < 50; ++i) left.push_back(filled_block(16 + i * 20, i));
        });
        for (const live_block& block : left) ASSERT_TRUE(free_checked(block));
    };
    std::uint64_t which = 0;
    while (which < 200) generation(which++);
    const process_memory before = memory_in_use();
    const std::size_t held_before = heap::held_bytes_after_purge();
    const std::uint64_t last = which + scaled(2000, 100);
    while (which < last) generation(which++);
    EXPECT_LT(heap::held_bytes_after_purge(), held_before + 4 * mib);
    if (!sanitized) {
        EXPECT_LT(memory_in_use().resident, before.resident + 8 * mib);
        EXPECT_LT(memory_in_use().address_space, before.address_space + 256 * mib);
    }
}

TEST(Threads, groups_of_threads_reuse_what_earlier_groups_left)
{
    const auto group = [](std::uint64_t which) {
        std::atomic<std::size_t> damaged = 0;
        run_threads(40, [&](std::size_t me) { damaged += work(which * 100 + me, 200); });
        EXPECT_EQ(damaged.load(), 0U);
    };
    std::uint64_t which = 0;
    while (which < 10) group(which++);
    const std::size_t held_before = heap::held_bytes_after_purge();
    while (which < 10 + scaled(100, 10)) group(which++);
    EXPECT_LT(heap::held_bytes_after_purge(), held_before + 32 * mib);
}

/// A bounded queue from one thread to one other.
class block_queue {
public:
    void put(void* block) noexcept
    {
        std::atomic<void*>& slot = slots_[put_++ % slots_.size()];
        while (slot.load(std::memory_order_acquire) != nullptr) std::this_thread::yield();
        slot.store(block, std::memory_order_release);
    }
    void* take() noexcept
    {
        std::atomic<void*>& slot = slots_[taken_++ % slots_.size()];
        void* block = nullptr;
        while ((block = slot.load(std::memory_order_acquire)) == nullptr) std::this_thread::yield();
        slot.store(nullptr, std::memory_order_release);
        return block;
    }

private:
    std::array<std::atomic<void*>, 512> slots_{};
    alignas(128) std::size_t put_ = 0;
    alignas(128) std::size_t taken_ = 0;
};

TEST(Threads, producer_and_consumer_run_in_flat_memory)
{
    // At most 512 blocks of up to 4 KiB are alive; hundreds of times that much passes through.
    const auto pass = [](std::size_t count) {
        block_queue queue;
        std::atomic<std::size_t> damaged = 0;
        std::thread consumer([&] {
            for (std::size_t i = 0; i < count; ++i) {
                auto* const block = static_cast<std::size_t*>(queue.take());
                damaged += *block == i ? 0 : 1;
                binmalloc::deallocate(block);
            }
        });
        random_source random(seed());
        for (std::size_t i = 0; i < count; ++i) {
            auto* const block =
                static_cast<std::size_t*>(binmalloc::allocate(8 + random.below(4 * kib)));
            *block = i;
            queue.put(block);
        }
        consumer.join();
        EXPECT_EQ(damaged.load(), 0U);
    };
    pass(20000);
    const std::size_t resident_before = memory_in_use().resident;
    const std::size_t held_before = heap::held_bytes_after_purge();
    for (int round = 0; round < 4; ++round) pass(scaled(100000, 20000));
    EXPECT_LT(heap::held_bytes_after_purge(), held_before + 4 * mib);
    if (!sanitized) {
        EXPECT_LT(memory_in_use().resident, resident_before + 4 * mib);
    }
}

TEST(Threads, a_long_lived_pair_runs_in_flat_memory_in_one_pass)
{
    // The same, but neither thread ends, so nothing is flushed by an exit.
    const std::size_t count = scaled(400000, 40000);
    block_queue queue;
    std::size_t damaged = 0;
    std::size_t held_early = 0;
    std::size_t held_late = 0;
    std::thread consumer([&] {
        for (std::size_t i = 0; i < count; ++i) {
            auto* const block = static_cast<std::size_t*>(queue.take());
            damaged += *block == i ? 0 : 1;
            binmalloc::deallocate(block);
            if (i == count / 10) held_early = heap::held_bytes_after_purge();
            if (i == count - 1) held_late = heap::held_bytes_after_purge();
        }
    });
    for (std::size_t i = 0; i < count; ++i) {
        auto* const block = static_cast<std::size_t*>(binmalloc::allocate(200));
        *block = i;
        queue.put(block);
    }
    consumer.join();
    EXPECT_EQ(damaged, 0U);
    EXPECT_LT(held_late, held_early + 2 * mib);
}

// What a thread does on its way out.

std::atomic<int> last_words = 0;

struct allocates_at_exit {
    live_block early;
    ~allocates_at_exit()
    {
        if (!free_checked(early)) return;
        if (work(1, 200) == 0) ++last_words;
    }
};

TEST(ThreadExit, thread_local_destructors_can_allocate_and_free)
{
    if (!binmalloc::os::thread_locals_outlive_exit)
        GTEST_SKIP() << "the compiler's thread_local objects are gone before they are destroyed";
    last_words = 0;
    constexpr int threads = 50;
    for (int i = 0; i < threads; ++i) {
        run_thread([] {
            // Constructed before the thread's first allocation, so destroyed after most other
            // things.
            thread_local allocates_at_exit at_exit;
            at_exit.early = filled_block(333, 1);
        });
    }
    EXPECT_EQ(last_words.load(), threads);
}

TEST(ThreadExit, a_thread_whose_first_call_is_in_its_destructors_works)
{
    last_words = 0;
    struct only_at_exit {
        int armed = 0;
        ~only_at_exit()
        {
            if (work(2, 200) == 0) ++last_words;
        }
    };
    run_thread([] {
        thread_local only_at_exit at_exit;
        at_exit.armed = 1;
    });
    EXPECT_EQ(last_words.load(), 1);
}

#if defined(BINMALLOC_TEST_PTHREAD)

pthread_key_t late_key;

extern "C" void late_key_destructor(void* rounds_left)
{
    // Set again each time, so that it also runs after every other key's destructor, the heap's
    // own included.
    const auto left = reinterpret_cast<std::uintptr_t>(rounds_left);
    if (work(left, 1000) == 0) ++last_words;
    if (left > 1) pthread_setspecific(late_key, reinterpret_cast<void*>(left - 1));
}

TEST(ThreadExit, pthread_key_destructors_can_allocate_and_free)
{
    // Several at a time: while one is past its exit hook, another inherits its cache.
    last_words = 0;
    ASSERT_EQ(pthread_key_create(&late_key, late_key_destructor), 0);
    constexpr int threads = 50;
    constexpr int at_a_time = 6;
    // PTHREAD_DESTRUCTOR_ITERATIONS is at least 4. The thread sanitizer takes its own state
    // down in the last.
    constexpr std::uintptr_t rounds = with_thread_sanitizer ? 2 : 4;
    run_threads(at_a_time, [&](std::size_t me) {
        for (int i = 0; i < threads; ++i) {
            run_thread([me] {
                pthread_setspecific(late_key, reinterpret_cast<void*>(rounds));
                EXPECT_EQ(work(me, 1000), 0U);
            });
        }
    });
    EXPECT_EQ(last_words.load(), at_a_time * threads * static_cast<int>(rounds));
    pthread_key_delete(late_key);
}

TEST(ThreadExit, memory_stays_flat_though_every_thread_allocates_after_its_hook)
{
    ASSERT_EQ(pthread_key_create(&late_key, late_key_destructor), 0);
    const auto generation = [] {
        run_thread([] {
            pthread_setspecific(late_key, reinterpret_cast<void*>(std::uintptr_t{3}));
            EXPECT_EQ(work(4, 100), 0U);
        });
    };
    for (int i = 0; i < 50; ++i) generation();
    const std::size_t held_before = heap::held_bytes_after_purge();
    for (std::size_t i = 0; i < scaled(500, 50); ++i) generation();
    EXPECT_LT(heap::held_bytes_after_purge(), held_before + 2 * mib);
    pthread_key_delete(late_key);
}

TEST(ThreadExit, detached_threads_end_at_any_time)
{
    // Joined only through a counter: their exit hooks run while this thread goes on allocating.
    std::atomic<std::size_t> done = 0;
    const std::size_t threads = scaled(300, 30);
    for (std::size_t i = 0; i < threads; ++i) {
        std::thread([&done, i] {
            if (work(i, 100) == 0) ++done;
        }).detach();
        EXPECT_EQ(work(i + 1000, 100), 0U);
    }
    while (done.load() < threads) std::this_thread::yield();
}

#endif

} // namespace
