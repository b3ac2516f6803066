// Slabs of a cache whose thread has ended: who frees blocks of them takes them over.
#include <binmalloc/binmalloc.hpp>

#include "support/cache_pool.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;
using namespace binmalloc::detail;

/// Block sizes: one whose slabs have an owner, one whose slabs have several units and none.
class Adoption : public testing::TestWithParam<std::size_t> {
protected:
    Adoption()
    {
        if (pool == nullptr) throw std::runtime_error("no memory");
        // All at first: or a thread that comes later would get the cache of one that has ended.
        for (member** const m : {&ending, &staying, &third}) {
            *m = pool->acquire_lease();
            if (*m == nullptr) throw std::runtime_error("no lease to be had");
        }
    }
    ~Adoption() override
    {
        if (pool != nullptr) pool->destroy();
    }

    std::vector<void*> allocate(member* m, std::size_t slabs)
    {
        std::vector<void*> blocks;
        if (!m->try_begin()) return blocks;
        const slab* const first = slab_of(blocks.emplace_back(m->refill(bin)));
        for (std::size_t n = slabs * first->capacity; blocks.size() < n;)
            blocks.push_back(m->allocate(bin));
        m->end();
        return blocks;
    }
    /// As a thread does with blocks of another's cache, or of its own.
    static void free_through(member* m, void* p)
    {
        slab* const s = slab_of(p);
        cache_base* const home = s->home;
        if (home != m && m->post(home, p, s->block_size)) return;
        ASSERT_TRUE(m->try_begin());
        if (home == m)
            m->deallocate(s, p);
        else
            m->flush_for(home);
        m->end();
    }
    static void flush(member* m)
    {
        ASSERT_TRUE(m->try_begin());
        m->flush_all();
        m->end();
    }
    static void collect(member* m)
    {
        ASSERT_TRUE(m->try_begin());
        m->collect();
        m->end();
    }
    void end(member* m)
    {
        ASSERT_TRUE(m->try_begin());
        pool->end_lease(m);
    }
    std::size_t live()
    {
        for (member* const m : {ending, staying, third}) m->release_free_slabs();
        pool->stashes.release_all();
        return pool->pages.statistics().live;
    }

    const bin_index bin = table::search(GetParam(), 1);
    pool_type* const pool = pool_type::create();
    member* ending = nullptr;
    member* staying = nullptr;
    member* third = nullptr;
};

TEST_P(Adoption, of_slabs_whose_thread_has_ended)
{
    constexpr std::size_t slabs = 8;
    const std::vector<void*> blocks = allocate(ending, slabs);
    end(ending);
    // Of each slab the first block, then the others.
    const std::size_t capacity = slab_of(blocks.front())->capacity;
    for (std::size_t i = 0; i < blocks.size(); i += capacity) free_through(staying, blocks[i]);
    flush(staying);
    std::size_t adopted = 0;
    for (std::size_t i = 0; i < blocks.size(); i += capacity) {
        slab* const s = slab_of(blocks[i + 1]);
        if (s->home != staying) continue;
        ++adopted;
        for (unsigned unit = 0; unit < units_of(s); ++unit) {
            const auto* const h = offset<unit_header>(s, unit * header_size);
            EXPECT_EQ(h->home, staying);
            EXPECT_EQ(h->owner, staying);
        }
    }
    EXPECT_GE(adopted, slabs - 1) << "all but the one that was active";
    for (std::size_t i = 0; i < blocks.size(); ++i)
        if (i % capacity != 0) free_through(staying, blocks[i]);
    flush(staying);
    EXPECT_EQ(live(), 0U);

    // The next thread finds its cache in order.
    ASSERT_EQ(pool->acquire_lease(), ending);
    for (void* const p : allocate(ending, slabs)) {
        EXPECT_EQ(slab_of(p)->home, ending);
        free_through(ending, p);
    }
}

TEST_P(Adoption, but_not_while_a_thread_has_them)
{
    const std::vector<void*> blocks = allocate(ending, 3);
    for (void* const p : blocks) {
        EXPECT_EQ(slab_of(p)->home, ending);
        free_through(staying, p);
    }
    flush(staying);
    collect(ending);
    EXPECT_EQ(slab_of(blocks.back())->home, ending) << "active";
    EXPECT_EQ(live(), 0U);
}

TEST_P(Adoption, sends_on_what_others_sent_to_the_old_home)
{
    const std::vector<void*> blocks = allocate(ending, 3);
    slab* const s = slab_of(blocks[0]);
    for (const std::size_t i : {1U, 2U}) ASSERT_EQ(s, slab_of(blocks[i]));
    free_through(third, blocks[1]); // on its way from now on
    end(ending);
    free_through(staying, blocks[0]);
    flush(staying);
    ASSERT_EQ(s->home, staying);
    const std::uint32_t before = s->countdown;

    flush(third); // nobody holds the old home: it looks itself
    EXPECT_EQ(s->home, staying);
    EXPECT_EQ(s->countdown, before) << "only its home's thread may touch the slab";
    collect(staying);
    EXPECT_EQ(s->countdown, before - 1) << "it has arrived";

    // And where the next thread finds it.
    ending->inbox.send(static_cast<block*>(blocks[2]));
    ASSERT_EQ(pool->acquire_lease(), ending);
    collect(ending);
    EXPECT_EQ(s->countdown, before - 1);
    collect(staying);
    EXPECT_EQ(s->countdown, before - 2);
    EXPECT_EQ(s->home, staying);
}

TEST_P(Adoption, of_slabs_with_free_blocks_and_of_what_was_adopted)
{
    const std::vector<void*> blocks = allocate(ending, 4);
    slab* const s = slab_of(blocks[0]);
    std::size_t freed = 0;
    for (; !s->available; ++freed) {
        ASSERT_EQ(slab_of(blocks[freed]), s);
        free_through(ending, blocks[freed]);
    }
    end(ending);
    ASSERT_EQ(slab_of(blocks[freed + 1]), s);
    free_through(staying, blocks[freed]);
    flush(staying);
    ASSERT_EQ(s->home, staying);
    EXPECT_TRUE(s->available);
    ASSERT_EQ(pool->acquire_lease(), ending);
    for (void* const p : allocate(ending, 1)) {
        EXPECT_EQ(slab_of(p)->home, ending);
        free_through(ending, p);
    }
    const std::vector<void*> own = allocate(staying, 1);
    EXPECT_EQ(slab_of(own.front()), s) << "its free blocks come first";
    for (void* const p : own) free_through(staying, p);

    end(staying);
    free_through(third, blocks[freed + 1]);
    flush(third);
    EXPECT_EQ(s->home, third);
    for (std::size_t i = freed + 2; i < blocks.size(); ++i) free_through(third, blocks[i]);
    flush(third);
    EXPECT_EQ(live(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Adoption, testing::Values(100, 10000));

TEST(AdoptionInTheProcessHeap, what_a_thread_left_serves_the_one_that_frees_it)
{
    constexpr std::size_t count = 200000;
    std::vector<void*> blocks(count);
    void* const first = binmalloc::allocate(100); // or this thread would lease the other's cache
    std::thread([&] {
        for (void*& p : blocks) p = binmalloc::allocate(100);
    }).join();
    const std::size_t live = binmalloc::statistics().live;
    // Half of each slab: nothing can go back to the page allocator.
    for (std::size_t i = 0; i < count; i += 2) binmalloc::deallocate(blocks[i]);
    for (std::size_t i = 0; i < count; i += 2) blocks[i] = binmalloc::allocate(100);
    EXPECT_LE(binmalloc::statistics().live, live + live / 10);
    for (void* const p : blocks) binmalloc::deallocate(p);
    binmalloc::deallocate(first);
}

} // namespace
