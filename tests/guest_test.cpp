// Guests, which a thread has that found no cache to lease, and the depots where they meet.
#include <binmalloc/binmalloc.hpp>

#include "support/cache_pool.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <set>
#include <stdexcept>
#include <vector>

namespace {

using namespace binmalloc_test;
using namespace binmalloc::detail;
using guest_type = pool_type::guest_type;
using depot_type = depot<table>;

constexpr bin_index small = table::search(64, 1);

class Guest : public testing::Test {
protected:
    Guest()
    {
        if (pool == nullptr) throw std::runtime_error("no memory");
    }
    ~Guest() override
    {
        if (pool != nullptr) pool->destroy();
    }

    guest_type* guest()
    {
        member& m = pool->lock_shared(0);
        guest_type* const g = pool->make_guest(m);
        m.lock.unlock();
        if (g == nullptr) throw std::runtime_error("no memory");
        return g;
    }
    void end(guest_type* g)
    {
        member& m = pool->lock_shared(0);
        pool->end_guest(g, m);
        m.lock.unlock();
    }
    /// As a thread does: what is loaded, what it has freed, or a bundle from the shared cache.
    void* allocate(guest_type* g, bin_index bin)
    {
        if (void* const p = g->lists.take(bin)) return p;
        if (g->reload(bin)) return g->lists.take(bin);
        ++locks;
        member& m = pool->lock_shared(0);
        void* const p = pool->refill(*g, bin, m);
        m.lock.unlock();
        return p;
    }
    void free(guest_type* g, bin_index bin, void* p)
    {
        if (g->keep(bin, p) || (!g->must_flush(bin) && g->reload(bin))) return;
        ++locks;
        member& m = pool->lock_shared(0);
        pool->flush(*g, bin, m);
        m.lock.unlock();
    }
    std::vector<void*> allocate(guest_type* g, bin_index bin, std::size_t n)
    {
        std::vector<void*> blocks(n);
        for (void*& p : blocks) p = allocate(g, bin);
        EXPECT_EQ(std::set(blocks.begin(), blocks.end()).size(), n) << "handed out twice";
        return blocks;
    }
    void free(guest_type* g, bin_index bin, const std::vector<void*>& blocks)
    {
        for (void* const p : blocks) free(g, bin, p);
    }
    std::size_t live()
    {
        pool->release_idle();
        pool->stashes.release_all();
        return pool->pages.statistics().live;
    }

    pool_type* const pool = pool_type::create();
    std::size_t locks = 0;
};

TEST_F(Guest, locks_a_shared_cache_for_bundles_only)
{
    constexpr std::size_t bundle_size = guest_type::bundle_size(small);
    guest_type* const g = guest();
    for (int round = 0; round < 10; ++round) free(g, small, allocate(g, small, 10 * bundle_size));
    EXPECT_LE(locks, 10 * 2 * 11U);
    // One at a time, or a few more or less than a bundle in turns: not at all, once it has them.
    free(g, small, allocate(g, small, 2 * bundle_size));
    locks = 0;
    for (int i = 0; i < 1000; ++i) free(g, small, allocate(g, small));
    EXPECT_EQ(locks, 0U);
    for (int i = 0; i < 1000; ++i) free(g, small, allocate(g, small, bundle_size / 2));
    EXPECT_LE(locks, 2U);
    end(g);
    EXPECT_EQ(live(), 0U);
}

TEST_F(Guest, bundles_go_from_one_to_another)
{
    constexpr std::size_t bundle_size = guest_type::bundle_size(small);
    guest_type* const one = guest();
    guest_type* const other = guest();
    const std::vector<void*> blocks = allocate(one, small, 3 * bundle_size);
    const std::set<void*> known(blocks.begin(), blocks.end());
    const slab* const s = slab_of(blocks.front());
    const auto before = s->countdown;
    free(one, small, blocks);
    EXPECT_EQ(s->countdown, before) << "the slab knows nothing of it";
    const std::vector<void*> again = allocate(other, small, 2 * bundle_size);
    for (void* const p : again) EXPECT_TRUE(known.contains(p));
    free(other, small, again);
    end(one);
    end(other);
    EXPECT_EQ(live(), 0U) << "depots are emptied, too";
}

TEST_F(Guest, holds_no_more_than_it_may)
{
    guest_type* const g = guest();
    std::vector<std::vector<void*>> all(table::count);
    const auto each_bin = [&](auto action) {
        for (unsigned bin = 0; bin < table::count; ++bin)
            if (guest_type::serves(static_cast<bin_index>(bin))) action(static_cast<bin_index>(bin));
    };
    std::size_t held = 0;
    each_bin([&](bin_index bin) {
        all[bin] = allocate(g, bin, guest_type::bundle_size(bin) - 1U);
        held += all[bin].size() * table::sizes[bin];
    });
    ASSERT_GT(held, guest_type::most_held_bytes);
    locks = 0;
    each_bin([&](bin_index bin) { free(g, bin, all[bin]); });
    EXPECT_LE(locks, 8U) << "what is too much goes at once, not block by block";
    std::size_t now = 0;
    each_bin([&](bin_index bin) {
        while (g->lists.take(bin) != nullptr || (g->reload(bin) && g->lists.take(bin) != nullptr))
            now += table::sizes[bin];
    });
    EXPECT_GT(now, 0U);
    EXPECT_LE(now, guest_type::most_held_bytes);
}

TEST_F(Guest, heeds_what_it_may_hold_when_a_bundle_comes)
{
    std::vector<bin_index> bins;
    for (unsigned i = 0; i < table::count; ++i)
        if (guest_type::serves(static_cast<bin_index>(i))) bins.push_back(static_cast<bin_index>(i));
    guest_type* const g = guest();
    guest_type* const other = guest();
    // Of some size classes it has a bundle loaded and nearly another one freed, of the rest nothing.
    std::size_t held = 0;
    std::size_t used = 0;
    std::size_t bundle = 0;
    for (; held + 2 * bundle < guest_type::most_held_bytes; ++used) {
        const bin_index bin = bins[used];
        const std::size_t n = guest_type::bundle_size(bin) - 1U;
        ASSERT_NE(allocate(g, bin), nullptr);
        free(g, bin, allocate(other, bin, n));
        held += 2 * n * table::sizes[bin];
        bundle = (n + 1) * table::sizes[bin];
    }
    ASSERT_LE(held, guest_type::most_held_bytes) << "else its frees have seen to it";
    ASSERT_LE(used + 10, bins.size());
    for (std::size_t i = used; i < bins.size(); ++i) ASSERT_NE(allocate(g, bins[i]), nullptr);

    held = 0;
    for (const bin_index bin : bins)
        while (g->lists.take(bin) != nullptr || (g->reload(bin) && g->lists.take(bin) != nullptr))
            held += table::sizes[bin];
    EXPECT_GT(held, 0U);
    EXPECT_LE(held, guest_type::most_held_bytes + guest_type::bundle_bytes);
}

TEST_F(Guest, gives_back_what_is_loaded_where_that_is_too_much)
{
    guest_type* const g = guest();
    guest_type* const other = guest();
    std::size_t loaded = 0;
    for (unsigned i = 0; i < table::count; ++i) {
        const auto bin = static_cast<bin_index>(i);
        if (!guest_type::serves(bin)) continue;
        const std::size_t bytes = guest_type::bundle_size(bin) * table::sizes[bin];
        if (loaded + bytes > guest_type::most_held_bytes) continue;
        ASSERT_NE(allocate(g, bin), nullptr);
        loaded += bytes - table::sizes[bin];
    }
    ASSERT_GT(loaded, guest_type::most_held_bytes / 4 * 3);
    // Twice, as the first bundle might be loaded.
    free(g, small, allocate(other, small, 2 * guest_type::bundle_size(small)));
    for (unsigned i = 0; i < table::count; ++i) {
        if (i == small) continue;
        EXPECT_EQ(g->lists.take(i), nullptr) << table::sizes[i];
    }
}

TEST_F(Guest, gives_back_all_that_it_holds_when_it_ends)
{
    guest_type* const g = guest();
    guest_type* const other = guest();
    for (unsigned i = 0; i < table::count; ++i) {
        const auto bin = static_cast<bin_index>(i);
        if (!guest_type::serves(bin)) continue;
        const std::vector<void*> blocks = allocate(g, bin, 3); // the rest of a bundle stays loaded
        free(g, bin, {blocks[1], blocks[0]});
        free(other, bin, blocks[2]);
    }
    end(g);
    EXPECT_GT(live(), 0U);
    end(other);
    EXPECT_EQ(live(), 0U);
}

TEST_F(Guest, leaves_blocks_of_any_cache_in_the_depot)
{
    constexpr std::size_t bundle_size = guest_type::bundle_size(small);
    member* const lessee = pool->acquire_lease();
    ASSERT_NE(lessee, nullptr);
    ASSERT_TRUE(lessee->try_begin());
    std::vector<void*> blocks(bundle_size);
    for (void*& p : blocks) p = lessee->allocate(small);
    pool->end_lease(lessee);
    guest_type* const g = guest();
    free(g, small, allocate(g, small, bundle_size)); // so something is loaded
    free(g, small, blocks);
    EXPECT_FALSE(std::ranges::count(blocks, slab_of(blocks.front())->free)) << "not home yet";
    end(g);
    EXPECT_EQ(live(), 0U);
}

TEST_F(Guest, sees_a_block_freed_twice_in_a_row)
{
    if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    guest_type* const g = guest();
    void* const p = allocate(g, small);
    free(g, small, p);
    EXPECT_DEATH(g->keep(small, p), "double free");
}

class Depot : public testing::Test {
protected:
    struct room {
        alignas(16) unsigned char bytes[64];
    };

    bundle make(std::size_t count)
    {
        bundle b;
        for (std::size_t i = 0; i < count; ++i) {
            auto* const p = reinterpret_cast<block*>(&rooms[used++]);
            link(p, b.first);
            if (b.first == nullptr) b.last = p;
            b.first = p;
            ++b.count;
        }
        return b;
    }

    std::vector<room> rooms = std::vector<room>(10000);
    std::size_t used = 0;
    depot_type depot;
};

TEST_F(Depot, gives_the_bundle_that_came_last)
{
    const bundle one = make(3);
    const bundle other = make(5);
    ASSERT_TRUE(depot.put(small, one));
    ASSERT_TRUE(depot.put(small, other));
    EXPECT_EQ(depot.take(small + 1).count, 0U);
    EXPECT_EQ(depot.take(small).first, other.first);
    const bundle last = depot.take(small);
    EXPECT_EQ(last.first, one.first);
    EXPECT_EQ(last.last, one.last);
    EXPECT_EQ(last.count, 3U);
    EXPECT_EQ(depot.take(small).count, 0U);
}

TEST_F(Depot, keeps_no_more_than_it_may)
{
    for (std::uint32_t i = 0; i < depot_type::most_bundles; ++i) EXPECT_TRUE(depot.put(small, make(2)));
    EXPECT_FALSE(depot.put(small, make(2))) << "too many of the class";
    constexpr bin_index large = table::search(2048, 1);
    constexpr std::size_t most = depot_type::most_bytes / 2048;
    std::size_t kept = 0;
    for (bin_index bin = large; bin > small + 1; --bin)
        for (std::uint32_t i = 0; i < depot_type::most_bundles; ++i)
            if (depot.put(bin, make(8))) kept += 8;
    EXPECT_GT(kept, most) << "smaller ones, too";
    bundle b = make(1);
    b.count = most; // as it says
    EXPECT_FALSE(depot.put(small + 1, b)) << "too many bytes";

    std::size_t emptied = 0;
    depot.empty([&](block* p) {
        ++emptied;
        link(p, nullptr); // they are the user's now
    });
    EXPECT_EQ(emptied, kept + depot_type::most_bundles * 2);
    EXPECT_TRUE(depot.put(small + 1, b)) << "there is room again";
}

} // namespace
