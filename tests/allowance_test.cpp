// How much freed memory may wait, and how that is learned.
#include <binmalloc/allowance.hpp>

#include "support/process.hpp"

#include <gtest/gtest.h>

#include <cstddef>

namespace {

using namespace binmalloc_test;

struct footprint : binmalloc::default_footprint {
    static constexpr std::size_t dirty_floor = 1 * mib;
    static constexpr std::size_t dirty_start = 0;
    static constexpr std::size_t dirty_ceiling = 100 * mib;
    static constexpr std::size_t dirty_divisor = 2;
};

using allowance = binmalloc::detail::allowance<footprint>;

constexpr std::size_t live = 40 * mib;

TEST(Allowance, begins_with_the_floor_or_an_eighth_of_what_lives)
{
    const allowance a;
    EXPECT_EQ(a.limit(0), 1 * mib);
    EXPECT_EQ(a.limit(4 * mib), 1 * mib);
    EXPECT_EQ(a.limit(live), 5 * mib);
}

struct generous_footprint : footprint {
    static constexpr std::size_t dirty_start = 20 * mib;
};

TEST(Allowance, begins_with_what_the_footprint_starts_with_until_nobody_needed_it)
{
    binmalloc::detail::allowance<generous_footprint> a;
    EXPECT_EQ(a.limit(0), 20 * mib);
    EXPECT_EQ(a.limit(live), 20 * mib);
    EXPECT_EQ(a.limit(1000 * mib), 125 * mib);
    a.note_given_back(12 * mib, false);
    EXPECT_EQ(a.limit(live), 8 * mib);
    a.note_given_back(12 * mib, false);
    EXPECT_EQ(a.limit(live), 5 * mib);
    EXPECT_EQ(a.limit(0), 1 * mib);
}

TEST(Allowance, is_raised_by_what_is_needed_again_in_the_same_round)
{
    allowance a;
    a.note_given_back(20 * mib, true);
    EXPECT_EQ(a.limit(live), 5 * mib);
    a.note_need(8 * mib, live);
    EXPECT_EQ(a.limit(live), 10 * mib);
    a.note_need(30 * mib, live); // of which 12 were given back
    EXPECT_EQ(a.limit(live), 25 * mib);
    a.note_need(30 * mib, live);
    EXPECT_EQ(a.limit(live), 25 * mib);
}

TEST(Allowance, is_not_raised_by_what_was_given_back_rounds_ago)
{
    allowance a;
    a.note_given_back(20 * mib, true);
    a.begin_round();
    a.note_need(20 * mib, live);
    EXPECT_EQ(a.limit(live), 5 * mib);
}

TEST(Allowance, is_lowered_by_what_nobody_needed)
{
    allowance a;
    a.note_given_back(20 * mib, true);
    a.note_need(20 * mib, live);
    a.note_given_back(10 * mib, false);
    EXPECT_EQ(a.limit(live), 15 * mib);
    a.note_given_back(100 * mib, false);
    EXPECT_EQ(a.limit(live), 5 * mib);
}

TEST(Allowance, never_passes_its_ceiling)
{
    allowance a;
    a.note_given_back(1000 * mib, true);
    a.note_need(1000 * mib, live);
    EXPECT_EQ(a.limit(live), 100 * mib);
    EXPECT_EQ(a.ceiling(1000 * mib), 500 * mib);
    EXPECT_EQ(a.limit(1000 * mib), 125 * mib);
}

TEST(Allowance, has_a_ceiling_by_what_lived_at_most_in_this_round_and_the_last)
{
    allowance a;
    a.note_given_back(400 * mib, true);
    a.note_need(400 * mib, 1000 * mib);
    EXPECT_EQ(a.limit(live), 500 * mib);
    a.begin_round();
    a.note_need(0, live);
    EXPECT_EQ(a.limit(live), 500 * mib);
    a.begin_round();
    EXPECT_EQ(a.limit(live), 100 * mib);
    EXPECT_EQ(a.ceiling(1000 * mib), 500 * mib);
}

TEST(Allowance, a_round_of_giving_back_ends_below_it)
{
    allowance a;
    for (const std::size_t given : {std::size_t{0}, 10 * mib, 50 * mib, 200 * mib}) {
        a.note_given_back(given, true);
        a.note_need(given, live);
        EXPECT_LT(a.target(live), a.limit(live));
        EXPECT_GE(a.target(live), a.limit(live) / 2);
    }
}

} // namespace
