// How many blocks of a new slab are made at a time: memory is touched only where it is used.
#include <binmalloc/binmalloc.hpp>

#include "support/counting_pages.hpp"
#include "support/process.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace {

using namespace binmalloc_test;
using binmalloc::detail::carve_bytes;
using binmalloc::detail::slab;
using binmalloc::detail::slab_of;

/// A heap of its own, of which no memory has been used.
template <std::size_t Size>
void carve_what_is_new_and_what_was_in_use()
{
    SCOPED_TRACE(Size);
    struct tag;
    using heap = binmalloc::basic_heap<counting_policy<tag>>;
    constexpr std::size_t in_page = std::max<std::size_t>(carve_bytes / Size, 1);

    void* const first = heap::allocate(Size);
    ASSERT_NE(first, nullptr);
    const slab* const made = slab_of(first);
    const std::size_t capacity = made->capacity;
    EXPECT_FALSE(made->resident);
    EXPECT_EQ(made->carved, std::min(in_page, capacity));

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
    EXPECT_EQ(remade->carved, std::min(std::max<std::size_t>(in_page, 32), capacity));
    for (void* const block : blocks) heap::deallocate(block);
}

TEST(Carving, goes_by_the_page_where_memory_is_new_and_further_where_it_was_in_use)
{
    carve_what_is_new_and_what_was_in_use<16>();
    carve_what_is_new_and_what_was_in_use<64>();
    carve_what_is_new_and_what_was_in_use<256>();
    carve_what_is_new_and_what_was_in_use<832>();
    carve_what_is_new_and_what_was_in_use<1040>();
}

TEST(Carving, of_larger_blocks_goes_by_the_page_alone)
{
    struct tag;
    using heap = binmalloc::basic_heap<counting_policy<tag>>;
    constexpr std::size_t size = 1088;
    std::vector<void*> blocks;
    for (int i = 0; i < 1000; ++i) blocks.push_back(heap::allocate(512));
    for (void* const block : blocks) heap::deallocate(block);
    void* const block = heap::allocate(size);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(slab_of(block)->resident);
    EXPECT_EQ(slab_of(block)->carved, carve_bytes / size);
    heap::deallocate(block);
}

} // namespace
