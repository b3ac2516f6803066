// The cache pool by itself: its leases, and what a forked child inherits of them.
#include <binmalloc/binmalloc.hpp>

#include "support/cache_pool.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;
using namespace binmalloc::detail;

constexpr bin_index some_bin = table::search(100, 1);

class CachePool : public testing::Test {
protected:
    void SetUp() override { ASSERT_NE(pool, nullptr); }
    ~CachePool() override
    {
        if (pool != nullptr) pool->destroy();
    }

    member* lease()
    {
        member* const m = pool->acquire_lease();
        if (m == nullptr) throw std::runtime_error("no lease to be had");
        return m;
    }
    /// All leases that are to be had.
    std::vector<member*> acquire_all()
    {
        std::vector<member*> all;
        while (member* const m = pool->acquire_lease()) all.push_back(m);
        return all;
    }
    void end(member* m)
    {
        ASSERT_TRUE(m->try_begin());
        pool->end_lease(m);
    }
    std::size_t count_leases()
    {
        const std::vector<member*> all = acquire_all();
        EXPECT_EQ(std::set(all.begin(), all.end()).size(), all.size()) << "leased twice";
        for (member* const m : all) end(m);
        return all.size();
    }
    /// As in a thread's slow path.
    static void use(member* m)
    {
        ASSERT_TRUE(m->try_begin());
        void* const block = m->refill(some_bin);
        ASSERT_NE(block, nullptr);
        m->deallocate(slab_of(static_cast<binmalloc::detail::block*>(block)), block);
        m->end();
    }

    pool_type* const pool = pool_type::create();
};

TEST_F(CachePool, leases_are_many_and_come_back)
{
    const std::vector<member*> all = acquire_all();
    EXPECT_EQ(all.size(), 3 * std::max(binmalloc::os::cpu_count(), 8U));
    for (member* const m : all) use(m);
    end(all.front());
    EXPECT_EQ(pool->acquire_lease(), all.front());
    for (member* const m : all) end(m);
    EXPECT_EQ(count_leases(), all.size());
}

std::size_t line_of(const void* p) { return reinterpret_cast<std::uintptr_t>(p) / 64; }

TEST_F(CachePool, what_others_only_read_is_not_written_beside)
{
    // A free of another thread's block, and a slow path, read these.
    member& m = *lease();
    for (const void* const read : {static_cast<const void*>(&m.pool), static_cast<const void*>(&m.index)}) {
        EXPECT_NE(line_of(read), line_of(&m.inbox));
        EXPECT_NE(line_of(read), line_of(&m.lock));
        EXPECT_NE(line_of(read), line_of(&m.busy));
        EXPECT_NE(line_of(read), line_of(&m.ended));
        EXPECT_NE(line_of(read), line_of(&m.lists));
    }
    EXPECT_NE(line_of(&pool->gate), line_of(&pool->pages.lock()));
    EXPECT_NE(line_of(&pool->is_watched), line_of(&pool->pages.lock()));
    span* const s = pool->pages.allocate_span(unit_size, unit_size, nullptr);
    ASSERT_NE(s, nullptr);
    const region* const r = region_holding(s);
    EXPECT_NE(line_of(&r->magic), line_of(&r->free_units));
    EXPECT_NE(line_of(&r->magic), line_of(&r->next));
    pool->pages.deallocate_span(s);
    end(&m);
}

template <unsigned LeastCpus>
struct footprint_with : binmalloc::default_footprint {
    static constexpr unsigned least_cpus = LeastCpus;
};
template <class Footprint>
using pool_with = cache_pool<table, binmalloc::basic_page_allocator<binmalloc::os_pages, Footprint>,
                             binmalloc::os_pages, Footprint>;

TEST(CachePoolSize, is_of_so_many_processors_at_least)
{
    const auto leases_of = []<class Pool>(Pool* pool) {
        std::size_t leases = 0;
        while (pool->acquire_lease() != nullptr) ++leases;
        pool->destroy();
        return leases;
    };
    const unsigned cpus = binmalloc::os::cpu_count();
    EXPECT_EQ(leases_of(pool_with<footprint_with<1>>::create()), 3 * cpus);
    EXPECT_EQ(leases_of(pool_with<footprint_with<200>>::create()), 3 * std::max(cpus, 200U));
}

TEST(CachePoolSize, costs_a_fork_only_the_caches_that_threads_had)
{
    if (sanitized) GTEST_SKIP() << "a sanitizer's own memory would count";
    constexpr unsigned least_cpus = 250;
    const unsigned cpus = std::max(least_cpus, binmalloc::os::cpu_count());
    using pool_of_many = pool_with<footprint_with<least_cpus>>;
    pool_of_many* const pool = pool_of_many::create();
    ASSERT_NE(pool, nullptr);
    const auto* const own = pool->acquire_lease();
    const std::size_t before = memory_in_use().resident;
    pool->freeze();
    pool->thaw();
    pool->inherit(own);
    // The locks of the shared caches, and what the kernel's count is off by.
    EXPECT_LT(memory_in_use().resident, before + cpus * binmalloc::os::page_size() + mib);
    std::size_t leases = 1;
    while (pool->acquire_lease() != nullptr) ++leases;
    EXPECT_EQ(leases, 3 * cpus);
    pool->destroy();
}

TEST_F(CachePool, a_child_has_the_leases_of_threads_that_only_looked_at_the_gate)
{
    const std::size_t leases = count_leases();
    member* const own = lease();
    member* const other = lease();
    use(own);
    use(other);
    pool->freeze();
    EXPECT_FALSE(other->try_begin()) << "the gate is closed";
    other->busy = true; // the moment before it knows
    pool->thaw();
    pool->inherit(own);
    EXPECT_EQ(acquire_all().size(), leases - 1) << "the own one is in use";
    use(other);
}

TEST_F(CachePool, a_child_leaves_alone_what_a_thread_was_changing)
{
    const std::size_t leases = count_leases();
    member* const own = lease();
    member* const other = lease();
    use(own);
    ASSERT_TRUE(other->try_begin());
    pool->freeze(); // when its patience is at its end
    pool->thaw();
    pool->inherit(own);
    const std::vector<member*> all = acquire_all();
    EXPECT_EQ(all.size(), leases - 2);
    EXPECT_EQ(std::set(all.begin(), all.end()).count(other), 0U);
}

TEST_F(CachePool, a_child_without_handlers_leaves_alone_what_is_busy)
{
    const std::size_t leases = count_leases();
    member* const own = lease();
    member* const quiet = lease();
    member* const busy = lease();
    use(quiet);
    ASSERT_TRUE(busy->try_begin());
    EXPECT_TRUE(pool->recover(true, own));
    EXPECT_EQ(acquire_all().size(), leases - 2);
    use(quiet);
}

TEST_F(CachePool, no_cache_is_made_while_a_process_forks)
{
    // A child that has half of it, and makes it again, would know its stash twice.
    pool->freeze();
    std::atomic<bool> made = false;
    std::thread other([&] {
        member* const m = lease();
        made = true;
        end(m);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(made);
    pool->thaw();
    other.join();
    EXPECT_TRUE(made);
}

} // namespace
