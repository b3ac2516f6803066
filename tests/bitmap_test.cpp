// bitmap.hpp, compared with bits that are looked at one by one.
#include <binmalloc/bitmap.hpp>

#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>

namespace {

using namespace binmalloc_test;
using namespace binmalloc::detail;

constexpr unsigned bits = 320;

/// A bitmap, and the same as an array.
class pair_of_both {
public:
    explicit pair_of_both(random_source& random)
    {
        // Long runs and short ones, of set and of clear bits, at and over the ends of words.
        for (unsigned at = 0; at < bits;) {
            const auto left = static_cast<unsigned>(bits - at);
            auto length = static_cast<unsigned>(1 + random.size_up_to(130));
            if (length > left) length = left;
            if (random.one_in(2)) set(at, length);
            at += length;
        }
    }

    void set(unsigned first, unsigned count)
    {
        map.set(first, count);
        for (unsigned i = first; i < first + count; ++i) model[i] = true;
    }
    void clear(unsigned first, unsigned count)
    {
        map.clear(first, count);
        for (unsigned i = first; i < first + count; ++i) model[i] = false;
    }

    bool has_run(unsigned first, unsigned count, unsigned limit) const
    {
        for (unsigned i = first; i < first + count; ++i)
            if (i >= limit || !model[i]) return false;
        return true;
    }
    unsigned first_run(unsigned position, unsigned limit, unsigned count) const
    {
        while (position < limit && !has_run(position, count, limit)) ++position;
        return position < limit ? position : limit;
    }
    unsigned first_of(bool value, unsigned position, unsigned limit) const
    {
        while (position < limit && model[position] != value) ++position;
        return position < limit ? position : limit;
    }

    bitmap<bits> map;
    std::array<bool, bits> model{};
};

class Bitmap : public testing::Test {
protected:
    /// Calls `check` for many bitmaps.
    template <class Check>
    void each(Check check)
    {
        for (int round = 0; round < 50 && !HasFatalFailure(); ++round) {
            pair_of_both both(random);
            check(both);
        }
    }

    /// At or after `least`, before or at the end.
    unsigned somewhere(unsigned least = 0)
    {
        return least + static_cast<unsigned>(random.below(bits - least + 1));
    }

    random_source random{seed()};
};

TEST_F(Bitmap, bits)
{
    each([](pair_of_both& both) {
        for (unsigned i = 0; i < bits; ++i) ASSERT_EQ(both.map.test(i), both.model[i]) << i;
    });
}

TEST_F(Bitmap, set_and_clear)
{
    each([this](pair_of_both& both) {
        for (int step = 0; step < 100; ++step) {
            const unsigned first = somewhere();
            const unsigned count = somewhere(first) - first;
            random.one_in(2) ? both.set(first, count) : both.clear(first, count);
            unsigned population = 0;
            for (unsigned i = first; i < first + count; ++i) population += both.model[i] ? 1 : 0;
            ASSERT_EQ(both.map.population(first, count), population) << first << ' ' << count;
        }
        for (unsigned i = 0; i < bits; ++i) ASSERT_EQ(both.map.test(i), both.model[i]) << i;
    });
}

TEST_F(Bitmap, next_bit)
{
    each([this](pair_of_both& both) {
        for (unsigned position = 0; position <= bits; ++position) {
            const unsigned limit = somewhere();
            EXPECT_EQ(both.map.next_set(position, limit), both.first_of(true, position, limit));
            EXPECT_EQ(both.map.next_clear(position, limit), both.first_of(false, position, limit));
        }
    });
}

TEST_F(Bitmap, next_run)
{
    each([this](pair_of_both& both) {
        const auto word = [&both](unsigned i) { return both.map.word(i); };
        const unsigned limit = somewhere(1);
        both.clear(limit, bits - limit);
        for (const unsigned count : {1U, 2U, 3U, 4U, 5U, 8U, 31U, 32U, 33U, 63U, 64U}) {
            for (unsigned position = 0; position <= bits; ++position) {
                ASSERT_EQ(find_run(position, limit, count, word),
                          both.first_run(position, limit, count))
                    << position << ' ' << limit << ' ' << count;
            }
        }
    });
}

TEST_F(Bitmap, begin_of_a_run)
{
    each([this](pair_of_both& both) {
        const auto word = [&both](unsigned i) { return both.map.word(i); };
        for (unsigned position = 0; position <= bits; ++position) {
            const auto floor = static_cast<unsigned>(random.below(position + 1));
            unsigned begin = position;
            while (begin > floor && both.model[begin - 1]) --begin;
            EXPECT_EQ(find_run_start(position, floor, word), begin) << position << ' ' << floor;
        }
    });
}

} // namespace
