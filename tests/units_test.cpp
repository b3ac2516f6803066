// Lists of units, and runs of units by length, against containers that are slow and right.
#include <binmalloc/units.hpp>

#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <vector>

namespace {

using namespace binmalloc::detail;
using namespace binmalloc_test;

using free_runs = run_index<free_unit_list, &free_unit::free_length>;

/// Empties a copy of the list, from its front.
std::deque<unit_header*> content(unit_list list)
{
    std::deque<unit_header*> all;
    for (; !list.empty(); list.remove(list.front())) all.push_back(list.front());
    return all;
}

TEST(UnitList, keeps_the_order)
{
    random_source random(seed());
    std::vector<unit_header> units(8);
    for (int round = 0; round < 200; ++round) {
        unit_list list;
        std::deque<unit_header*> model;
        for (int step = 0; step < 30; ++step) {
            unit_header* const any = &units[random.below(units.size())];
            const auto place = std::find(model.begin(), model.end(), any);
            if (place != model.end()) {
                EXPECT_EQ(list.is_only(any), model.size() == 1);
                list.remove(any);
                model.erase(place);
            } else if (random.one_in(2)) {
                list.push_front(any);
                model.push_front(any);
            } else {
                list.push_back(any);
                model.push_back(any);
            }
            ASSERT_EQ(list.empty(), model.empty());
            ASSERT_EQ(list.front(), model.empty() ? nullptr : model.front());
        }
        // Emptying it ruins the links of the units, which are written anew in the next round.
        EXPECT_EQ(content(list), model);
    }
}

TEST(RunIndex, finds_the_tightest)
{
    random_source random(seed());
    std::vector<free_unit> units(64);
    for (std::size_t round = 0; round < scaled(200, 40); ++round) {
        free_runs index;
        std::map<unit_header*, unsigned> model;
        for (int step = 0; step < 200; ++step) {
            unit_header* const any = &units[random.below(units.size())];
            if (const auto place = model.find(any); place != model.end()) {
                index.remove(any, place->second);
                model.erase(place);
            } else {
                const auto length = static_cast<unsigned>(random.size_up_to((1 << 14) - 2) + 1);
                index.add(any, length);
                model.emplace(any, length);
            }
            for (unsigned wanted = 1; wanted < 1 << 14; wanted += wanted / 16 + 1) {
                unsigned best = 0;
                unsigned fitting = 0;
                for (const auto& [unit, length] : model) {
                    if (length < wanted) continue;
                    ++fitting;
                    if (best == 0 || length < best) best = length;
                }
                unit_header* const found = index.tightest(wanted);
                if (best == 0) {
                    ASSERT_EQ(found, nullptr) << wanted;
                } else {
                    ASSERT_EQ(free_runs::length_at(found), model.at(found)) << wanted;
                    ASSERT_GE(model.at(found), wanted);
                    // Those in the same list for several lengths are not more than twice as long.
                    ASSERT_LT(model.at(found), best < first_inexact ? best + 1 : best * 2) << wanted;
                }
                if (wanted < first_inexact) {
                    ASSERT_EQ(index.has(wanted), best != 0) << wanted;
                }
                index.each(wanted, [&](unit_header* unit, unsigned length) {
                    ASSERT_EQ(model.at(unit), length);
                    ASSERT_GE(length, wanted);
                    --fitting;
                });
                ASSERT_EQ(fitting, 0u) << wanted;
            }
            for (unsigned wanted = 64; wanted < 1 << 14; wanted *= 2) {
                const bool any_so_long = std::any_of(model.begin(), model.end(), [wanted](const auto& run) {
                    return run.second >= wanted;
                });
                ASSERT_EQ(index.has(wanted), any_so_long) << wanted;
            }
        }
    }
}

TEST(RunIndex, prefers_the_lowest_of_those_that_came_in_descending_order)
{
    std::vector<free_unit> units(10);
    free_runs index;
    for (std::size_t i = units.size(); i-- > 0;) index.add(&units[i], 3);
    for (free_unit& unit : units) {
        EXPECT_EQ(index.tightest(2), &unit);
        index.remove(&unit, 3);
    }
    EXPECT_EQ(index.tightest(1), nullptr);
}

} // namespace
