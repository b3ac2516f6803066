// Spans and huge mappings: from just under the largest class to sizes no machine has.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::size_t os_page = 4 * kib;
const std::size_t largest = sanitized ? 64 * mib : 256 * mib;

/// One below, at and one above every power of two and three times it, `first` to `last`.
std::vector<std::size_t> large_sizes(std::size_t first, std::size_t last)
{
    std::vector<std::size_t> sizes;
    for (std::size_t power = first; power <= last; power *= 2) {
        for (const std::size_t middle : {power, power / 2 * 3}) {
            if (middle > last) continue;
            sizes.insert(sizes.end(), {middle - 1, middle, middle + 1});
        }
    }
    return sizes;
}

void touch_pages(void* block, std::size_t size, unsigned char value)
{
    auto* const bytes = static_cast<unsigned char*>(block);
    for (std::size_t at = 0; at < size; at += os_page) bytes[at] = value;
    bytes[size - 1] = value;
    opaque(block);
}

bool pages_are(const void* block, std::size_t size, unsigned char value)
{
    const auto* const bytes = static_cast<const unsigned char*>(block);
    for (std::size_t at = 0; at < size; at += os_page) {
        if (bytes[at] != value) return false;
    }
    return bytes[size - 1] == value;
}

TEST(Large, every_page_is_usable_up_to_256_mib)
{
    for (const std::size_t size : large_sizes(16 * kib, largest)) {
        void* const block = binmalloc::allocate(size);
        ASSERT_NE(block, nullptr) << "size " << size;
        EXPECT_TRUE(is_aligned(block, 16));
        const std::size_t usable = binmalloc::usable_size(block);
        ASSERT_GE(usable, size);
        EXPECT_GE(usable, binmalloc::good_size(size))
            << "size " << size; // more where a freed one fits
        touch_pages(block, usable, 0x5A);
        EXPECT_TRUE(pages_are(block, usable, 0x5A)) << "size " << size;
        binmalloc::deallocate(block, size);
    }
}

TEST(Large, waste_above_a_megabyte_is_below_an_eighth)
{
    for (const std::size_t size : large_sizes(1 * mib, largest)) {
        EXPECT_LE((binmalloc::good_size(size) - size) * 8, size) << "size " << size;
    }
}

TEST(Large, many_live_blocks_keep_their_contents)
{
    random_source random(seed());
    struct entry {
        void* block;
        std::size_t size;
    };
    std::vector<entry> live(48, entry{nullptr, 0});
    for (std::size_t step = 0; step < scaled(3000, 300); ++step) {
        const std::size_t slot = random.below(live.size());
        entry& chosen = live[slot];
        if (chosen.block != nullptr) {
            ASSERT_TRUE(holds(chosen.block, chosen.size, slot)) << "size " << chosen.size;
            binmalloc::deallocate(chosen.block);
        }
        chosen.size = 16 * kib + random.size_up_to(4 * mib);
        chosen.block = binmalloc::allocate(chosen.size);
        ASSERT_NE(chosen.block, nullptr);
        fill(chosen.block, chosen.size, slot);
    }
    for (std::size_t slot = 0; slot < live.size(); ++slot) {
        if (live[slot].block == nullptr) continue;
        EXPECT_TRUE(holds(live[slot].block, live[slot].size, slot));
        binmalloc::deallocate(live[slot].block);
    }
}

TEST(Large, freed_memory_is_used_again)
{
    // Were each block new, this would take 64 GiB.
    const std::size_t size = 32 * mib;
    const std::size_t before = memory_in_use().address_space;
    for (int round = 0; round < 2000; ++round) {
        void* const block =
            binmalloc::allocate(size + static_cast<std::size_t>(round % 7) * 64 * kib);
        ASSERT_NE(block, nullptr);
        *static_cast<char*>(block) = 1;
        opaque(block);
        binmalloc::deallocate(block);
    }
    const std::size_t after = memory_in_use().address_space;
    EXPECT_LT(after, before + 1024 * mib);
}

TEST(LargeZeroed, reused_dirty_memory_comes_back_zero_at_every_size)
{
    std::vector<std::size_t> sizes;
    for (std::size_t size = 1; size <= 64 * mib; size += size / 5 + 1) sizes.push_back(size);
    for (const std::size_t size : sizes) {
        std::vector<void*> blocks(std::clamp<std::size_t>(256 * kib / size, 2, 200));
        for (void*& block : blocks) {
            block = binmalloc::allocate(size);
            ASSERT_NE(block, nullptr);
            std::memset(block, 0xFF, binmalloc::usable_size(block));
            opaque(block);
        }
        for (void* const block : blocks) binmalloc::deallocate(block);
        for (void*& block : blocks) {
            block = binmalloc::allocate_zeroed(size);
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(all_zero(block, size)) << "size " << size;
        }
        for (void* const block : blocks) {
            std::memset(block, 0xEE, binmalloc::usable_size(block));
            binmalloc::deallocate(block);
        }
    }
}

TEST(LargeZeroed, spans_cut_from_dirty_and_purged_memory_are_zero)
{
    random_source random(seed() + 1);
    for (std::size_t round = 0; round < scaled(300, 30); ++round) {
        const std::size_t whole = 64 * kib + random.size_up_to(8 * mib);
        void* const dirty = binmalloc::allocate(whole);
        ASSERT_NE(dirty, nullptr);
        std::memset(dirty, 0xAB, whole);
        opaque(dirty);
        binmalloc::deallocate(dirty);
        if (random.one_in(3)) binmalloc::purge();
        void* parts[3];
        for (void*& part : parts) {
            const std::size_t size = whole / (2 + random.below(6));
            part = binmalloc::allocate_zeroed(size);
            ASSERT_NE(part, nullptr);
            ASSERT_TRUE(all_zero(part, size)) << "size " << size << " of " << whole;
            std::memset(part, 0xCD, size);
        }
        for (void* const part : parts) binmalloc::deallocate(part);
    }
}

TEST(LargeImpossible, absurd_sizes_are_refused_and_the_heap_goes_on)
{
    std::vector<std::size_t> absurd;
    constexpr std::size_t half = SIZE_MAX / 2;
    for (const std::size_t middle : {SIZE_MAX, half, half + 1, SIZE_MAX / 4 * 3}) {
        for (const std::size_t distance :
             {0UL, 1UL, 7UL, 8UL, 15UL, 16UL, 4095UL, 4096UL, 16383UL, 16384UL, 65536UL,
              32UL * 1024 * 1024, 64UL * 1024 * 1024}) {
            // Half the address space of a 32-bit program, but for some MiB, can really be had.
            if (sizeof(std::size_t) < 8 && middle <= half + 1 && distance > 64 * kib) continue;
            absurd.push_back(middle - distance);
        }
    }
    // Sizes that become small when a share of them is added for growth: s + s / n = 2^64 +
    // something.
    for (const std::size_t share : {1UL, 2UL, 4UL, 8UL, 16UL}) {
        for (const std::size_t above : {1UL, 1000UL, 100000UL, 20000000UL}) {
            const std::size_t size = SIZE_MAX / (share + 1) * share + above;
            if (size > half) absurd.push_back(size);
        }
    }
    if constexpr (sizeof(std::size_t) == 8) {
        for (const unsigned shift : {48U, 52U, 56U, 60U, 62U, 63U})
            absurd.push_back(std::size_t{1} << shift);
    }
    for (const std::size_t old_size : {100 * kib, 1 * kib, 40 * mib}) {
        void* const old_block = binmalloc::allocate(old_size);
        fill(old_block, old_size, 1);
        for (std::size_t size : absurd) {
            size = opaque(size);
            EXPECT_EQ(binmalloc::allocate(size), nullptr) << size;
            EXPECT_EQ(binmalloc::allocate(size, 8), nullptr) << size;
            EXPECT_EQ(binmalloc::allocate(size, 4096), nullptr) << size;
            EXPECT_EQ(binmalloc::allocate_zeroed(size), nullptr) << size;
            EXPECT_EQ(binmalloc::allocate_at_least(size).ptr, nullptr) << size;
            EXPECT_EQ(binmalloc::allocate_at_least(size).count, 0U) << size;
            EXPECT_EQ(binmalloc::reallocate(nullptr, size), nullptr) << size;
            ASSERT_EQ(binmalloc::reallocate(old_block, size), nullptr)
                << old_size << " -> " << size;
            ASSERT_EQ(binmalloc::reallocate(old_block, size, 4096), nullptr)
                << old_size << " -> " << size;
            opaque(binmalloc::good_size(size));
        }
        EXPECT_TRUE(holds(old_block, old_size, 1));
        binmalloc::deallocate(old_block);
    }
    for (const std::size_t size : {1 * kib, 100 * kib, 10 * mib}) {
        void* const block = binmalloc::allocate(size);
        ASSERT_NE(block, nullptr);
        fill(block, size, size);
        EXPECT_TRUE(holds(block, size, size));
        binmalloc::deallocate(block);
    }
}

} // namespace
