// geometry.hpp: the sizes of regions and the limits that follow, for 64 bits and for 32.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/process.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace binmalloc_test;
using namespace binmalloc::detail;

constexpr bool narrow = sizeof(void*) == 4;

static_assert(region_size == (narrow ? 4 * mib : 256 * mib));
static_assert(first_region_size == (narrow ? 4 * mib : 32 * mib));
static_assert(max_span_size == (narrow ? 1 * mib : 64 * mib));
static_assert(max_alignment == (narrow ? 256 * mib : (std::uint64_t{1} << 40)));

// What is added to a request before the system is asked: the lead of a huge mapping, and as much for
// its alignment. Two such sums are compared, and none of them may wrap.
static_assert(max_request + 2 * region_size <= SIZE_MAX / 2);
static_assert(max_alignment <= SIZE_MAX / 8);
static_assert(max_request + 2 * max_alignment > max_request);

TEST(Geometry, the_first_region_has_its_size_and_holds_spans_up_to_a_quarter_of_the_largest)
{
    binmalloc::page_allocator pages;
    void* const small = pages.allocate(1);
    ASSERT_NE(small, nullptr);
    EXPECT_EQ(pages.statistics().reserved, first_region_size);
    EXPECT_EQ(pages.usable_size(small), unit_size);

    void* const in_region = pages.allocate(max_span_size / (narrow ? 1 : 4));
    ASSERT_NE(in_region, nullptr);
    EXPECT_EQ(pages.statistics().reserved, first_region_size);
    EXPECT_EQ(region_of(in_region), region_of(small));

    // Larger ones have a mapping, as long as needed and no more.
    void* const mapped = pages.allocate(max_span_size + 1);
    ASSERT_NE(mapped, nullptr);
    EXPECT_NE(region_of(mapped), region_of(small));
    EXPECT_EQ(pages.usable_size(mapped),
              align_up(max_span_size + 1, binmalloc::os_pages::page_size()));
    fill(mapped, max_span_size + 1, 1);
    EXPECT_TRUE(holds(mapped, max_span_size + 1, 1));
    for (void* const block : {small, in_region, mapped}) pages.deallocate(block);
}

TEST(Geometry, spans_of_the_largest_size_lie_in_regions)
{
    binmalloc::page_allocator pages;
    std::vector<void*> blocks;
    for (int i = 0; i < 6; ++i) {
        blocks.push_back(pages.allocate(max_span_size));
        ASSERT_NE(blocks.back(), nullptr);
        EXPECT_EQ(header_of(blocks.back())->kind, unit_kind::span);
        EXPECT_EQ(pages.usable_size(blocks.back()), max_span_size);
    }
    for (void* const block : blocks) pages.deallocate(block);
}

TEST(Geometry, further_regions_double_up_to_the_largest)
{
    binmalloc::page_allocator pages;
    std::vector<void*> blocks;
    std::size_t before = 0;
    for (int grown = 0; grown < 6;) {
        blocks.push_back(pages.allocate(512 * kib));
        ASSERT_NE(blocks.back(), nullptr);
        const std::size_t reserved = pages.statistics().reserved;
        if (reserved == before) continue;
        const std::size_t doubled = before < region_size ? before : region_size;
        EXPECT_EQ(reserved - before, before == 0 ? first_region_size : doubled);
        before = reserved;
        ++grown;
    }
    for (void* const block : blocks) pages.deallocate(block);
}

TEST(Geometry, the_largest_alignment_is_had_and_twice_that_is_refused)
{
    constexpr std::size_t largest = narrow ? max_alignment : 4096 * mib; // 2^40 may be more than there is
    void* const block = binmalloc::allocate(100, largest);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(binmalloc_test::is_aligned(block, largest));
    fill(block, 100, 1);
    EXPECT_TRUE(holds(block, 100, 1));
    binmalloc::deallocate(block);
    EXPECT_EQ(binmalloc::allocate(100, max_alignment * 2), nullptr);
}

TEST(Geometry, the_largest_request_wraps_nowhere)
{
    for (const std::size_t alignment : {std::size_t{16}, unit_size, region_size, max_alignment}) {
        for (const std::size_t size : {max_request, max_request + 1, SIZE_MAX / 2, SIZE_MAX}) {
            void* const block = binmalloc::allocate(size, alignment);
            // A 32-bit process may have nearly half of its addresses in one piece.
            if (size > max_request) {
                EXPECT_EQ(block, nullptr) << size << ", alignment " << alignment;
            }
            if (block != nullptr) {
                EXPECT_GE(binmalloc::usable_size(block), size);
            }
            binmalloc::deallocate(block);
        }
    }
}

} // namespace
