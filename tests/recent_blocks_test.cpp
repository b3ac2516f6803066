// Large blocks that threads keep near: the list by itself, and what a heap does with it.
#include <binmalloc/binmalloc.hpp>

#include "support/filled_block.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <set>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;
using binmalloc::detail::block;
using binmalloc::detail::recent_blocks;

class RecentBlocks : public testing::Test {
protected:
    struct large_block : block {
        std::size_t more;
    };

    RecentBlocks() { recent.make(); }

    std::size_t close()
    {
        std::size_t given = 0;
        recent.close([&given](block*) { ++given; });
        return given;
    }

    block* take() { return pop(&recent); }

    std::array<large_block, recent_blocks::capacity + 1> blocks{};
    recent_blocks recent;
};

TEST_F(RecentBlocks, come_back_last_in_first_out)
{
    EXPECT_EQ(take(), nullptr);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(recent.keep(&blocks[static_cast<std::size_t>(i)]));
    EXPECT_EQ(take(), &blocks[2]);
    ASSERT_TRUE(recent.keep(&blocks[2]));
    for (std::size_t i = 3; i-- > 0;) EXPECT_EQ(take(), &blocks[i]);
    EXPECT_EQ(take(), nullptr);
}

TEST_F(RecentBlocks, are_no_more_than_there_is_room_for)
{
    for (std::size_t i = 0; i < recent_blocks::capacity; ++i) ASSERT_TRUE(recent.keep(&blocks[i]));
    EXPECT_FALSE(recent.keep(&blocks.back()));
    EXPECT_FALSE(recent.is_closed());
    take();
    EXPECT_TRUE(recent.keep(&blocks.back()));
}

TEST_F(RecentBlocks, are_not_kept_twice)
{
    if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    ASSERT_TRUE(recent.keep(&blocks[0]));
    EXPECT_FALSE(recent.keep(&blocks[0]));
    EXPECT_DEATH(recent.pass(&blocks[0]), "double free");
}

TEST_F(RecentBlocks, are_passed_by_many_before_they_go)
{
    int passed = 1;
    while (recent.pass(&blocks[0])) ++passed;
    EXPECT_EQ(passed, 64);
    recent.open();
    EXPECT_TRUE(recent.pass(&blocks[0]));
    EXPECT_EQ(close(), 0U);
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(recent.pass(&blocks[0])) << "it is closed";
}

TEST_F(RecentBlocks, are_none_where_it_is_closed)
{
    for (std::size_t i = 0; i < 5; ++i) ASSERT_TRUE(recent.keep(&blocks[i]));
    EXPECT_EQ(close(), 5U);
    EXPECT_TRUE(recent.is_closed());
    EXPECT_EQ(take(), nullptr);
    EXPECT_FALSE(recent.keep(&blocks[0]));
    EXPECT_EQ(close(), 0U);
    recent.open();
    EXPECT_FALSE(recent.is_closed());
    EXPECT_TRUE(recent.keep(&blocks[0]));
    recent.open();
    EXPECT_EQ(take(), &blocks[0]) << "it was open already";
}

// --- in a heap; one of its own for each test

template <class Tag>
struct own_policy : binmalloc::default_policy {
    struct footprint : binmalloc::default_footprint {
        using tag = Tag;
    };
};

constexpr std::array<std::size_t, 4> large_sizes{1500, 3000, 7000, 16 * kib};

// What a bin keeps for its next blocks: the slab that it serves from, and one without a live block.
constexpr std::size_t kept_slabs = 2 * 128 * kib;

TEST(RecentBlocksOfAHeap, are_what_the_next_requests_get)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    for (const std::size_t size : large_sizes) {
        std::vector<void*> blocks(100);
        for (void*& b : blocks) b = own::allocate(size);
        // Of slabs all over.
        const std::array<void*, 4> freed{blocks[3], blocks[90], blocks[41], blocks[66]};
        for (void* b : freed) own::deallocate(b);
        for (std::size_t i = freed.size(); i-- > 0;) EXPECT_EQ(own::allocate(size), freed[i]);
        for (void* b : blocks) own::deallocate(b);
    }
}

TEST(RecentBlocksOfAHeap, take_turns_with_their_slab)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    for (const std::size_t size : large_sizes) {
        std::vector<void*> live;
        for (std::size_t some = 1; some <= recent_blocks::capacity; ++some) {
            for (std::size_t i = 0; i < 2 * some; ++i) live.push_back(own::allocate(size));
            // The last ones come back, and after them others, which nobody has.
            const std::vector<void*> freed(live.end() - static_cast<std::ptrdiff_t>(some), live.end());
            live.resize(live.size() - some);
            for (void* const b : freed) own::deallocate(b);
            for (std::size_t i = some; i-- > 0;) {
                live.push_back(own::allocate(size));
                EXPECT_EQ(live.back(), freed[i]);
            }
            live.push_back(own::allocate(size));
        }
        const std::set<void*> different(live.begin(), live.end());
        EXPECT_EQ(different.size(), live.size());
        for (void* const b : live) own::deallocate(b);
    }
}

TEST(RecentBlocksOfAHeap, are_none_after_many_frees)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    std::vector<std::vector<void*>> blocks;
    for (const std::size_t size : large_sizes) {
        for (void*& b : blocks.emplace_back(500)) b = own::allocate(size);
    }
    const std::size_t full = own::statistics().live;
    // One of each slab is the last of it that is freed, at the end.
    random_source random(seed());
    for (std::vector<void*>& of_size : blocks) {
        for (std::size_t left = of_size.size(); left > 0; --left) {
            std::swap(of_size[random.below(left)], of_size[left - 1]);
            own::deallocate(of_size[left - 1]);
        }
    }
    EXPECT_GT(full, 10 * mib);
    EXPECT_LE(own::statistics().live, large_sizes.size() * kept_slabs);
}

TEST(RecentBlocksOfAHeap, of_a_thread_that_ends_go_home)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    std::thread([] {
        // Of eight slabs; too few to close the list.
        std::vector<void*> blocks(64);
        for (void*& b : blocks) b = own::allocate(16 * kib);
        for (void* b : blocks) own::deallocate(b);
        EXPECT_GT(own::statistics().live, kept_slabs);
    }).join();
    EXPECT_LE(own::statistics().live, kept_slabs);
}

TEST(RecentBlocksOfAHeap, go_home_by_purge)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    std::vector<void*> blocks;
    for (const std::size_t size : large_sizes)
        for (std::size_t i = 0; i < recent_blocks::capacity; ++i) blocks.push_back(own::allocate(size));
    for (void* b : blocks) own::deallocate(b);
    own::purge();
    EXPECT_EQ(own::statistics().live, 0U);
}

TEST(RecentBlocksOfAHeap, keep_what_is_written_to_them)
{
    run_threads(3, [](std::size_t me) {
        random_source random(seed() + me);
        std::vector<live_block> blocks(200);
        std::size_t damaged = 0;
        for (std::size_t i = 0; i < scaled(50000, 2000); ++i) {
            live_block& one = blocks[random.below(blocks.size())];
            if (one.address != nullptr) damaged += free_checked(one) ? 0 : 1;
            one = filled_block(1025 + random.below(15 * kib), i);
        }
        for (const live_block& one : blocks)
            if (one.address != nullptr) damaged += free_checked(one) ? 0 : 1;
        EXPECT_EQ(damaged, 0U);
    });
}

} // namespace
