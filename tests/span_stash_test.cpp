// Spans that threads keep near: the stash by itself, and in a heap with other threads at work.
#include <binmalloc/binmalloc.hpp>

#include "support/counting_pages.hpp"
#include "support/filled_block.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;
using binmalloc::detail::header_size;
using binmalloc::detail::make_span;
using binmalloc::detail::offset;
using binmalloc::detail::span;
using binmalloc::detail::span_stash;
using binmalloc::detail::stash_budget;
using binmalloc::detail::unit_header;
using binmalloc::detail::unit_kind;
using binmalloc::detail::unit_size;

/// A stash, and headers of units for it.
class SpanStash : public testing::Test {
protected:
    static constexpr unsigned many = 700;

    SpanStash()
    {
        budget.set(1000);
        stash.open_for(this, budget);
        stash.set_share(300);
    }
    unit_header* at(unsigned unit) const { return offset<unit_header>(first, unit * header_size); }

    /// As a heap does it.
    bool keep(unsigned unit, unsigned units)
    {
        span* s = make_span(at(unit), unit_kind::span, units * unit_size);
        const bool kept = stash.keep_quickly(s) || stash.keep(s);
        EXPECT_EQ(s->kind, kept ? unit_kind::none : unit_kind::span);
        return kept;
    }
    /// Effects: it has looked at its share.
    void ready()
    {
        ASSERT_TRUE(keep(many - 1, 1));
        ASSERT_EQ(take(1), at(many - 1));
    }
    /// The same with a block at p, whose place there is right for the sizes from `least` on.
    bool keep_block(unsigned unit, unsigned units, void* p, std::size_t least, std::size_t sizes)
    {
        span* s = make_span(at(unit), unit_kind::span, units * unit_size);
        s->least = least;
        s->sizes = sizes;
        const bool kept = stash.keep_latest(s, p);
        EXPECT_EQ(s->kind, kept ? unit_kind::none : unit_kind::span);
        return kept;
    }
    span* take(unsigned units)
    {
        span* s = stash.take_last(units);
        if (s == nullptr) s = stash.take(units);
        if (s != nullptr) {
            EXPECT_EQ(s->kind, unit_kind::span);
            EXPECT_EQ(s->bytes, units * unit_size);
        }
        return s;
    }

    stash_budget budget;
    span_stash stash;
    std::vector<span> headers{many};
    span* first = headers.data();
};

TEST_F(SpanStash, gives_what_was_freed_last)
{
    ASSERT_TRUE(keep(0, 5));
    ASSERT_TRUE(keep(10, 5));
    EXPECT_EQ(stash.held(), 10U);
    EXPECT_EQ(take(5), at(10));
    EXPECT_EQ(take(5), at(0));
    EXPECT_EQ(take(5), nullptr);
    EXPECT_EQ(stash.held(), 0U);
}

TEST_F(SpanStash, gives_the_latest_block_for_the_sizes_that_it_is_right_for)
{
    ready();
    EXPECT_EQ(stash.take_latest(0), nullptr);
    EXPECT_EQ(stash.take_latest(SIZE_MAX), nullptr);
    char block = 0;
    for (const std::size_t size : {100U, 105U, 109U}) {
        ASSERT_TRUE(keep_block(0, 5, &block, 100, 10));
        EXPECT_EQ(stash.held(), 5U);
        for (const std::size_t other : {std::size_t{0}, std::size_t{99}, std::size_t{110}, SIZE_MAX})
            EXPECT_EQ(stash.take_latest(other), nullptr) << other;
        EXPECT_EQ(stash.take_latest(size), &block);
        EXPECT_EQ(at(0)->kind, unit_kind::span);
        EXPECT_EQ(stash.held(), 0U);
        EXPECT_EQ(stash.take_latest(size), nullptr) << "it is gone";
        EXPECT_EQ(take(5), nullptr);
    }
    ASSERT_TRUE(keep_block(0, 5, &block, 100, 0)) << "nobody knows its sizes";
    EXPECT_EQ(stash.take_latest(100), nullptr);
    EXPECT_EQ(take(5), at(0));
}

TEST_F(SpanStash, has_the_latest_among_all_others_once_it_is_not_that)
{
    ready();
    char blocks[3]{};
    for (unsigned i = 0; i < 3; ++i) ASSERT_TRUE(keep_block(i * 10, 5 + i, &blocks[i], 100, 10));
    EXPECT_EQ(stash.held(), 18U);
    EXPECT_EQ(take(6), at(10)) << "it was displaced";
    EXPECT_EQ(stash.take_latest(105), &blocks[2]);
    EXPECT_EQ(take(5), at(0));
    ASSERT_TRUE(keep_block(20, 7, &blocks[2], 100, 10));
    EXPECT_EQ(take(7), at(20)) << "for another size it is a span like all others";
    EXPECT_EQ(stash.take_latest(105), nullptr);
    ASSERT_TRUE(keep_block(20, 7, &blocks[2], 100, 10));
    ASSERT_TRUE(keep(40, 3)) << "units without a block do not displace it";
    EXPECT_EQ(stash.take_latest(105), &blocks[2]);
    EXPECT_EQ(stash.held(), 3U);
}

TEST_F(SpanStash, counts_the_latest_as_all_others)
{
    ready();
    char block = 0;
    for (unsigned i = 0; i < 8; ++i) ASSERT_TRUE(keep_block(i * 8, 8, &block, 100, 10));
    EXPECT_EQ(stash.held(), 64U);
    EXPECT_FALSE(keep_block(300, 1, &block, 100, 10));
    EXPECT_FALSE(keep(300, 1));
    EXPECT_EQ(stash.held(), 64U);
    EXPECT_EQ(take(8), at(56));
    EXPECT_TRUE(keep(300, 8));
    EXPECT_FALSE(keep(320, 1));
    std::uint32_t given = 0;
    const auto count = [&given](unit_header* const*, const std::uint32_t* units, unsigned spans) {
        for (unsigned i = 0; i < spans; ++i) given += units[i];
    };
    ASSERT_EQ(take(8), at(300));
    ASSERT_TRUE(keep_block(300, 8, &block, 100, 10));
    stash.empty(count);
    EXPECT_EQ(given, 64U);
    EXPECT_EQ(stash.held(), 0U);
    EXPECT_EQ(stash.take_latest(100), nullptr);

    ASSERT_TRUE(keep_block(0, 8, &block, 100, 10));
    stash.close();
    EXPECT_EQ(stash.take_latest(100), nullptr) << "a thief is at it";
    EXPECT_FALSE(keep_block(300, 1, &block, 100, 10));
    stash.steal(count);
    EXPECT_EQ(given, 72U);
    stash.open();
    EXPECT_EQ(stash.take_latest(100), nullptr) << "stolen";
    EXPECT_EQ(stash.held(), 0U);
}

TEST_F(SpanStash, looks_at_the_page_allocator_now_and_then_for_the_latest_too)
{
    ready();
    char block = 0;
    int turns = 0;
    while (keep_block(0, 5, &block, 100, 10) && turns < 1000) {
        ASSERT_EQ(stash.take_latest(100), &block);
        ++turns;
    }
    EXPECT_EQ(turns, 254);
    EXPECT_FALSE(keep(0, 5)) << "it is time";
    EXPECT_TRUE(keep_block(0, 5, &block, 100, 10));
}

TEST_F(SpanStash, gives_the_front_of_the_tightest_that_is_long_enough)
{
    ASSERT_TRUE(keep(0, 9));
    ASSERT_TRUE(keep(20, 7));
    ASSERT_TRUE(keep(40, 2));
    EXPECT_EQ(take(6), at(20));
    EXPECT_EQ(take(8), at(0));
    EXPECT_EQ(take(1), at(8)) << "what was left over last";
    EXPECT_EQ(take(1), at(26));
    EXPECT_EQ(take(2), at(40));
    EXPECT_EQ(stash.held(), 0U);
}

TEST_F(SpanStash, finds_the_tightest_of_long_ones)
{
    ASSERT_TRUE(keep(0, 60));
    stash.missed(300, false);
    ASSERT_TRUE(keep(100, 50));
    ASSERT_TRUE(keep(200, 70));
    EXPECT_EQ(take(50), at(100)) << "though it is not the last";
    EXPECT_EQ(take(65), at(200));
    EXPECT_EQ(take(61), nullptr);
    EXPECT_EQ(take(35), at(0));
    EXPECT_EQ(take(25), at(35));
    EXPECT_EQ(stash.held(), 5U);
}

TEST_F(SpanStash, does_not_cut_up_what_is_little_longer_for_a_short_one)
{
    ASSERT_TRUE(keep(0, 4));
    ASSERT_TRUE(keep(10, 6));
    EXPECT_EQ(take(3), nullptr);
    ASSERT_TRUE(keep(20, 9));
    EXPECT_EQ(take(3), at(20));
    EXPECT_EQ(take(5), at(23)) << "five are not so few";
    EXPECT_EQ(take(4), at(0));
    EXPECT_EQ(take(6), at(10));
    EXPECT_EQ(take(1), at(28));
    EXPECT_EQ(stash.held(), 0U);
}

TEST_F(SpanStash, joins_neighbours_in_any_order_when_that_is_needed)
{
    std::vector<unsigned> order{3, 0, 4, 1, 2};
    for (const unsigned i : order) ASSERT_TRUE(keep(i * 10, 10));
    ASSERT_TRUE(keep(51, 9)) << "a gap of one unit";
    EXPECT_EQ(take(51), nullptr);
    EXPECT_EQ(take(50), at(0));
    EXPECT_EQ(take(9), at(51));
}

TEST_F(SpanStash, gives_each_span_once_however_many_there_are)
{
    for (unsigned i = 0; i < 60; ++i) ASSERT_TRUE(keep(i * 3, 1));
    std::vector<bool> given(many);
    std::size_t spans = 0;
    stash.empty([&](unit_header* const* spans_given, const std::uint32_t* units, unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            const auto place = static_cast<std::size_t>(static_cast<span*>(spans_given[i]) - first);
            EXPECT_EQ(units[i], 1U);
            EXPECT_FALSE(given[place]);
            given[place] = true;
        }
        spans += count;
    });
    EXPECT_EQ(spans, 60U);
    EXPECT_EQ(stash.held(), 0U);
    EXPECT_EQ(take(1), nullptr);
    stash.empty([](unit_header* const*, const std::uint32_t*, unsigned) { FAIL() << "nothing is left"; });
}

TEST_F(SpanStash, thins_out_where_there_is_most)
{
    for (unsigned i = 0; i < 12; ++i) ASSERT_TRUE(keep(i * 4, 3));
    for (unsigned i = 0; i < 14; ++i) ASSERT_TRUE(keep(100 + i * 4, 2));
    const span* one = make_span(at(300), unit_kind::span, unit_size);
    EXPECT_FALSE(keep(300, 1));
    EXPECT_TRUE(stash.is_full_for(one));
    std::uint32_t given = 0;
    stash.thin_out(one, [&](unit_header* const*, const std::uint32_t* units, unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            EXPECT_EQ(units[i], 3U);
            given += units[i];
        }
    });
    EXPECT_EQ(given, 36U);
    EXPECT_EQ(stash.held(), 28U);
    EXPECT_FALSE(stash.is_full_for(one));
    EXPECT_TRUE(keep(300, 1));
    EXPECT_EQ(take(3), nullptr);
    EXPECT_EQ(take(2), at(100 + 13 * 4));
}

TEST_F(SpanStash, thins_out_until_there_is_room)
{
    for (unsigned i = 0; i < 8; ++i) {
        for (const unsigned units : {1U, 2U, 3U}) ASSERT_TRUE(keep(units * 100 + i * 4, units));
        ASSERT_TRUE(i % 2 != 0 || keep(400 + i * 5, 4));
    }
    const span* half = make_span(at(600), unit_kind::span, 32 * unit_size);
    ASSERT_TRUE(stash.is_full_for(half));
    stash.thin_out(half, [](unit_header* const*, const std::uint32_t*, unsigned) {});
    EXPECT_TRUE(keep(600, 32));
}

TEST_F(SpanStash, is_not_thinned_out_for_what_takes_more_than_half_of_it)
{
    ASSERT_TRUE(keep(0, 40));
    EXPECT_FALSE(keep(100, 33));
    EXPECT_FALSE(stash.is_full_for(make_span(at(100), unit_kind::span, 33 * unit_size)));
    EXPECT_TRUE(stash.is_full_for(make_span(at(100), unit_kind::span, 32 * unit_size)));
}

TEST_F(SpanStash, keeps_no_more_than_its_thread_has_asked_for)
{
    EXPECT_FALSE(keep(0, 100)) << "more than 1 MiB";
    stash.missed(100, false);
    EXPECT_TRUE(keep(0, 100));
    EXPECT_EQ(take(100), at(0));
    // It is not asked for again.
    for (int i = 0; i < 1000; ++i) {
        if (keep(200, 1)) take(1);
    }
    EXPECT_FALSE(keep(0, 100));
}

TEST_F(SpanStash, keeps_more_for_a_thread_that_often_asks_in_vain)
{
    for (int i = 0; i < 100; ++i) stash.missed(3, false);
    EXPECT_FALSE(keep(0, 200)) << "it freed nothing in between";
    for (unsigned i = 0; i < 100; ++i) {
        ASSERT_TRUE(keep(i % 5 * 3, 3));
        ASSERT_EQ(take(5), nullptr);
        stash.missed(5, false);
        ASSERT_NE(take(3), nullptr);
    }
    EXPECT_TRUE(keep(0, 200));
    EXPECT_TRUE(keep(200, 200));
    EXPECT_FALSE(keep(400, 113)) << "more than 8 MiB";
    EXPECT_EQ(take(200), at(200));
    // It asks no more.
    EXPECT_EQ(take(200), at(0));
    for (int i = 0; i < 1000; ++i) {
        if (keep(0, 1)) take(1);
    }
    EXPECT_FALSE(keep(0, 200));
}

TEST_F(SpanStash, heeds_a_smaller_share_at_once)
{
    ASSERT_TRUE(keep(0, 5));
    budget.set(0);
    stash.set_share(0);
    EXPECT_FALSE(keep(10, 1));
    EXPECT_EQ(take(5), at(0));
    EXPECT_FALSE(keep(0, 5));
    stash.set_share(5);
    EXPECT_TRUE(keep(0, 5));
    EXPECT_FALSE(keep(10, 1));
}

TEST_F(SpanStash, has_nothing_for_absurd_requests)
{
    EXPECT_EQ(stash.take_last(SIZE_MAX), nullptr);
    EXPECT_EQ(stash.take(SIZE_MAX), nullptr);
    ASSERT_TRUE(keep(0, 1));
    const std::size_t wraps = SIZE_MAX / 2 + 2; // 1 in the lower half of it
    EXPECT_EQ(stash.take_last(wraps), nullptr);
    EXPECT_EQ(stash.take(wraps), nullptr);
    EXPECT_EQ(take(1), at(0));
}

TEST_F(SpanStash, borrows_beyond_its_share)
{
    const auto budget_left = [this] {
        std::size_t left = 0;
        while (budget.borrow(1)) ++left;
        budget.give_back(left);
        return left;
    };
    stash.missed(390, false);
    EXPECT_TRUE(keep(0, 10));
    EXPECT_EQ(budget_left(), 1000U);
    EXPECT_TRUE(keep(10, 380));
    EXPECT_EQ(budget_left(), 910U);
    EXPECT_EQ(take(380), at(10));
    EXPECT_TRUE(keep(10, 380));
    EXPECT_EQ(budget_left(), 910U) << "kept for next time";
    stash.empty([](unit_header* const*, const std::uint32_t*, unsigned) {});
    EXPECT_EQ(budget_left(), 1000U);
    ASSERT_TRUE(budget.borrow(911));
    EXPECT_FALSE(keep(0, 390)) << "there is not so much left";
    EXPECT_TRUE(keep(0, 389));
    EXPECT_EQ(take(389), at(0));
    EXPECT_EQ(budget_left(), 0U);
    // What is not asked for any more is not needed either.
    for (int i = 0; i < 1000; ++i) {
        if (keep(0, 1)) take(1);
    }
    EXPECT_EQ(budget_left(), 89U);
}

TEST_F(SpanStash, is_left_alone_while_its_owner_is_in_it)
{
    ASSERT_TRUE(keep(0, 5));
    bool stolen = false;
    const auto steal = [&] {
        stash.close();
        stash.steal([&](unit_header* const*, const std::uint32_t*, unsigned) { stolen = true; });
        stash.open();
    };
    // The owner is stopped in the middle, as it were.
    stash.empty([&](unit_header* const*, const std::uint32_t*, unsigned) {
        std::thread(steal).join();
    });
    EXPECT_FALSE(stolen);
    ASSERT_TRUE(keep(0, 5));
    std::thread(steal).join();
    EXPECT_TRUE(stolen);
    EXPECT_EQ(stash.held(), 0U);
}

// --- in a heap

std::size_t dirty() { return binmalloc::statistics().dirty; }

TEST(Stashes, of_sleeping_threads_are_emptied_by_purge)
{
    if (!binmalloc::os::barrier_on_all_threads()) GTEST_SKIP() << "the system has no such call";
    constexpr std::size_t count = 40; // on computers of this size more than leases
    latch freed(count);
    latch done(1);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i) {
        threads.emplace_back([&] {
            binmalloc::deallocate(binmalloc::allocate(700 * kib));
            freed.count_down();
            done.wait();
            const live_block block = filled_block(700 * kib, 1);
            EXPECT_TRUE(free_checked(block));
        });
    }
    freed.wait();
    binmalloc::purge();
    // Of a page that is larger than a unit, other units may be in use.
    const std::size_t page = binmalloc::os_pages::page_size();
    EXPECT_LE(dirty(), page > 16 * kib ? count * page : 0);
    done.count_down();
    for (std::thread& thread : threads) thread.join();
}

struct impatient_footprint : binmalloc::default_footprint {
    static constexpr std::uint64_t purge_delay_ms = 10;
};

TEST(Stashes, of_sleeping_threads_are_emptied_as_others_use_the_heap)
{
    if (!binmalloc::os::barrier_on_all_threads()) GTEST_SKIP() << "the system has no such call";
    struct tag;
    using own = binmalloc::basic_heap<counting_policy<tag, impatient_footprint>>;
    constexpr std::size_t size = std::min(5 * mib, binmalloc::detail::max_span_size);
    latch freed(1);
    latch done(1);
    std::thread sleeper([&] {
        own::deallocate(own::allocate(size));
        freed.count_down();
        done.wait();
    });
    freed.wait();
    EXPECT_GE(own::statistics().dirty, size);
    for (int i = 0; i < 500 && own::statistics().dirty >= size / 2; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        for (int k = 0; k < 300; ++k) own::deallocate(own::allocate(20 * kib));
    }
    EXPECT_LT(own::statistics().dirty, size / 2);
    done.count_down();
    sleeper.join();
}

TEST(Stashes, are_emptied_while_their_threads_use_them)
{
    std::atomic<std::size_t> damaged = 0;
    std::atomic<std::size_t> working = 8;
    run_threads(9, [&](std::size_t me) {
        if (me == 8) {
            while (working.load() != 0) binmalloc::purge();
            return;
        }
        random_source random(seed() + me);
        std::vector<live_block> blocks(8);
        for (std::size_t i = 0; i < scaled(20000, 1000); ++i) {
            live_block& block = blocks[random.below(blocks.size())];
            if (block.address != nullptr) damaged += free_checked(block) ? 0 : 1;
            block = filled_block(20 * kib + random.size_up_to(80 * kib), i);
        }
        for (const live_block& block : blocks) {
            if (block.address != nullptr) damaged += free_checked(block) ? 0 : 1;
        }
        --working;
    });
    EXPECT_EQ(damaged, 0U);
    binmalloc::purge();
    EXPECT_LE(dirty(), 1 * mib);
}

} // namespace
