// statistics() and purge(): what the heap holds, and that it lets go of it.
#include <binmalloc/binmalloc.hpp>

#include "support/heap.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"
#include "support/span_bytes.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

std::vector<void*> blocks_of(std::size_t size, std::size_t total)
{
    std::vector<void*> blocks(total / size);
    for (void*& block : blocks) {
        block = binmalloc::allocate(size);
        std::memset(block, 1, size);
    }
    return blocks;
}

TEST(Statistics, follow_a_large_block)
{
    const auto before = binmalloc::statistics();
    void* const block = binmalloc::allocate(10 * mib);
    const auto during = binmalloc::statistics();
    EXPECT_EQ(during.live, before.live + span_bytes(10 * mib));
    EXPECT_GE(during.reserved, during.live + during.dirty);
    binmalloc::deallocate(block);
    const auto after = binmalloc::statistics();
    EXPECT_EQ(after.live, before.live);
    EXPECT_GE(after.live + after.dirty, before.live) << "a block that waits for reuse";
    binmalloc::purge();
    EXPECT_EQ(binmalloc::statistics().dirty, 0U);
}

TEST(Statistics, reserved_address_space_goes_back)
{
    binmalloc::purge();
    const std::size_t before = binmalloc::statistics().reserved;
    std::vector<void*> blocks = blocks_of(1 * mib, 200 * mib);
    void* const huge = binmalloc::allocate(100 * mib);
    EXPECT_GE(binmalloc::statistics().reserved, before + 250 * mib);
    for (void* const block : blocks) binmalloc::deallocate(block);
    binmalloc::deallocate(huge);
    binmalloc::purge();
    EXPECT_LE(binmalloc::statistics().reserved, before + 64 * mib);
}

TEST(Statistics, what_waits_ages_also_while_the_page_allocator_has_nothing_to_do)
{
    std::vector<void*> blocks = blocks_of(1000, 32 * mib);
    for (std::size_t i = blocks.size() / 4; i < blocks.size(); ++i) binmalloc::deallocate(blocks[i]);
    blocks.resize(blocks.size() / 4);
    ASSERT_GE(binmalloc::statistics().dirty, 16 * mib);
    // From then on the slabs that there are have what is asked for.
    const std::uint64_t begin = binmalloc::os::now_ms();
    while (binmalloc::statistics().dirty > mib) {
        ASSERT_LE(binmalloc::os::now_ms(), begin + 20'000);
        // More at a time than the thread keeps near, but only some of each slab.
        for (std::size_t i = 0; i < blocks.size(); i += 4) binmalloc::deallocate(blocks[i]);
        for (std::size_t i = 0; i < blocks.size(); i += 4) blocks[i] = binmalloc::allocate(1000);
    }
    for (void* const block : blocks) binmalloc::deallocate(block);
}

struct impatient_policy : binmalloc::default_policy {
    struct footprint : binmalloc::default_footprint {
        static constexpr std::uint64_t purge_delay_ms = 10;
    };
};

TEST(Statistics, what_ended_threads_had_no_use_for_goes_back_in_time)
{
    using impatient = binmalloc::basic_heap<impatient_policy>;
    constexpr std::size_t threads = 8;
    const auto one_of_each = [] {
        std::vector<void*> blocks;
        for (std::size_t size = 16; size <= 16 * kib; size += size / 8)
            blocks.push_back(impatient::allocate(size));
        return blocks;
    };
    const auto free_all = [](const std::vector<void*>& blocks) {
        for (void* const block : blocks) impatient::deallocate(block);
    };
    const std::vector<void*> mine = one_of_each();
    const std::size_t of_one = impatient::statistics().live;
    latch all_here(threads);
    run_threads(threads, [&](std::size_t) {
        const std::vector<void*> blocks = one_of_each();
        all_here.arrive_and_wait(); // each has a cache of its own
        free_all(blocks);
    });
    ASSERT_GE(impatient::statistics().live, threads / 2 * of_one) << "for the next threads";
    for (int i = 0; i < 2000 && impatient::statistics().live > of_one; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        impatient::purge_aged();
    }
    EXPECT_LE(impatient::statistics().live, of_one);
    free_all(mine);
}

class Purge : public testing::TestWithParam<std::size_t> {};

INSTANTIATE_TEST_SUITE_P(BlockSizes, Purge,
                         testing::Values(24, 1000, 16 * kib, 100 * kib, 3 * mib, 48 * mib));

TEST_P(Purge, returns_what_freed_blocks_held)
{
    constexpr std::size_t total = 96 * mib;
    const std::size_t held_before = heap::held_bytes_after_purge();
    const std::size_t resident_before = memory_in_use().resident;
    std::vector<void*> blocks = blocks_of(GetParam(), total);
    EXPECT_GE(heap::held_bytes(), held_before + total - total / 16);
    if (!sanitized && !emulated) {
        EXPECT_GE(memory_in_use().resident, resident_before + total - total / 16);
    }
    for (void* const block : blocks) binmalloc::deallocate(block);
    std::vector<void*>().swap(blocks);
    EXPECT_LT(heap::held_bytes_after_purge(), held_before + total / 16);
    if (!sanitized) {
        EXPECT_LT(memory_in_use().resident, resident_before + total / 16);
    }
}

TEST_P(Purge, returns_what_ended_threads_held)
{
    constexpr std::size_t total = 48 * mib;
    const std::size_t held_before = heap::held_bytes_after_purge();
    std::vector<void*> blocks;
    run_thread([&] { blocks = blocks_of(GetParam(), total); });
    run_thread([&] {
        for (void* const block : blocks) binmalloc::deallocate(block);
    });
    std::vector<void*>().swap(blocks);
    EXPECT_LT(heap::held_bytes_after_purge(), held_before + total / 8);
}

TEST(Purge, keeps_live_blocks)
{
    std::vector<void*> kept;
    for (std::size_t i = 0; i < 2000; ++i) {
        const std::size_t size = 16 + i * 20;
        kept.push_back(binmalloc::allocate(size));
        fill(kept.back(), size, i);
        binmalloc::deallocate(binmalloc::allocate(size));
    }
    binmalloc::purge();
    for (std::size_t i = 0; i < 2000; ++i) {
        ASSERT_TRUE(holds(kept[i], 16 + i * 20, i));
        binmalloc::deallocate(kept[i]);
    }
}

TEST(Purge, from_many_threads_at_once)
{
    run_threads(6, [](std::size_t me) {
        for (std::size_t round = 0; round < scaled(300, 30); ++round) {
            const std::size_t size = (me + 1) * 10 * kib + round;
            void* const block = binmalloc::allocate(size);
            ASSERT_NE(block, nullptr);
            fill(block, size, round);
            binmalloc::purge();
            ASSERT_TRUE(holds(block, size, round));
            binmalloc::deallocate(block);
        }
    });
}

} // namespace
