// reallocate(): contents, alignment, failure, and the sizes where a block changes its kind.
#include <binmalloc/binmalloc.hpp>

#include "support/good_size.hpp"
#include "support/heap.hpp"
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

/// Reallocates a block filled as `id` with `old_size` bytes, checks what must be kept, and
/// fills it anew.
void* resized(void* block, std::size_t old_size, std::size_t new_size, std::uint64_t id,
              std::size_t alignment = heap::no_alignment)
{
    void* const moved = heap::reallocate(block, new_size, alignment);
    EXPECT_NE(moved, nullptr) << old_size << " -> " << new_size;
    if (moved == nullptr) return block;
    EXPECT_GE(binmalloc::usable_size(moved), new_size) << old_size << " -> " << new_size;
    EXPECT_TRUE(holds_prefix(moved, std::min(old_size, new_size), id))
        << old_size << " -> " << new_size;
    EXPECT_TRUE(is_aligned(moved, alignment != 0 ? alignment : new_size >= 16 ? 16 : 8));
    fill(moved, new_size, id);
    return moved;
}

TEST(Reallocate, null_allocates)
{
    void* const block = binmalloc::reallocate(nullptr, 100);
    ASSERT_NE(block, nullptr);
    EXPECT_GE(binmalloc::usable_size(block), 100U);
    binmalloc::deallocate(block);
    void* const aligned = binmalloc::reallocate(nullptr, 100, 4096);
    ASSERT_NE(aligned, nullptr);
    EXPECT_TRUE(is_aligned(aligned, 4096));
    binmalloc::deallocate(aligned);
}

TEST(Reallocate, every_size_to_its_neighbours_keeps_the_contents)
{
    const std::size_t step = sanitized ? 13 : 1;
    void* block = binmalloc::allocate(1);
    fill(block, 1, 7);
    std::size_t size = 1;
    for (std::size_t next = 2; next <= 20 * kib; next += step) {
        block = resized(block, size, next, 7);
        size = next;
    }
    for (std::size_t next = size; next > step; next -= step) {
        block = resized(block, size, next, 7);
        size = next;
    }
    binmalloc::deallocate(block);
}

TEST(Reallocate, any_size_to_any_other_keeps_the_contents)
{
    std::vector<std::size_t> sizes;
    for (std::size_t size = 1; size <= 4 * mib; size += size / 2 + 1) sizes.push_back(size);
    for (const std::size_t from : sizes) {
        for (const std::size_t to : sizes) {
            void* block = binmalloc::allocate(from);
            ASSERT_NE(block, nullptr);
            fill(block, from, from);
            block = resized(block, from, to, from);
            binmalloc::deallocate(block, to);
        }
    }
}

TEST(Reallocate, chains_of_random_sizes_keep_the_contents_among_other_blocks)
{
    random_source random(seed());
    struct entry {
        void* block;
        std::size_t size;
    };
    std::vector<entry> entries(40, entry{nullptr, 0});
    for (std::size_t step = 0; step < scaled(40000, 4000); ++step) {
        const std::size_t chosen = random.below(entries.size());
        entry& one = entries[chosen];
        const std::size_t size = random.size_up_to(random.one_in(50) ? 8 * mib : 64 * kib) + 1;
        if (one.block != nullptr) {
            ASSERT_TRUE(holds(one.block, one.size, chosen)) << "size " << one.size;
        }
        one.block = resized(one.block, one.size, size, chosen);
        one.size = size;
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (entries[i].block != nullptr) {
            EXPECT_TRUE(holds(entries[i].block, entries[i].size, i));
        }
        binmalloc::deallocate(entries[i].block);
    }
}

TEST(Reallocate, one_block_grows_to_256_mib_and_shrinks_again)
{
    const std::size_t largest = sanitized ? 32 * mib : 256 * mib;
    void* block = nullptr;
    std::size_t size = 0;
    for (std::size_t next = 1000; next < largest; next += next / 3) {
        block = resized(block, size, next, 3);
        size = next;
    }
    block = resized(block, size, largest, 3);
    size = largest;
    for (std::size_t next = size / 2; next > 100; next = next / 2 + 1) {
        block = resized(block, size, next, 3);
        size = next;
        if (size <= 102) break;
    }
    binmalloc::deallocate(block);
}

TEST(Reallocate, a_vector_of_large_blocks_grows_step_by_step)
{
    // Growth by one OS page at a time, past two neighbours that stand in the way by turns.
    void* block = binmalloc::allocate(64 * kib);
    fill(block, 64 * kib, 5);
    std::size_t size = 64 * kib;
    void* obstacle = nullptr;
    for (std::size_t next = size; next <= 4 * mib; next += 4 * kib) {
        block = resized(block, size, next, 5);
        size = next;
        if (next % (256 * kib) == 0) {
            binmalloc::deallocate(obstacle);
            obstacle = binmalloc::allocate(64 * kib);
        }
    }
    binmalloc::deallocate(obstacle);
    binmalloc::deallocate(block);
}

TEST(Reallocate, shrinking_a_large_block_gives_memory_back)
{
    void* const block = binmalloc::allocate(64 * mib);
    fill(block, 64 * mib, 9);
    void* const small = resized(block, 64 * mib, 100, 9);
    EXPECT_LT(binmalloc::usable_size(small), 1 * mib);
    binmalloc::deallocate(small);
}

TEST(Reallocate, keeps_the_alignment_asked_for)
{
    for (std::size_t alignment = 1; alignment <= 4 * mib; alignment *= 4) {
        void* block = binmalloc::allocate(10, alignment);
        ASSERT_NE(block, nullptr);
        fill(block, 10, alignment);
        std::size_t size = 10;
        for (const std::size_t next :
             {1UL, 40UL, 100UL, 5000UL, 70000UL, 3000000UL, 200000UL, 17UL, 3UL}) {
            block = resized(block, size, next, alignment, alignment);
            size = next;
        }
        binmalloc::deallocate(block, size, alignment);
    }
}

TEST(Reallocate, can_raise_the_alignment)
{
    for (std::size_t alignment = 32; alignment <= 1 * mib; alignment *= 2) {
        for (const std::size_t size : {24UL, 1000UL, 100000UL}) {
            void* block = binmalloc::allocate(size);
            fill(block, size, alignment);
            block = resized(block, size, size, alignment, alignment);
            binmalloc::deallocate(block);
        }
    }
}

TEST(Reallocate, failure_keeps_the_block)
{
    for (const std::size_t size : {1UL, 24UL, 5000UL, 100000UL, 3000000UL}) {
        void* const block = binmalloc::allocate(size);
        fill(block, size, size);
        for (std::size_t impossible : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX - 4096}) {
            impossible = opaque(impossible);
            EXPECT_EQ(binmalloc::reallocate(block, impossible), nullptr);
            EXPECT_EQ(binmalloc::reallocate(block, impossible, 64), nullptr);
        }
        EXPECT_EQ(binmalloc::reallocate(block, size + 1, 3), nullptr) << "an alignment of 3";
        EXPECT_GE(binmalloc::usable_size(block), size);
        EXPECT_TRUE(holds(block, size, size));
        binmalloc::deallocate(block);
    }
}

TEST(Reallocate, a_block_that_grows_by_little_moves_seldom)
{
    constexpr std::size_t first = 64;
    constexpr std::size_t most = 16 * kib;
    void* block = binmalloc::allocate(first);
    fill(block, first, first);
    unsigned moves = 0;
    for (std::size_t size = first + 1; size <= most; ++size) {
        const std::size_t before = binmalloc::usable_size(block);
        block = resized(block, size - 1, size, first);
        const std::size_t usable = binmalloc::usable_size(block);
        if (usable == before) continue;
        ++moves;
        // A quarter more than it had, or the next size that there is.
        EXPECT_LE(usable, binmalloc::good_size(before + before / 4)) << size;
    }
    EXPECT_LE(moves, 25U) << "1.25 to the power of 25 is 265, and it grew to 256 times its size";
    binmalloc::deallocate(block);
}

TEST(Reallocate, a_block_that_grows_by_much_has_no_slack)
{
    for (const std::size_t size : {16UL, 48UL, 64UL, 100UL, 1000UL, 5000UL}) {
        void* block = binmalloc::allocate(size);
        const std::size_t twice = 2 * size;
        block = resized(block, 0, twice, size);
        EXPECT_TRUE(is_good(binmalloc::usable_size(block), binmalloc::good_size(twice))) << size;
        binmalloc::deallocate(block);
    }
}

TEST(Reallocate, a_size_within_the_block_stays_in_place)
{
    for (const std::size_t size : {100UL, 3000UL, 100000UL, 5000000UL}) {
        void* const block = binmalloc::allocate(size);
        EXPECT_EQ(opaque(binmalloc::reallocate(block, binmalloc::usable_size(block))), block)
            << size;
        EXPECT_EQ(opaque(binmalloc::reallocate(block, size)), block) << size;
        binmalloc::deallocate(block);
    }
}

} // namespace
