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
    static constexpr unsigned many = 400;

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
    unit_header* first = headers.data();
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

TEST_F(SpanStash, gives_the_front_of_the_tightest_that_is_long_enough)
{
    ASSERT_TRUE(keep(0, 9));
    ASSERT_TRUE(keep(20, 7));
    ASSERT_TRUE(keep(40, 2));
    EXPECT_EQ(take(6), at(20));
    EXPECT_EQ(take(8), at(0));
    EXPECT_EQ(take(1), at(26));
    EXPECT_EQ(take(1), at(8));
    EXPECT_EQ(take(2), at(40));
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

TEST_F(SpanStash, has_room_for_a_few_runs)
{
    for (unsigned i = 0; i < span_stash::capacity; ++i) ASSERT_TRUE(keep(i * 4, 2));
    EXPECT_TRUE(stash.is_full());
    EXPECT_FALSE(keep(200, 2));
    EXPECT_EQ(take(2), at((span_stash::capacity - 1) * 4));
    EXPECT_TRUE(keep(200, 2));
    unsigned runs = 0;
    stash.empty([&runs](unit_header* const*, const std::uint32_t*, unsigned count) { runs = count; });
    EXPECT_EQ(runs, span_stash::capacity);
    EXPECT_EQ(stash.held(), 0U);
    EXPECT_EQ(take(1), nullptr);
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
    EXPECT_FALSE(keep(200, 100)) << "more than 4 MiB";
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
    constexpr std::size_t count = 12; // more than leases
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
