// The single-cache heap: the same API on one set of bins behind a lock, without thread_local.
#define BINMALLOC_SINGLE_CACHE 1
#include <binmalloc/binmalloc.hpp>

#include "support/good_size.hpp"
#include "support/heap.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <vector>

namespace {

using namespace binmalloc_test;

TEST(SingleCache, blocks_of_every_size_and_alignment)
{
    live_blocks live;
    std::vector<live_block> blocks;
    for (std::size_t alignment = 1; alignment <= 1 * mib; alignment *= 4) {
        for (std::size_t size = 0; size <= 1 * mib; size += size / 3 + 1) {
            const live_block block{binmalloc::allocate(size, alignment), size, alignment,
                                   size * 64 + alignment};
            ASSERT_NE(block.address, nullptr);
            ASSERT_TRUE(is_aligned(block.address, alignment));
            ASSERT_TRUE(is_good(binmalloc::usable_size(block.address), binmalloc::good_size(size, alignment)));
            ASSERT_TRUE(live.add(block, binmalloc::usable_size(block.address)));
            blocks.push_back(block);
        }
    }
    for (const live_block& block : blocks) {
        ASSERT_TRUE(live.remove(block)) << "size " << block.size;
        binmalloc::deallocate(block.address, block.size, block.alignment);
    }
}

TEST(SingleCache, zeroed_and_reallocated_blocks)
{
    for (std::size_t size = 1; size <= 4 * mib; size += size / 2 + 1) {
        for (int round = 0; round < 2; ++round) {
            void* const block = binmalloc::allocate_zeroed(size);
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(all_zero(block, size)) << "size " << size;
            fill(block, size, size);
            void* const grown = binmalloc::reallocate(block, size * 2);
            ASSERT_NE(grown, nullptr);
            ASSERT_TRUE(holds_prefix(grown, size, size));
            binmalloc::deallocate(grown);
        }
    }
    EXPECT_EQ(binmalloc::allocate(opaque(SIZE_MAX)), nullptr);
    EXPECT_EQ(binmalloc::allocate(1, 3), nullptr);
}

TEST(SingleCache, containers)
{
    std::list<int, binmalloc::allocator<int>> values;
    for (int i = 0; i < 10000; ++i) values.push_back(i);
    int expected = 0;
    for (const int value : values) ASSERT_EQ(value, expected++);
    std::basic_string<char, std::char_traits<char>, binmalloc::allocator<char>> text(100000, 'x');
    EXPECT_GT(binmalloc::usable_size(text.data()), 100000U);
}

TEST(SingleCache, threads_share_it)
{
    std::vector<std::atomic<std::uint64_t*>> slots(64);
    std::atomic<std::size_t> damaged = 0;
    run_threads(8, [&](std::size_t me) {
        random_source random(seed() + me);
        for (std::size_t step = 0; step < scaled(150000, 3000); ++step) {
            const std::size_t size = 16 + random.size_up_to(random.one_in(100) ? 100 * kib : 1000);
            auto* const mine = static_cast<std::uint64_t*>(binmalloc::allocate(size));
            mine[0] = size;
            fill(mine + 1, size - 8, size);
            std::uint64_t* const theirs = slots[random.below(slots.size())].exchange(mine);
            if (theirs == nullptr) continue;
            damaged += holds(theirs + 1, static_cast<std::size_t>(theirs[0]) - 8, theirs[0]) ? 0 : 1;
            binmalloc::deallocate(theirs);
        }
    });
    for (auto& slot : slots) binmalloc::deallocate(slot.load());
    EXPECT_EQ(damaged.load(), 0U);
}

TEST(SingleCache, purge_gives_memory_back)
{
    const std::size_t before = heap::held_bytes_after_purge();
    std::vector<void*> blocks(48 * 1024);
    for (void*& block : blocks) block = binmalloc::allocate(1000);
    for (void* const block : blocks) binmalloc::deallocate(block);
    EXPECT_LT(heap::held_bytes_after_purge(), before + 4 * mib);
}

} // namespace
