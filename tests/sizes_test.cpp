// Size classes as a caller sees them: what a request gets, how much is wasted, how it is aligned.
#include <binmalloc/binmalloc.hpp>

#include "support/good_size.hpp"
#include "support/heap.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::size_t untyped = heap::no_alignment;
constexpr std::size_t largest_class = 16 * kib;

/// One below, at and one above every size where good_size() changes, up to `limit`.
std::vector<std::size_t> class_edges(std::size_t limit, std::size_t alignment)
{
    std::vector<std::size_t> edges;
    for (std::size_t size = 1; size <= limit;) {
        const std::size_t last = heap::good_size(size, alignment);
        if (last < size) break; // reported by the tests that use the edges
        if (last > 1) edges.push_back(last - 1);
        edges.push_back(last);
        edges.push_back(last + 1);
        size = last + 1;
    }
    return edges;
}

class Sizes : public testing::TestWithParam<std::size_t> {};

INSTANTIATE_TEST_SUITE_P(Alignment, Sizes, testing::Values(untyped, 1, 2, 4, 8, 16),
                         [](const auto& test) {
                             return test.param == untyped ? std::string("malloc")
                                                          : "typed" + std::to_string(test.param);
                         });

TEST_P(Sizes, every_size_up_to_40_kib_is_usable_to_its_end)
{
    const std::size_t alignment = GetParam();
    const std::size_t dense = sanitized ? 2 * kib : 40 * kib;
    constexpr std::size_t neighbours = 8; // live at any time
    live_blocks live;
    std::vector<live_block> window;
    for (std::size_t size = 0; size <= 40 * kib; size += size < dense ? 1 : 37) {
        const live_block block{heap::allocate(size, alignment), size, alignment, size};
        ASSERT_NE(block.address, nullptr) << "size " << size;
        const std::size_t usable = binmalloc::usable_size(block.address);
        ASSERT_GE(usable, size);
        ASSERT_TRUE(is_good(usable, heap::good_size(size, alignment))) << "size " << size;
        if (alignment > 1) {
            ASSERT_TRUE(is_aligned(block.address, alignment)) << "size " << size;
        }
        ASSERT_TRUE(live.add(block, usable)) << "overlap at size " << size;
        window.push_back(block);
        if (window.size() < neighbours) continue;
        ASSERT_TRUE(live.remove(window.front())) << "overwritten: size " << window.front().size;
        binmalloc::deallocate(window.front().address);
        window.erase(window.begin());
    }
    for (const live_block& block : window) {
        ASSERT_TRUE(live.remove(block)) << "overwritten: size " << block.size;
        binmalloc::deallocate(block.address);
    }
}

TEST_P(Sizes, blocks_around_every_class_edge_do_not_touch_their_neighbours)
{
    const std::size_t alignment = GetParam();
    for (const std::size_t size : class_edges(256 * kib, alignment)) {
        live_blocks live;
        std::vector<live_block> blocks;
        for (std::uint64_t id = 0; id < 24; ++id) {
            // Written to its last usable byte, not only to the size asked for.
            void* const address = heap::allocate(size, alignment);
            ASSERT_NE(address, nullptr) << "size " << size;
            const std::size_t usable = binmalloc::usable_size(address);
            ASSERT_TRUE(is_good(usable, heap::good_size(size, alignment))) << "size " << size;
            blocks.push_back({address, usable, alignment, size * 64 + id});
            ASSERT_TRUE(live.add(blocks.back(), usable)) << "overlap at size " << size;
        }
        for (const live_block& block : blocks) {
            ASSERT_TRUE(live.remove(block)) << "overwritten: size " << size;
            binmalloc::deallocate(block.address);
        }
    }
}

TEST_P(Sizes, a_class_serves_the_same_block_size_to_all_its_sizes)
{
    const std::size_t alignment = GetParam();
    std::size_t previous = 0;
    for (std::size_t size = 1; size <= 64 * kib; ++size) {
        const std::size_t good = heap::good_size(size, alignment);
        ASSERT_GE(good, size);
        ASSERT_GE(good, previous) << "a smaller request got more: " << size;
        ASSERT_EQ(heap::good_size(good, alignment), good) << "size " << size;
        previous = good;
    }
}

TEST_P(Sizes, waste_is_at_most_an_eighth_of_the_block_above_128_bytes)
{
    const std::size_t alignment = GetParam();
    for (std::size_t size = 129; size <= largest_class; ++size) {
        const std::size_t good = heap::good_size(size, alignment);
        ASSERT_LE((good - size) * 8, good) << "size " << size << " gets " << good;
    }
}

TEST_P(Sizes, zero_bytes_is_a_block_of_its_own)
{
    const std::size_t alignment = GetParam();
    std::set<void*> blocks;
    for (int count = 0; count < 1000; ++count) {
        void* const block = opaque(heap::allocate(0, alignment));
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(blocks.insert(block).second) << "given out twice";
    }
    for (void* const block : blocks) binmalloc::deallocate(block, 0);
}

TEST_P(Sizes, sized_deallocation_takes_every_size_between_the_request_and_its_usable_size)
{
    const std::size_t alignment = GetParam();
    for (std::size_t size = 1; size <= 600; ++size) {
        for (const std::size_t told : {size, (size + heap::good_size(size, alignment)) / 2,
                                       heap::good_size(size, alignment)}) {
            live_block block{heap::allocate(size, alignment), size, alignment, size};
            ASSERT_NE(block.address, nullptr);
            fill(block.address, size, size);
            if (alignment == untyped) {
                binmalloc::deallocate(block.address, told);
            } else {
                binmalloc::deallocate(block.address, told, alignment);
            }
            // The block is whole again: it can be had and filled once more.
            block.address = heap::allocate(size, alignment);
            ASSERT_GE(binmalloc::usable_size(block.address), size);
            fill(block.address, size, size);
            ASSERT_TRUE(holds(block.address, size, size));
            binmalloc::deallocate(block.address);
        }
    }
}

TEST_P(Sizes, allocate_at_least_tells_the_usable_size)
{
    const std::size_t alignment = GetParam();
    for (std::size_t size = 0; size <= 20 * kib; size += size < 1024 ? 1 : 97) {
        const auto result = heap::allocate_at_least(size, alignment);
        ASSERT_NE(result.ptr, nullptr);
        ASSERT_GE(result.count, size);
        ASSERT_EQ(result.count, binmalloc::usable_size(result.ptr));
        fill(result.ptr, result.count, size);
        ASSERT_TRUE(holds(result.ptr, result.count, size));
        binmalloc::deallocate(result.ptr, result.count);
    }
}

TEST(SizesMalloc, sixteen_bytes_and_more_are_16_aligned_less_is_8_aligned)
{
    std::vector<void*> blocks;
    for (std::size_t size = 1; size <= 2048; ++size) {
        for (int count = 0; count < 3; ++count) {
            void* const block = binmalloc::allocate(size);
            ASSERT_TRUE(is_aligned(block, size >= 16 ? 16 : 8))
                << "size " << size << " at " << block;
            blocks.push_back(block);
        }
    }
    for (void* const block : blocks) binmalloc::deallocate(block);
}

TEST(SizesMalloc, equal_large_blocks_begin_at_many_places_in_their_pages)
{
    constexpr std::size_t page = 4096;
    constexpr std::size_t line = 64;
    for (const std::size_t size : {1000U, 1024U, 1025U, 1536U, 2048U, 3072U, 4000U, 4096U, 8192U, 12288U,
                                   15360U}) {
        std::set<std::size_t> places;
        std::vector<void*> blocks;
        for (std::size_t i = 0; i < 2 * page / line; ++i) {
            blocks.push_back(opaque(binmalloc::allocate(size)));
            ASSERT_NE(blocks.back(), nullptr);
            places.insert(reinterpret_cast<std::uintptr_t>(blocks.back()) % page / line);
        }
        // Each of few blocks to a slab begins where the slab does, so not all places have one.
        EXPECT_GE(places.size(), 8U) << "blocks of " << size;
        for (void* const block : blocks) binmalloc::deallocate(block);
    }
}

TEST(SizesMalloc, aligned_requests_take_no_more_than_their_alignment_needs)
{
    EXPECT_EQ(binmalloc::heap::good_size(4096, 4096), 4096U);
    EXPECT_EQ(binmalloc::heap::good_size(2048, 128), 2048U);
    EXPECT_EQ(binmalloc::heap::good_size(1024, 128), 1024U);
    EXPECT_EQ(binmalloc::heap::good_size(1024, 64), 1024U);
    EXPECT_EQ(binmalloc::heap::good_size(1024, 16), 1040U);
    EXPECT_EQ(binmalloc::heap::good_size(1152, 128), 1152U);
    EXPECT_EQ(binmalloc::heap::good_size(5000, 1024), 5120U);
    EXPECT_EQ(binmalloc::heap::good_size(8192, 64), 8256U);
}

TEST(SizesTyped, dense_classes_give_exactly_what_is_asked)
{
    struct request {
        std::size_t size, alignment;
    };
    for (const auto [size, alignment] :
         {request{4, 4}, request{8, 8}, request{24, 8}, request{40, 8}, request{56, 8},
          request{4, 1}, request{24, 4}, request{40, 1}}) {
        EXPECT_EQ(binmalloc::good_size(size, alignment), size) << "alignment " << alignment;
        void* const block = binmalloc::allocate(size, alignment);
        EXPECT_EQ(binmalloc::usable_size(block), size) << "alignment " << alignment;
        EXPECT_TRUE(is_aligned(block, alignment));
        binmalloc::deallocate(block, size, alignment);
    }
}

TEST(SizesTyped, four_byte_blocks_lie_four_bytes_apart)
{
    // Enough blocks for several slabs; freed in two interleaved passes so that links run both ways.
    std::vector<std::uint32_t*> blocks(scaled(40000, 20000));
    std::set<std::uintptr_t> addresses;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        blocks[i] = static_cast<std::uint32_t*>(binmalloc::allocate(4, 4));
        ASSERT_NE(blocks[i], nullptr);
        *blocks[i] = static_cast<std::uint32_t>(i);
        ASSERT_TRUE(addresses.insert(reinterpret_cast<std::uintptr_t>(blocks[i])).second);
    }
    std::size_t adjacent = 0;
    for (auto at = addresses.begin(), next = std::next(at); next != addresses.end(); ++at, ++next) {
        ASSERT_GE(*next - *at, 4U);
        adjacent += *next - *at == 4 ? 1 : 0;
    }
    EXPECT_GT(adjacent, blocks.size() / 2);
    for (std::size_t i = 0; i < blocks.size(); ++i) ASSERT_EQ(*blocks[i], i);
    for (std::size_t i = 0; i < blocks.size(); i += 2) binmalloc::deallocate(blocks[i], 4, 4);
    for (std::size_t i = 1; i < blocks.size(); i += 2) ASSERT_EQ(*blocks[i], i);
    for (std::size_t i = 0; i < blocks.size(); i += 2) {
        blocks[i] = static_cast<std::uint32_t*>(binmalloc::allocate(4, 4));
        *blocks[i] = static_cast<std::uint32_t>(i);
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) ASSERT_EQ(*blocks[i], i);
    for (std::uint32_t* const block : blocks) binmalloc::deallocate(block);
}

TEST(SizesTyped, have_the_same_class_at_run_time)
{
    using table = binmalloc::detail::default_table;
    for (std::size_t alignment = 1; alignment <= 16 * kib; alignment *= 2)
        for (std::size_t size = alignment; size <= 16 * kib; size += alignment)
            ASSERT_EQ(table::of(size, alignment), table::search(size, alignment)) << size << ' ' << alignment;
}

TEST(SizesNull, null_has_no_size_and_can_be_freed)
{
    EXPECT_EQ(binmalloc::usable_size(nullptr), 0U);
    binmalloc::deallocate(nullptr);
    binmalloc::deallocate(nullptr, 0);
    binmalloc::deallocate(nullptr, 16);
    binmalloc::deallocate(nullptr, 16, 8);
}

} // namespace
