// How many blocks of a new slab are made at a time: memory is touched only where it is used.
#include <binmalloc/binmalloc.hpp>

#include "support/counting_pages.hpp"
#include "support/process.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace {

using namespace binmalloc_test;
using binmalloc::detail::carve_bytes;
using binmalloc::detail::slab;
using binmalloc::detail::slab_of;

/// Expects so many blocks of `Size` to be carved at a time: where no memory has been used, and where some was.
template <std::size_t Size>
void expect_carved(std::size_t at_first, std::size_t again)
{
    SCOPED_TRACE(Size);
    struct tag; // so that it is a heap of its own
    using heap = binmalloc::basic_heap<counting_policy<tag>>;

    void* const first = heap::allocate(Size);
    ASSERT_NE(first, nullptr);
    const slab* const made = slab_of(first);
    EXPECT_FALSE(made->resident);
    EXPECT_EQ(made->carved, std::min<std::size_t>(at_first, made->capacity));

    // Slabs of another class, all of which go back.
    std::vector<void*> others;
    for (std::size_t bytes = 0; bytes < 4 * mib; bytes += 512) {
        others.push_back(heap::allocate(512));
        ASSERT_NE(others.back(), nullptr);
    }
    for (void* const block : others) heap::deallocate(block);

    std::vector<void*> blocks{first};
    while (slab_of(blocks.back()) == made) {
        blocks.push_back(heap::allocate(Size));
        ASSERT_NE(blocks.back(), nullptr);
    }
    const slab* const remade = slab_of(blocks.back());
    EXPECT_TRUE(remade->resident);
    EXPECT_EQ(remade->carved, std::min<std::size_t>(again, remade->capacity));

    // To the end of that slab: each block is another one, and all of them fit.
    while (slab_of(blocks.back()) == remade) {
        std::memset(blocks.back(), 1, Size);
        blocks.push_back(heap::allocate(Size));
        ASSERT_NE(blocks.back(), nullptr);
    }
    EXPECT_EQ(remade->carved, remade->capacity);
    for (void* const block : blocks) heap::deallocate(block);
    std::sort(blocks.begin(), blocks.end());
    EXPECT_EQ(std::adjacent_find(blocks.begin(), blocks.end()), blocks.end());
}

TEST(Carving, goes_by_the_page_where_memory_is_new_and_further_where_it_was_in_use)
{
    expect_carved<16>(carve_bytes / 16, carve_bytes / 16);
    expect_carved<64>(carve_bytes / 64, carve_bytes / 64);
    expect_carved<256>(carve_bytes / 256, 32);
    expect_carved<832>(carve_bytes / 832, 32);
    expect_carved<1040>(carve_bytes / 1040, 32);
}

TEST(Carving, of_larger_blocks_goes_one_by_one_where_memory_is_new)
{
    expect_carved<1088>(1, 8);
    expect_carved<2112>(1, 8);
    expect_carved<4160>(1, 8);
    expect_carved<4608>(1, 1);
    expect_carved<16384>(1, 1);
}

} // namespace
