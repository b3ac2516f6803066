// page_allocator by itself: spans and mappings, without the heap above it.
#include <binmalloc/binmalloc.hpp>

#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::size_t sizes[] = {1,       100,     4 * kib,  16 * kib,     16 * kib + 1, 100000,
                                 1 * mib, 5000000, 16 * mib, 16 * mib + 1, 40 * mib};

TEST(PageAllocator, blocks_of_every_size_are_page_aligned_and_apart)
{
    binmalloc::page_allocator pages;
    live_blocks live;
    std::vector<live_block> blocks;
    for (std::uint64_t round = 0; round < 3; ++round) {
        for (const std::size_t size : sizes) {
            const live_block block{pages.allocate(size), size, 4 * kib, round * 100 + size};
            ASSERT_NE(block.address, nullptr) << "size " << size;
            ASSERT_TRUE(is_aligned(block.address, block.alignment)) << "size " << size;
            ASSERT_GE(pages.usable_size(block.address), size);
            ASSERT_TRUE(live.add(block, pages.usable_size(block.address)))
                << "overlap, size " << size;
            blocks.push_back(block);
        }
    }
    for (std::size_t step = 0; step < blocks.size(); ++step) {
        const live_block& block = blocks[(step * 7) % blocks.size()];
        ASSERT_TRUE(live.remove(block)) << "overwritten: size " << block.size;
        pages.deallocate(block.address);
    }
    pages.deallocate(nullptr);
    EXPECT_EQ(pages.usable_size(nullptr), 0U);
}

TEST(PageAllocator, every_alignment_up_to_64_mib)
{
    binmalloc::page_allocator pages;
    for (std::size_t alignment = 1; alignment <= 64 * mib; alignment *= 2) {
        std::vector<void*> blocks;
        for (const std::size_t size : {std::size_t{1}, 20 * kib, 3 * mib}) {
            void* const block = pages.allocate(size, alignment);
            ASSERT_NE(block, nullptr) << "alignment " << alignment << ", size " << size;
            EXPECT_TRUE(is_aligned(block, alignment))
                << "alignment " << alignment << ", size " << size;
            fill(block, pages.usable_size(block), alignment + size);
            blocks.push_back(block);
        }
        EXPECT_TRUE(holds(blocks[0], pages.usable_size(blocks[0]), alignment + 1));
        EXPECT_TRUE(holds(blocks[1], pages.usable_size(blocks[1]), alignment + 20 * kib));
        EXPECT_TRUE(holds(blocks[2], pages.usable_size(blocks[2]), alignment + 3 * mib));
        for (void* const block : blocks) pages.deallocate(block);
    }
}

TEST(PageAllocator, impossible_requests_give_null_and_it_goes_on)
{
    binmalloc::page_allocator pages;
    for (std::size_t size : {SIZE_MAX, SIZE_MAX - 16 * kib, SIZE_MAX / 2 + 1, SIZE_MAX / 2}) {
        size = opaque(size);
        EXPECT_EQ(pages.allocate(size), nullptr) << size;
        EXPECT_EQ(pages.allocate(size, 1 * mib), nullptr) << size;
    }
    EXPECT_EQ(pages.allocate(1, 3), nullptr);
    EXPECT_EQ(pages.allocate(1, SIZE_MAX / 2 + 1), nullptr);
    for (const std::size_t old_size : {100 * kib, 40 * mib}) {
        void* const block = pages.allocate(old_size);
        ASSERT_NE(block, nullptr);
        fill(block, old_size, 1);
        // The last ones become small when a share of them is added for growth.
        for (std::size_t size : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 3 * 2 + 1000,
                                 SIZE_MAX / 5 * 4 + 1000, SIZE_MAX / 9 * 8 + 1000}) {
            ASSERT_EQ(pages.reallocate(block, opaque(size)), nullptr) << old_size << " -> " << size;
        }
        EXPECT_TRUE(holds(block, old_size, 1)) << "a failed reallocate keeps the block";
        pages.deallocate(block);
    }
}

TEST(PageAllocator, reallocate_keeps_the_contents_in_place_and_elsewhere)
{
    binmalloc::page_allocator pages;
    std::vector<std::size_t> steps;
    for (std::size_t size = 10; size < (sanitized ? 20 : 200) * mib; size += size / 2)
        steps.push_back(size);
    for (const bool crowded : {false, true}) {
        std::vector<void*> obstacles;
        void* block = nullptr;
        std::size_t old_size = 0;
        const auto resize = [&](std::size_t size) {
            block = pages.reallocate(block, size);
            ASSERT_NE(block, nullptr);
            ASSERT_GE(pages.usable_size(block), size);
            ASSERT_TRUE(holds_prefix(block, std::min(old_size, size), 1))
                << old_size << " -> " << size;
            fill(block, size, 1);
            old_size = size;
            if (crowded) obstacles.push_back(pages.allocate(16 * kib));
        };
        for (const std::size_t size : steps) resize(size);
        for (auto size = steps.rbegin(); size != steps.rend(); ++size) resize(*size);
        pages.deallocate(block);
        for (void* const obstacle : obstacles) pages.deallocate(obstacle);
    }
}

TEST(PageAllocator, freed_pages_are_used_again)
{
    binmalloc::page_allocator pages;
    const std::size_t before = memory_in_use().address_space;
    random_source random(seed());
    std::vector<void*> live(20, nullptr);
    for (std::size_t step = 0; step < scaled(20000, 2000); ++step) {
        void*& block = live[random.below(live.size())];
        pages.deallocate(block);
        const std::size_t size = random.size_up_to(8 * mib) + 1;
        block = pages.allocate(size);
        ASSERT_NE(block, nullptr);
        *static_cast<char*>(block) = 1;
    }
    EXPECT_LT(memory_in_use().address_space, before + 512 * mib);
    for (void* const block : live) pages.deallocate(block);
}

TEST(PageAllocator, the_destructor_gives_everything_back)
{
    const auto use_one = [](std::uint64_t which) {
        binmalloc::page_allocator pages;
        random_source random(seed() + which);
        for (int i = 0; i < 40; ++i) {
            const std::size_t size = random.size_up_to(4 * mib) + 1;
            void* const block = pages.allocate(size);
            ASSERT_NE(block, nullptr);
            fill(block, size, 1);
            if (random.one_in(3)) pages.deallocate(block);
        }
        void* const huge = pages.allocate(48 * mib);
        fill(huge, 48 * mib, 1);
        void* const aligned = pages.allocate(1, 64 * mib);
        fill(aligned, 1, 1);
        if (which % 2 == 0) pages.deallocate(huge);
    };
    use_one(0);
    const process_memory before = memory_in_use();
    for (std::uint64_t which = 1; which < 1 + scaled(30, 3); ++which) use_one(which);
    const process_memory after = memory_in_use();
    if (sanitized) GTEST_SKIP() << "resident memory means nothing here";
    EXPECT_LT(after.resident, before.resident + 2 * mib);
    EXPECT_LT(after.address_space, before.address_space + 2 * mib);
}

TEST(PageAllocator, purge_gives_free_pages_back_and_keeps_live_ones)
{
    binmalloc::page_allocator pages;
    void* const kept = pages.allocate(1 * mib);
    fill(kept, 1 * mib, 1);
    std::vector<void*> blocks;
    for (int i = 0; i < 32; ++i) {
        blocks.push_back(pages.allocate(2 * mib));
        std::fill_n(static_cast<char*>(blocks.back()), 2 * mib, 'x');
    }
    const std::size_t full = memory_in_use().resident;
    for (void* const block : blocks) pages.deallocate(block);
    pages.purge();
    if (!sanitized && !emulated) {
        EXPECT_LT(memory_in_use().resident + 56 * mib, full);
    }
    EXPECT_TRUE(holds(kept, 1 * mib, 1));
    void* const again = pages.allocate(2 * mib);
    fill(again, 2 * mib, 2);
    EXPECT_TRUE(holds(again, 2 * mib, 2));
    pages.deallocate(again);
    pages.deallocate(kept);
}

TEST(PageAllocator, several_do_not_disturb_each_other)
{
    std::vector<binmalloc::page_allocator> many(8);
    live_blocks live;
    std::vector<live_block> blocks;
    for (std::size_t i = 0; i < 160; ++i) {
        const std::size_t size = (i % 10 + 1) * 30 * kib;
        blocks.push_back({many[i % 8].allocate(size), size, 0, i});
        ASSERT_NE(blocks.back().address, nullptr);
        ASSERT_TRUE(live.add(blocks.back(), many[i % 8].usable_size(blocks.back().address)));
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        ASSERT_TRUE(live.remove(blocks[i]));
        many[i % 8].deallocate(blocks[i].address);
    }
}

} // namespace
