// The regions' free units, against a table that says of each unit what it is.
#include <binmalloc/page_source.hpp>
#include <binmalloc/region_set.hpp>

#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace {

using namespace binmalloc::detail;
using namespace binmalloc_test;

/// A set of one small region, and what each of its units should be.
class RegionSet : public testing::Test {
protected:
    enum class state : std::uint8_t { live, clean, dirty };

    // Whole pages of 64 KiB; a whole region where these are small.
    static constexpr unsigned unit_count = std::min((first_unit / 4 + 250) * 4, units_per_region);
    static constexpr std::size_t any_number = SIZE_MAX;
    static constexpr unsigned first_large = 256; // from here on not all places are looked at

    void SetUp() override
    {
        memory_ = binmalloc::os_pages::reserve(bytes, region_size);
        ASSERT_NE(memory_, nullptr);
        ASSERT_TRUE(binmalloc::os_pages::commit(memory_, first_unit * unit_size));
        set.add(new (memory_) region, unit_count, nullptr);
        std::fill_n(units.begin() + first_unit, unit_count - first_unit, state::clean);
    }

    void TearDown() override
    {
        if (memory_ != nullptr) binmalloc::os_pages::release(memory_, bytes);
    }

    void mark(const unit_run& run, state s) { std::fill_n(units.begin() + run.first, run.count, s); }

    std::size_t count(const unit_run& run, state s) const
    {
        const auto first = units.begin() + run.first;
        return static_cast<std::size_t>(std::count(first, first + run.count, s));
    }

    /// The lengths of the runs of units that are so, for spans that are `alignment` units aligned.
    template <class Wanted>
    std::vector<unsigned> runs(unsigned alignment, Wanted wanted) const
    {
        std::vector<unsigned> lengths;
        for (unsigned begin = first_unit; begin < unit_count; ++begin) {
            unsigned end = begin;
            while (end < unit_count && wanted(units[end])) ++end;
            const unsigned aligned = (begin + alignment - 1) / alignment * alignment;
            if (aligned < end) lengths.push_back(end - aligned);
            begin = end;
        }
        return lengths;
    }

    /// Of the runs that are so, the shortest that is long enough; 0: there is none.
    template <class Wanted>
    unsigned tightest(unsigned count, unsigned alignment, Wanted wanted) const
    {
        unsigned best = 0;
        for (const unsigned length : runs(alignment, wanted))
            if (length >= count && (best == 0 || length < best)) best = length;
        return best;
    }

    /// Effects: acquires, and checks what is had against the table.
    void acquire(unsigned wanted, unsigned alignment)
    {
        const auto is_dirty = [](state s) { return s == state::dirty; };
        const auto is_free = [](state s) { return s != state::live; };
        bool zeroed = false;
        const unit_run run = set.acquire(wanted, alignment, any_number, zeroed);
        const unsigned best_dirty = tightest(wanted, alignment, is_dirty);
        const unsigned best_free = tightest(wanted, alignment, is_free);
        ASSERT_EQ(static_cast<bool>(run), best_free != 0);
        if (!run) return;
        ASSERT_EQ(run.count, wanted);
        ASSERT_EQ(run.first % alignment, 0U);
        ASSERT_EQ(count(run, state::live), 0U);
        ASSERT_EQ(zeroed, count(run, state::clean) == wanted);
        if (best_dirty != 0 && wanted < first_large) {
            ASSERT_EQ(count(run, state::dirty), wanted) << "dirty units first";
        }
        if (alignment == 1 && wanted < first_inexact) {
            const unsigned best = best_dirty != 0 ? best_dirty : best_free;
            unsigned end = run.first;
            while (end < unit_count && (best_dirty != 0 ? is_dirty(units[end]) : is_free(units[end])))
                ++end;
            if (best < first_inexact) {
                ASSERT_EQ(end - run.first, best) << "the tightest";
            }
        }
        mark(run, state::live);
        live.push_back(run);
    }

    void release(bool clean)
    {
        const std::size_t i = random.below(live.size());
        // Now and then a part, as when a span shrinks.
        release_at(i, random.one_in(4) ? random.below(live[i].count) : 0, clean);
    }

    void release_at(std::size_t i, std::size_t kept_units, bool clean)
    {
        const auto kept = static_cast<unsigned>(kept_units);
        unit_run run = live[i];
        live[i].count = kept;
        if (kept == 0) live.erase(live.begin() + static_cast<std::ptrdiff_t>(i));
        run = {run.where, run.first + kept, run.count - kept};
        set.release(run, clean);
        mark(run, clean ? state::clean : state::dirty);
    }

    void extend()
    {
        unit_run& run = live[random.below(live.size())];
        const auto more = static_cast<unsigned>(random.below(8) + 1);
        const unit_run following{run.where, run.first + run.count, more};
        const bool fits = following.first + more <= unit_count && count(following, state::live) == 0;
        ASSERT_EQ(set.acquire_after(run, more, any_number), fits);
        if (!fits) return;
        mark(following, state::live);
        run.count += more;
    }

    void decommit(unsigned alignment)
    {
        if (live.empty()) return; // the region would leave the set
        const unit_run run = set.take_dirty(false, alignment);
        if (!run) return;
        ASSERT_EQ(count(run, state::dirty), run.count);
        const bool done = !random.one_in(4);
        set.put_back(run, done);
        if (done) mark(run, state::clean);
    }

    void check_sums() const
    {
        const unit_run all{nullptr, first_unit, unit_count - first_unit};
        ASSERT_EQ(set.dirty_units(), count(all, state::dirty));
        ASSERT_EQ(set.live_units(), count(all, state::live));
    }

    static constexpr std::size_t bytes = unit_count * unit_size;

    region_set set;
    std::vector<state> units = std::vector<state>(unit_count, state::live);
    std::vector<unit_run> live;
    random_source random{seed()};

private:
    void* memory_ = nullptr;
};

TEST_F(RegionSet, is_as_the_table_says)
{
    const int steps = 20'000;
    for (int step = 0; step < steps && !HasFatalFailure(); ++step) {
        const bool filling = step / 500 % 2 == 0;
        if (live.empty() || random.one_in(filling ? 2 : 4)) {
            const bool large = random.one_in(16);
            const std::size_t wanted = large ? first_large + random.below(64) : random.size_up_to(80) + 1;
            acquire(static_cast<unsigned>(wanted), random.one_in(8) ? 4 : 1);
        } else if (random.one_in(8)) {
            extend();
        } else if (random.one_in(16)) {
            decommit(random.one_in(2) ? 4 : 1);
        } else if (!random.one_in(3)) {
            release(random.one_in(8));
        }
        check_sums();
    }
}

TEST_F(RegionSet, finds_what_is_left_of_a_long_run)
{
    for (int i = 0; i < 4; ++i) acquire(first_large, 1);
}

TEST_F(RegionSet, takes_no_more_clean_units_than_it_may)
{
    bool zeroed = false;
    EXPECT_FALSE(set.acquire(5, 1, 4, zeroed));
    EXPECT_TRUE(set.acquire(5, 1, 5, zeroed));
    EXPECT_TRUE(zeroed);
}

TEST_F(RegionSet, gives_out_a_region_that_is_entirely_free)
{
    acquire(100, 1);
    release_at(0, 0, false);
    const unit_run run = set.take_dirty(false, 1);
    EXPECT_EQ(run.first, 0U);
    EXPECT_EQ(run.count, unit_count);
    EXPECT_EQ(set.first_region(), nullptr);
    bool zeroed = false;
    EXPECT_FALSE(set.acquire(1, 1, any_number, zeroed));
}

} // namespace
