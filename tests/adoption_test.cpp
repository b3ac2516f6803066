// Slabs of a cache whose thread has ended, or does not come by: who frees blocks of them takes them over.
#include <binmalloc/binmalloc.hpp>

#include "support/cache_pool.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <set>
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

/// What a thread leaves behind that sleeps: `ending` does not end.
class Sleeper : public Adoption {
protected:
    void SetUp() override
    {
        if (!binmalloc::os::local_barrier_is_free || !binmalloc::os::barrier_on_all_threads())
            GTEST_SKIP() << "a thread's own frees cannot be told to stay away";
        slab_bytes = units_of(slab_of(allocate(ending, 1).front())) * unit_size;
        slabs = 4 * mib / slab_bytes;
        blocks = allocate(ending, slabs);
        ending->overdue_since = 1; // long ago
    }
    void free_all()
    {
        for (void* const p : blocks) free_through(staying, p);
        flush(staying);
    }
    /// What has not changed hands of the slabs in which the blocks lie, or lay.
    std::size_t bytes_at_home() const
    {
        std::set<const unit_header*> units;
        for (void* const p : blocks)
            if (header_of(p)->home == ending) units.insert(header_of(p));
        return units.size() * unit_size;
    }

    std::size_t slab_bytes = 0;
    std::size_t slabs = 0;
    std::vector<void*> blocks;
};

TEST_P(Sleeper, keeps_little_of_what_others_free)
{
    free_all();
    EXPECT_LE(bytes_at_home(), mib);
    staying->release_free_slabs();
    pool->stashes.release_all();
    EXPECT_LE(pool->pages.statistics().live, mib + 256 * kib);
}

TEST_P(Sleeper, keeps_little_of_what_was_sent_before)
{
    collect(ending);
    const std::size_t half = blocks.size() / 2;
    for (std::size_t i = 0; i < half; ++i) free_through(third, blocks[i]);
    flush(third);
    ending->overdue_since = 1;
    for (std::size_t i = half; i < blocks.size(); ++i) free_through(staying, blocks[i]);
    flush(staying);
    EXPECT_LE(bytes_at_home(), 128 * kib) << "what is active";
    collect(third);
    collect(staying);
    collect(ending);
    EXPECT_EQ(live(), slab_bytes) << "that of the first block";
}

TEST_P(Sleeper, keeps_less_still_after_a_purge)
{
    free_all();
    ASSERT_TRUE(staying->try_begin());
    pool->steal_all(*staying);
    staying->end();
    EXPECT_LE(bytes_at_home(), 128 * kib) << "what is active";
}

TEST_P(Sleeper, has_time_to_come_by)
{
    collect(ending);
    EXPECT_EQ(ending->overdue_since, 0U);
    const std::size_t before = bytes_at_home();
    const std::uint64_t begin = binmalloc::os::now_ms();
    free_all();
    const std::size_t after = bytes_at_home();
    const bool was_quick = binmalloc::os::now_ms() < begin + 4;
    EXPECT_TRUE(after == before || !was_quick);
    EXPECT_NE(ending->overdue_since, 0U);
    collect(ending);
    EXPECT_EQ(ending->overdue_since, 0U);
    EXPECT_LE(bytes_at_home(), mib) << "it has freed them itself";
}

TEST_P(Sleeper, may_go_on_with_what_it_has)
{
    const std::size_t half = blocks.size() / 2;
    for (std::size_t i = 0; i < half; ++i) free_through(staying, blocks[2 * i]);
    flush(staying);
    EXPECT_LE(bytes_at_home(), mib);
    for (std::size_t i = 0; i < half; ++i) free_through(ending, blocks[2 * i + 1]);
    if (blocks.size() % 2 != 0) free_through(ending, blocks.back());
    flush(ending);
    collect(staying);
    collect(ending);
    free_through(ending, ending->refill(bin));
}

TEST_P(Sleeper, is_left_alone_while_it_is_busy)
{
    const std::size_t before = bytes_at_home();
    ASSERT_TRUE(ending->try_begin());
    for (void* const p : blocks) free_through(staying, p);
    EXPECT_EQ(bytes_at_home(), before);
    ending->end();
    collect(ending);
    EXPECT_LE(bytes_at_home(), mib);
}

TEST_P(Sleeper, is_left_alone_while_it_frees_into_a_slab)
{
    const std::size_t before = bytes_at_home();
    ending->close_lists();
    ASSERT_FALSE(ending->lists.keep(bin, blocks[0])) << "so its thread is on the way to the slab";
    free_all();
    EXPECT_EQ(bytes_at_home(), before);
    for (void* const p : blocks) {
        EXPECT_EQ(slab_of(p)->home, ending);
        EXPECT_EQ(header_of(p)->owner, ending);
    }
    ending->lists.pass(bin);
    collect(ending);
    EXPECT_LE(bytes_at_home(), mib);
}

TEST_P(Sleeper, keeps_a_slab_whose_countdown_has_ended)
{
    // Its thread was about to say so.
    slab* const s = slab_of(blocks[0]);
    std::size_t freed = 0;
    for (; s->countdown > 1; ++freed) free_through(ending, blocks[freed]);
    push(*s, blocks[freed++]);
    --s->countdown;
    for (std::size_t i = freed; i < blocks.size(); ++i) free_through(staying, blocks[i]);
    flush(staying);
    ASSERT_TRUE(staying->try_begin());
    pool->steal_all(*staying);
    staying->end();
    EXPECT_EQ(s->home, ending);
    EXPECT_EQ(s->owner, ending);

    ASSERT_TRUE(ending->try_begin());
    ending->countdown_ended(s);
    ending->end();
    collect(ending);
    EXPECT_LE(bytes_at_home(), mib);
}

TEST_P(Sleeper, does_not_wait_for_itself)
{
    // As in a signal handler, which comes in the middle of a slow path.
    ASSERT_TRUE(ending->try_begin());
    ASSERT_TRUE(ending->try_begin());
    EXPECT_FALSE(ending->try_begin_theft());
    ending->end();
    ending->end();
    EXPECT_TRUE(ending->try_begin_theft());
    ending->end();
}

INSTANTIATE_TEST_SUITE_P(Sizes, Sleeper, testing::Values(100, 10000));

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

/// Threads that replace and exchange blocks, so many that their lists have no room, while another one takes
/// what it can get of theirs.
TEST(AdoptionInTheProcessHeap, thieves_and_threads_at_work)
{
    constexpr std::size_t exchanged = 512;
    static std::array<std::atomic<unsigned char*>, exchanged> places{};
    static constexpr std::size_t sizes[] = {24, 200, 1040, 3000, 10000};
    std::atomic<bool> done{false};

    const auto work = [](std::size_t seed) {
        random_source random(seed);
        std::vector<unsigned char*> own(600);
        const auto release = [](unsigned char* p) {
            if (p == nullptr) return;
            ASSERT_EQ(p[1], p[0]);
            ASSERT_EQ(p[23], p[0]);
            binmalloc::deallocate(p);
        };
        for (std::size_t i = 0; i < scaled(3000); ++i) {
            const std::size_t size = sizes[random.below(std::size(sizes))];
            for (unsigned char*& p : own) {
                p = static_cast<unsigned char*>(binmalloc::allocate(size));
                ASSERT_NE(p, nullptr);
                std::memset(p, static_cast<int>(random.below(256)), 24);
            }
            for (unsigned char*& p : own) {
                if (random.below(4) == 0) p = places[random.below(exchanged)].exchange(p);
                release(p);
            }
        }
    };
    struct process_heap : leases<binmalloc::default_policy> {
        static void rob()
        {
            const slow_call call;
            if (call.mine() != nullptr) existing_pool()->steal_all(*call.mine(), 0);
        }
    };
    std::thread thief([&done] {
        while (!done) {
            process_heap::rob();
            binmalloc::purge();
        }
    });
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 3; ++i) threads.emplace_back(work, i + 1);
    for (std::thread& t : threads) t.join();
    done = true;
    thief.join();
    for (auto& place : places) binmalloc::deallocate(place.exchange(nullptr));
}

} // namespace
