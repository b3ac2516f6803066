// Explicit alignments, from 1 byte to far beyond a region, and those that cannot be.
#include <binmalloc/binmalloc.hpp>

#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::size_t sizes[] = {
    0, 1, 3, 16, 100, 4 * kib, 8 * kib + 1, 16 * kib, 16 * kib + 1, 100000, 1 * mib - 1, 1 * mib};

class Alignment : public testing::TestWithParam<std::size_t> {};

INSTANTIATE_TEST_SUITE_P(PowersOfTwo, Alignment, testing::Range(std::size_t{0}, std::size_t{27}),
                         [](const auto& test) {
                             return "align" + std::to_string(std::size_t{1} << test.param);
                         });

TEST_P(Alignment, every_size_is_aligned_and_usable)
{
    const std::size_t alignment = std::size_t{1} << GetParam();
    for (const std::size_t size : sizes) {
        void* const block = binmalloc::allocate(size, alignment);
        ASSERT_NE(block, nullptr) << "size " << size;
        EXPECT_TRUE(is_aligned(block, alignment)) << "size " << size << " at " << block;
        const std::size_t usable = binmalloc::usable_size(block);
        EXPECT_GE(usable, size);
        EXPECT_GE(usable, binmalloc::good_size(size, alignment)) << "size " << size;
        fill(block, usable, size);
        EXPECT_TRUE(holds(block, usable, size));
        binmalloc::deallocate(block, size, alignment);
    }
}

TEST_P(Alignment, blocks_live_together_and_are_freed_in_any_order)
{
    const std::size_t alignment = std::size_t{1} << GetParam();
    if (sizeof(void*) < 8 && alignment > 32 * mib) GTEST_SKIP() << "so many need 64-bit addresses";
    live_blocks live;
    std::vector<live_block> blocks;
    for (std::uint64_t id = 0; id < 4; ++id) {
        for (const std::size_t size : sizes) {
            void* const address = binmalloc::allocate(size, alignment);
            ASSERT_NE(address, nullptr) << "size " << size;
            ASSERT_TRUE(is_aligned(address, alignment)) << "size " << size;
            blocks.push_back({address, size, alignment, id * 100 + size});
            ASSERT_TRUE(live.add(blocks.back(), binmalloc::usable_size(address)))
                << "overlap, size " << size;
        }
        // A small neighbour of the common kind, so that aligned and plain blocks share regions.
        void* const plain = binmalloc::allocate(48);
        blocks.push_back({plain, 48, 0, id});
        ASSERT_TRUE(live.add(blocks.back(), binmalloc::usable_size(plain)));
    }
    for (std::size_t step = 0; step < blocks.size(); ++step) {
        const live_block& block = blocks[(step * 7) % blocks.size()];
        ASSERT_TRUE(live.remove(block)) << "overwritten: size " << block.size;
        binmalloc::deallocate(block.address);
    }
}

TEST_P(Alignment, zeroed_blocks_are_zero_even_when_reused)
{
    const std::size_t alignment = std::size_t{1} << GetParam();
    for (const std::size_t size : sizes) {
        for (int round = 0; round < 3; ++round) {
            void* const block = binmalloc::allocate_zeroed(size, alignment);
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(is_aligned(block, alignment));
            ASSERT_TRUE(all_zero(block, size)) << "size " << size << ", round " << round;
            fill(block, binmalloc::usable_size(block), size);
            binmalloc::deallocate(block);
        }
    }
}

TEST(AlignmentInvalid, what_is_no_power_of_two_is_refused)
{
    for (const std::size_t alignment :
         {0U, 3U, 5U, 6U, 7U, 9U, 12U, 24U, 48U, 100U, 4095U, 4097U, 65537U}) {
        for (const std::size_t size : {0U, 1U, 100U, 100000U}) {
            EXPECT_EQ(binmalloc::allocate(size, alignment), nullptr) << "alignment " << alignment;
            EXPECT_EQ(binmalloc::allocate_zeroed(size, alignment), nullptr)
                << "alignment " << alignment;
            EXPECT_EQ(binmalloc::allocate_at_least(size, alignment).ptr, nullptr)
                << "alignment " << alignment;
        }
    }
    EXPECT_EQ(binmalloc::allocate(1, SIZE_MAX), nullptr);
    EXPECT_EQ(binmalloc::allocate(1, SIZE_MAX - 1), nullptr);
}

TEST(AlignmentInvalid, beyond_any_address_space_is_refused)
{
    if constexpr (sizeof(std::size_t) == 8) {
        for (const unsigned shift : {41U, 46U, 47U, 62U, 63U}) {
            const std::size_t alignment = std::size_t{1} << shift;
            EXPECT_EQ(binmalloc::allocate(1, alignment), nullptr) << "alignment 2^" << shift;
            EXPECT_EQ(binmalloc::allocate(SIZE_MAX, alignment), nullptr) << "alignment 2^" << shift;
            EXPECT_EQ(binmalloc::allocate(SIZE_MAX - alignment + 1, alignment), nullptr);
        }
    }
    for (std::size_t alignment = 1; alignment <= 64 * mib; alignment *= 2) {
        EXPECT_EQ(binmalloc::allocate(SIZE_MAX, alignment), nullptr);
        EXPECT_EQ(binmalloc::allocate(SIZE_MAX - alignment + 1, alignment), nullptr);
        EXPECT_EQ(binmalloc::allocate(SIZE_MAX - alignment, alignment), nullptr);
        EXPECT_EQ(binmalloc::allocate(SIZE_MAX / 2, alignment), nullptr);
    }
    void* const block = binmalloc::allocate(1000, 64);
    ASSERT_NE(block, nullptr) << "the heap goes on";
    fill(block, 1000, 1);
    EXPECT_TRUE(holds(block, 1000, 1));
    binmalloc::deallocate(block);
}

} // namespace
