// Blocks of other caches that a thread keeps, in exchange for its own that came home.
#include <binmalloc/binmalloc.hpp>

#include "support/cache_pool.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <set>
#include <stdexcept>
#include <vector>

namespace {

using namespace binmalloc_test;
using namespace binmalloc::detail;

class Exchange : public testing::Test {
protected:
    Exchange()
    {
        if (pool == nullptr) throw std::runtime_error("no memory");
        for (member** const m : {&one, &other}) {
            *m = pool->acquire_lease();
            if (*m == nullptr || !(*m)->try_begin()) throw std::runtime_error("no lease to be had");
        }
    }
    ~Exchange() override
    {
        if (pool != nullptr) pool->destroy();
    }

    static bool keep(member* m, void* p) { return m->keep_in_exchange(bin, size, p); }

    /// So many blocks of a cache are freed by the other one's thread, and come home.
    void come_home(member* to, member* from, std::size_t count)
    {
        std::vector<void*> blocks;
        while (blocks.size() < count) blocks.push_back(to->allocate(bin));
        for (void* const p : blocks) from->post(to, p, size);
        from->flush_all();
        to->collect();
    }

    static constexpr std::size_t size = 64;
    static constexpr bin_index bin = table::search(size, 1);
    pool_type* const pool = pool_type::create();
    member* one = nullptr;
    member* other = nullptr;
};

TEST_F(Exchange, without_blocks_that_came_home_none_is_kept)
{
    one->allocate(bin); // its list is open
    EXPECT_FALSE(keep(one, other->allocate(bin)));
}

TEST_F(Exchange, for_each_block_that_came_home_two_are_kept_and_given_out_next)
{
    constexpr std::size_t count = 10;
    come_home(one, other, count);
    one->allocate(bin);
    std::vector<void*> kept;
    for (std::size_t i = 0; i < 2 * count; ++i) {
        kept.push_back(other->allocate(bin));
        ASSERT_TRUE(keep(one, kept.back())) << i;
    }
    EXPECT_FALSE(keep(one, other->allocate(bin)));
    for (; !kept.empty(); kept.pop_back()) EXPECT_EQ(one->allocate(bin), kept.back());
}

TEST_F(Exchange, blocks_for_which_the_list_has_no_room_are_not_kept_and_do_not_wait_there)
{
    come_home(one, other, 10 * class_lists<table>::most);
    one->allocate(bin);
    std::size_t kept = 0;
    while (keep(one, other->allocate(bin))) ++kept;
    EXPECT_GT(kept, 0U);
    EXPECT_LE(kept, class_lists<table>::most + 1) << "one was allocated";
    EXPECT_FALSE(one->lists.are_being_passed()) << "a thief would wait for it";
}

TEST_F(Exchange, large_blocks_go_home)
{
    come_home(one, other, 10);
    constexpr bin_index large = table::search(2048, 1);
    one->allocate(large);
    EXPECT_FALSE(one->keep_in_exchange(large, table::sizes[large], other->allocate(large)));
}

TEST_F(Exchange, ends_with_the_thread)
{
    come_home(one, other, 10);
    pool->end_lease(one);
    pool->release_idle(); // as purge() does: more may come home
    ASSERT_EQ(pool->acquire_lease(), one);
    ASSERT_TRUE(one->try_begin());
    one->allocate(bin);
    EXPECT_FALSE(keep(one, other->allocate(bin)));
}

TEST_F(Exchange, what_is_kept_goes_home_when_the_lists_are_closed)
{
    come_home(one, other, 10);
    one->allocate(bin);
    void* const p = other->allocate(bin);
    ASSERT_TRUE(keep(one, p));
    one->close_lists();
    other->collect();
    std::set<void*> theirs;
    for (std::size_t i = 0; i < slab_of(p)->capacity; ++i) theirs.insert(other->allocate(bin));
    EXPECT_TRUE(theirs.contains(p));
}

TEST(ExchangeOfThreads, who_frees_each_others_blocks_is_given_them_again)
{
    constexpr std::size_t rounds = 100;
    using bundle = std::array<void*, 64>;
    std::array<bundle, 2> bundles{};
    std::array<std::set<void*>, 2> allocated;
    barrier next(2);
    run_threads(2, [&](std::size_t i) {
        for (std::size_t round = 0; round < rounds; ++round) {
            for (void*& p : bundles[i]) allocated[i].insert(p = binmalloc::allocate(64));
            next.arrive_and_wait();
            for (void* const p : bundles[1 - i]) binmalloc::deallocate(p);
            next.arrive_and_wait();
        }
    });
    std::size_t common = 0;
    for (void* const p : allocated[0]) common += allocated[1].count(p);
    EXPECT_GE(common, 32U);
}

} // namespace
