// What the page allocator keeps, what it gives back, and how often it asks the system.
#include <binmalloc/background_purge.hpp>
#include <binmalloc/binmalloc.hpp>

#include "support/counting_pages.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

struct shared; // by the tests
using counts = counting_pages<shared>;
template <class Footprint>
using heap_with = binmalloc::basic_heap<counting_policy<shared, Footprint>>;
using heap = heap_with<binmalloc::default_footprint>;

template <class Heap>
std::vector<void*> blocks_of(std::size_t size, std::size_t bytes)
{
    std::vector<void*> blocks(bytes / size);
    for (void*& block : blocks) {
        block = Heap::allocate(size);
        if (block != nullptr) fill(block, std::min(size, 4 * kib), 1);
    }
    return blocks;
}

template <class Heap>
void free_all(std::vector<void*>& blocks)
{
    for (void* const block : blocks) Heap::deallocate(block);
    blocks.clear();
}

// --- system calls

void use_again_and_again(std::size_t size)
{
    heap::purge(); // what waits there counts too
    const auto rounds = [size](int n) {
        for (int i = 0; i < n; ++i) {
            void* const block = heap::allocate(size);
            ASSERT_NE(block, nullptr);
            heap::deallocate(block);
        }
    };
    rounds(2000);
    const std::size_t before = counts::calls;
    rounds(5000);
    EXPECT_EQ(counts::calls, before) << "blocks of " << size;
}

TEST(PageStore, in_steady_state_no_size_needs_the_system)
{
    if (sanitized) GTEST_SKIP() << "marking 100 MiB takes so long there that memory ages meanwhile";
    for (const std::size_t size :
         {20 * kib, 64 * kib, 256 * kib, 1 * mib, 8 * mib, 40 * mib, 100 * mib})
        use_again_and_again(size);
}

/// Returns: how often the system is asked while random ones of `count` blocks are replaced 5000 times,
/// after 3000 replacements that do not count.
std::size_t calls_of_replacements(std::size_t count, std::size_t least, std::size_t most)
{
    random_source random(seed());
    std::vector<void*> live(count);
    std::size_t before = 0;
    for (const std::size_t replacements : {3000U, 5000U}) {
        before = counts::calls;
        for (std::size_t i = 0; i < replacements; ++i) {
            void*& block = live[random.below(live.size())];
            heap::deallocate(block);
            block = heap::allocate(least + random.size_up_to(most - least));
            EXPECT_NE(block, nullptr);
        }
    }
    const std::size_t calls = counts::calls - before;
    free_all<heap>(live);
    return calls;
}

TEST(PageStore, a_working_set_of_changing_sizes_needs_it_rarely)
{
    EXPECT_LE(calls_of_replacements(16, 0, std::min(4 * mib, binmalloc::detail::max_span_size)), 50U);
}

TEST(PageStore, a_large_one_whose_sum_swings_does_too)
{
    if (sizeof(void*) == 4) GTEST_SKIP() << "such spans have mappings of their own there";
    if (sanitized) GTEST_SKIP() << "marking so much takes so long there that memory ages meanwhile";
    EXPECT_LE(calls_of_replacements(20, 5 * mib, 25 * mib), 20U);
}

// --- what stays behind

/// On a heap of its own: what was needed before is kept.
template <std::size_t Size>
void use_once()
{
    struct tag;
    using fresh_heap = binmalloc::basic_heap<counting_policy<tag>>;
    auto blocks = blocks_of<fresh_heap>(Size, 128 * mib);
    free_all<fresh_heap>(blocks);
    // What may wait at first, what the thread keeps near, and the slabs of the bin.
    constexpr std::size_t may_wait = std::max(binmalloc::default_footprint::dirty_floor,
                                              binmalloc::default_footprint::dirty_start);
    EXPECT_LE(fresh_heap::statistics().dirty, may_wait + 1 * mib) << "blocks of " << Size;
    EXPECT_LE(fresh_heap::statistics().live, 1 * mib) << "blocks of " << Size;
}

TEST(PageStore, little_waits_after_everything_was_freed_though_no_call_follows)
{
    use_once<100>();
    use_once<3 * kib>();
    use_once<20 * kib>();
    use_once<300 * kib>();
}

TEST(PageStore, what_is_needed_again_and_again_is_kept)
{
    for (int phase = 0; phase < 6; ++phase) {
        auto blocks = blocks_of<heap>(700 * kib, 60 * mib);
        free_all<heap>(blocks);
    }
    const std::size_t before = counts::calls;
    for (int phase = 0; phase < 4; ++phase) {
        auto blocks = blocks_of<heap>(700 * kib, 60 * mib);
        free_all<heap>(blocks);
    }
    EXPECT_LE(counts::calls - before, 4U) << "an aging round may come in between";
}

struct impatient_footprint : binmalloc::default_footprint {
    static constexpr std::uint64_t purge_delay_ms = 10;
};
using impatient_heap = heap_with<impatient_footprint>;

TEST(PageStore, what_was_needed_once_ages_while_the_heap_is_used)
{
    for (int phase = 0; phase < 6; ++phase) {
        auto blocks = blocks_of<impatient_heap>(700 * kib, 60 * mib);
        free_all<impatient_heap>(blocks);
    }
    for (int i = 0; i < 200 && impatient_heap::statistics().dirty > 2 * mib; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        for (int k = 0; k < 300; ++k) impatient_heap::deallocate(impatient_heap::allocate(20 * kib));
    }
    EXPECT_LE(impatient_heap::statistics().dirty, 2 * mib);
    // The next time it is not taken for what is needed again and again.
    auto blocks = blocks_of<impatient_heap>(700 * kib, 60 * mib);
    free_all<impatient_heap>(blocks);
    EXPECT_LE(impatient_heap::statistics().dirty, binmalloc::default_footprint::dirty_floor + 45 * mib);
}

TEST(PageStore, a_large_heap_is_made_of_few_regions)
{
    heap::purge();
    void* const first = heap::allocate(1);
    const std::size_t small = heap::statistics().reserved;
    EXPECT_LE(small, binmalloc::detail::first_region_size);
    const std::size_t before = counts::calls;
    std::vector<void*> blocks;
    for (int i = 0; i < 200; ++i) blocks.push_back(heap::allocate(4 * mib));
    EXPECT_LE(counts::calls - before, sizeof(void*) == 8 ? 10U : 300U); // 32-bit: each has a mapping
    free_all<heap>(blocks);
    heap::deallocate(first);
    heap::purge();
    EXPECT_LE(heap::statistics().reserved, small);
}

// --- where spans go

struct generous_footprint : binmalloc::default_footprint {
    static constexpr std::size_t dirty_floor = 256 * mib;
    static constexpr std::size_t dirty_ceiling = 256 * mib;
};

TEST(PageStore, a_large_span_takes_the_tightest_place_that_was_in_use)
{
    if (sizeof(void*) == 4) GTEST_SKIP() << "such spans have mappings of their own there";
    binmalloc::basic_page_allocator<binmalloc::os_pages, generous_footprint> pages;
    void* const wide = pages.allocate(12 * mib);
    void* const first_wall = pages.allocate(64 * kib);
    void* const tight = pages.allocate(8 * mib);
    void* const last_wall = pages.allocate(64 * kib);
    pages.deallocate(wide);
    pages.deallocate(tight);
    EXPECT_EQ(pages.allocate(7 * mib), tight);
    EXPECT_EQ(pages.allocate(12 * mib), wide);
    for (void* const block : {wide, tight, first_wall, last_wall}) pages.deallocate(block);
}

// --- other ways to give back

struct lazy_footprint : impatient_footprint {
    static constexpr bool discard_lazily = true;
};
using lazy_heap = heap_with<lazy_footprint>;

TEST(PageStore, discarded_memory_is_not_taken_for_zero)
{
    for (int round = 0; round < 5; ++round) {
        std::vector<void*> blocks;
        for (int i = 0; i < 200; ++i) {
            auto* const block = static_cast<unsigned char*>(lazy_heap::allocate_zeroed(300 * kib));
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(std::all_of(block, block + 300 * kib, [](unsigned char c) { return c == 0; }));
            fill(block, 300 * kib, 7);
            blocks.push_back(block);
        }
        lazy_heap::deallocate(blocks.back());
        blocks.pop_back();
        void* const between = blocks[50]; // so that its region stays
        blocks[50] = nullptr;
        free_all<lazy_heap>(blocks);
        lazy_heap::deallocate(between);
    }
    EXPECT_GE(counts::discards, 1U);
    lazy_heap::purge();
    EXPECT_EQ(lazy_heap::statistics().dirty, 0U);
}

TEST(PageStore, scattered_memory_goes_back_in_few_calls)
{
    heap::purge();
    constexpr std::size_t pieces = 1000;
    constexpr std::size_t size = 128 * kib - 64; // whole units, and no more
    auto blocks = blocks_of<heap>(size, pieces * size);
    std::vector<void*> kept; // one between any two, so that nothing is joined
    for (std::size_t i = 1; i < pieces; i += 2) kept.push_back(blocks[i]);
    const std::size_t before = counts::calls;
    for (std::size_t i = 0; i < pieces; i += 2) heap::deallocate(blocks[i]);
    heap::purge();
    EXPECT_LE(counts::calls, before + pieces / 2 / 8) << "a call for each piece would be " << pieces / 2;
    // Where an OS page is larger than a unit, a piece shares its first and its last one with its neighbours.
    const std::size_t os_page = binmalloc::os::page_size();
    const std::size_t stays = os_page > binmalloc::detail::unit_size ? os_page : 0;
    EXPECT_LE(heap::statistics().dirty, pieces / 2 * stays);
    for (const void* block : kept) {
        ASSERT_TRUE(holds(block, 4 * kib, 1));
    }
    free_all<heap>(kept);
}

template <class Heap>
void rest_with_background_purge()
{
    for (int phase = 0; phase < 6; ++phase) {
        auto blocks = blocks_of<Heap>(700 * kib, 60 * mib);
        free_all<Heap>(blocks);
    }
    EXPECT_GT(Heap::statistics().dirty, 0U);
    {
        const binmalloc::basic_background_purge<Heap> purging(std::chrono::milliseconds(5));
        // Twice in a row: what is on its way from a stash to the page allocator counts as live.
        for (int i = 0, clean = 0; i < 400 && clean < 2; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            clean = Heap::statistics().dirty == 0 ? clean + 1 : 0;
        }
    }
    EXPECT_EQ(Heap::statistics().dirty, 0U);
    const binmalloc::basic_background_purge<Heap> ends_at_once(std::chrono::hours(1));
}

struct impatient_single_policy : binmalloc::single_cache_policy {
    using footprint = impatient_footprint;
};

TEST(BackgroundPurge, gives_everything_back_while_the_program_rests)
{
    if (binmalloc::os::barrier_on_all_threads())
        rest_with_background_purge<impatient_heap>();
    rest_with_background_purge<binmalloc::basic_heap<impatient_single_policy>>();
}

// --- moving pages

bool pages_can_move()
{
    using pages = counts;
    const std::size_t size = 64 * kib;
    void* const from = pages::reserve(size, size);
    void* const to = pages::reserve(size, size);
    const bool can = pages::commit(from, size) && pages::commit(to, size)
        && pages::move_out(from, size, to);
    pages::release(from, size);
    pages::release(to, size);
    pages::moves_out = 0;
    return can;
}

TEST(PageStore, a_large_span_that_cannot_grow_in_place_moves_its_pages)
{
    const bool can = pages_can_move();
    for (const std::size_t old_size : {3 * mib, 9 * mib + 5, 60 * mib}) {
        void* block = heap::allocate(old_size);
        ASSERT_NE(block, nullptr);
        fill(block, old_size, old_size);
        std::vector<void*> neighbours; // until one of them is behind it
        for (int i = 0; i < 100; ++i) neighbours.push_back(heap::allocate(1 * mib));
        const std::size_t dirty_before = heap::statistics().dirty;
        block = heap::reallocate(block, old_size + 1);
        if (can && sizeof(void*) == 8) {
            EXPECT_LE(heap::statistics().dirty, dirty_before) << "its old place has no memory";
        }
        for (std::size_t size = old_size + 1 * mib; size < 200 * mib; size += size / 2) {
            block = heap::reallocate(block, size);
            ASSERT_NE(block, nullptr);
            ASSERT_GE(heap::usable_size(block), size);
            ASSERT_TRUE(holds_prefix(block, old_size, old_size)) << old_size << " to " << size;
            static_cast<unsigned char*>(block)[size - 1] = 1;
        }
        for (std::size_t size = 150 * mib; size > old_size; size /= 2) {
            block = heap::reallocate(block, size);
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(holds_prefix(block, old_size, old_size)) << old_size << ", back to " << size;
        }
        heap::deallocate(block);
        free_all<heap>(neighbours);
    }
    // The place where it was is whole, and reads as zero where it is said to.
    auto blocks = blocks_of<heap>(1 * mib, 100 * mib);
    free_all<heap>(blocks);
    for (int i = 0; i < 40; ++i) {
        auto* const zeroed = static_cast<unsigned char*>(heap::allocate_zeroed(3 * mib));
        ASSERT_NE(zeroed, nullptr);
        ASSERT_TRUE(std::all_of(zeroed, zeroed + 3 * mib, [](unsigned char c) { return c == 0; }));
        fill(zeroed, 3 * mib, 1);
        blocks.push_back(zeroed);
    }
    free_all<heap>(blocks);
    if (sizeof(void*) == 8) {
        EXPECT_EQ(counts::moves_out > 0, can);
    }
}

// --- huge pages

struct huge_pages_footprint : binmalloc::default_footprint {
    static constexpr std::size_t huge_pages_from = 0;
};
using huge_heap = heap_with<huge_pages_footprint>;

TEST(PageStore, huge_pages_are_asked_for_by_option_and_not_where_holes_were_made)
{
    auto others = blocks_of<heap>(100 * kib, 100 * mib);
    EXPECT_EQ(counts::huge_pages_wanted, 0U) << "not by default";
    free_all<heap>(others);

    auto blocks = blocks_of<huge_heap>(100 * kib, 20 * mib);
    EXPECT_GE(counts::huge_pages_wanted, 1U);
    EXPECT_EQ(counts::huge_pages_unwanted, 0U);
    for (std::size_t i = 0; i < blocks.size(); i += 2) {
        huge_heap::deallocate(blocks[i]);
        blocks[i] = nullptr;
    }
    huge_heap::purge();
    EXPECT_GE(counts::huge_pages_unwanted, 1U);
    for (void* const block : blocks) {
        if (block != nullptr) {
            EXPECT_TRUE(holds_prefix(block, 4 * kib, 1));
        }
    }
    free_all<huge_heap>(blocks);
}

} // namespace
