// The blocks that threads keep for their next allocations: the lists, and what a heap does with them.
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
using binmalloc::detail::list_end;

class ClassLists : public testing::Test {
protected:
    using table = binmalloc::detail::default_table;
    using lists_type = binmalloc::detail::class_lists<table>;

    static constexpr unsigned bin = table::of(32);
    static constexpr std::size_t capacity = lists_type::capacity(bin);

    // Fills it with all blocks from the one with this number on.
    void fill(std::size_t from)
    {
        block* list = &list_end;
        for (std::size_t i = blocks.size(); i-- > from;) {
            blocks[i].next = list;
            list = &blocks[i];
        }
        lists.fill(bin, list);
    }

    std::size_t close()
    {
        std::size_t given = 0;
        lists.close(bin, [&given](block*) { ++given; });
        return given;
    }

    block* take() { return lists.take(bin); }
    bool keep(std::size_t i) { return lists.keep(bin, &blocks[i]); }
    bool keep_or_pass(std::size_t i)
    {
        const bool kept = keep(i);
        if (!kept) lists.pass(bin);
        return kept;
    }

    std::array<block, capacity + 4> blocks{};
    lists_type lists;
};

TEST_F(ClassLists, are_empty_and_closed_at_first)
{
    EXPECT_EQ(take(), nullptr);
    EXPECT_TRUE(lists.is_empty(bin));
    EXPECT_FALSE(keep_or_pass(0));
    EXPECT_EQ(take(), nullptr);
    EXPECT_EQ(close(), 0U);
}

TEST_F(ClassLists, give_back_what_was_kept_last)
{
    fill(blocks.size() - 2);
    EXPECT_TRUE(keep(0));
    EXPECT_TRUE(keep(1));
    EXPECT_EQ(take(), &blocks[1]);
    EXPECT_TRUE(keep(2));
    EXPECT_EQ(take(), &blocks[2]);
    EXPECT_EQ(take(), &blocks[0]);
    EXPECT_FALSE(lists.is_empty(bin));
    EXPECT_EQ(take(), &blocks[blocks.size() - 2]) << "what it was filled with, in its order";
    EXPECT_EQ(take(), &blocks[blocks.size() - 1]);
    EXPECT_EQ(take(), nullptr);
    EXPECT_TRUE(lists.is_empty(bin));
}

TEST_F(ClassLists, keep_no_more_than_there_is_room_for)
{
    fill(blocks.size());
    for (std::size_t i = 0; i < capacity; ++i) ASSERT_TRUE(keep(i)) << i;
    EXPECT_FALSE(keep_or_pass(capacity));
    EXPECT_FALSE(keep_or_pass(capacity + 1));
    ASSERT_EQ(take(), &blocks[capacity - 1]);
    EXPECT_TRUE(keep(capacity)) << "one was taken";
    EXPECT_FALSE(keep_or_pass(capacity + 1));
    EXPECT_EQ(close(), capacity);
}

TEST_F(ClassLists, close_when_many_have_passed)
{
    fill(blocks.size());
    lists.count_passed(bin, 1000);
    EXPECT_FALSE(lists.is_time_to_close(bin)) << "there is room";
    for (std::size_t i = 0; i < capacity; ++i) ASSERT_TRUE(keep(i));
    ASSERT_FALSE(keep_or_pass(capacity));
    lists.count_passed(bin, 63);
    EXPECT_FALSE(lists.is_time_to_close(bin));
    lists.count_passed(bin, 1);
    EXPECT_TRUE(lists.is_time_to_close(bin));
    EXPECT_EQ(close(), capacity);
    lists.count_passed(bin, 1000);
    EXPECT_FALSE(lists.is_time_to_close(bin)) << "it is closed";
    EXPECT_FALSE(keep_or_pass(0));
    EXPECT_EQ(take(), nullptr);
    fill(blocks.size() - 1);
    EXPECT_TRUE(keep(0)) << "it is open again";
    for (std::size_t i = 1; i < capacity; ++i) ASSERT_TRUE(keep(i));
    ASSERT_FALSE(keep_or_pass(capacity));
    lists.count_passed(bin, 63);
    EXPECT_FALSE(lists.is_time_to_close(bin)) << "those before do not count";
}

TEST_F(ClassLists, say_that_a_block_is_on_its_way_to_its_slab)
{
    EXPECT_FALSE(lists.are_being_passed());
    ASSERT_FALSE(keep(0)) << "closed";
    EXPECT_TRUE(lists.are_being_passed());
    lists.pass(bin);
    EXPECT_FALSE(lists.are_being_passed());

    fill(blocks.size());
    for (std::size_t i = 0; i < capacity; ++i) ASSERT_TRUE(keep(i));
    EXPECT_FALSE(lists.are_being_passed());
    ASSERT_FALSE(keep(capacity)) << "full";
    EXPECT_TRUE(lists.are_being_passed());
    lists.forget_passing();
    EXPECT_FALSE(lists.are_being_passed());
    EXPECT_EQ(close(), capacity);
}

TEST_F(ClassLists, see_what_was_freed_twice_in_a_row)
{
    if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    fill(blocks.size());
    ASSERT_TRUE(keep(0));
    ASSERT_TRUE(keep(0));
    EXPECT_EQ(take(), nullptr);
    EXPECT_DEATH(lists.is_empty(bin), "double free");
    EXPECT_DEATH(close(), "double free");
}

TEST_F(ClassLists, keep_more_of_small_blocks)
{
    EXPECT_EQ(lists_type::capacity(table::of(16)), 64);
    EXPECT_EQ(lists_type::capacity(table::of(16 * kib)), 24);
    for (unsigned i = 1; i < table::count; ++i)
        EXPECT_LE(lists_type::capacity(i), lists_type::capacity(i - 1)) << table::sizes[i];
}

// --- in a heap; one of its own for each test

template <class Tag>
struct own_policy : binmalloc::default_policy {
    struct footprint : binmalloc::default_footprint {
        using tag = Tag;
    };
};

constexpr std::array<std::size_t, 6> some_sizes{32, 700, 1500, 3000, 7000, 16 * kib};

// Of a class of at least 171 bytes.
constexpr std::size_t most_kept = 24;

// What a bin keeps for its next blocks: the slab that it serves from, and one without a live block.
constexpr std::size_t kept_slabs = 2 * 128 * kib;

TEST(ListsOfAHeap, give_the_next_requests_what_was_freed)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    for (const std::size_t size : some_sizes) {
        std::vector<void*> blocks(100);
        for (void*& b : blocks) b = own::allocate(size);
        // Of slabs all over.
        const std::array<void*, 4> freed{blocks[3], blocks[90], blocks[41], blocks[66]};
        for (void* b : freed) own::deallocate(b);
        for (std::size_t i = freed.size(); i-- > 0;) EXPECT_EQ(own::allocate(size), freed[i]);
        for (void* b : blocks) own::deallocate(b);
    }
}

TEST(ListsOfAHeap, have_room_again_when_a_block_was_taken)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    using table = binmalloc::detail::default_table;
    using lists = binmalloc::detail::class_lists<table>;
    for (const std::size_t size : some_sizes) {
        // Some more are freed than there is room for, but not so many that it closes.
        std::vector<void*> blocks(static_cast<std::size_t>(lists::capacity(table::of(size))) + 20);
        for (void*& b : blocks) b = own::allocate(size);
        void* const other = own::allocate(size);
        for (void* b : blocks) own::deallocate(b);
        void* const first = own::allocate(size);
        own::deallocate(first);
        EXPECT_EQ(own::allocate(size), first) << size;
        own::deallocate(first);
        own::deallocate(other);
    }
}

TEST(ListsOfAHeap, take_turns_with_slabs)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    for (const std::size_t size : some_sizes) {
        std::vector<void*> live;
        for (std::size_t some = 1; some <= most_kept; ++some) {
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

TEST(ListsOfAHeap, hold_nothing_after_many_frees)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    std::vector<std::vector<void*>> blocks;
    for (const std::size_t size : some_sizes) {
        for (void*& b : blocks.emplace_back(20 + 8 * mib / size)) b = own::allocate(size);
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
    EXPECT_LE(own::statistics().live, some_sizes.size() * kept_slabs);
}

TEST(ListsOfAHeap, of_a_thread_that_ends_are_emptied)
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

TEST(ListsOfAHeap, are_emptied_by_purge)
{
    struct tag;
    using own = binmalloc::basic_heap<own_policy<tag>>;
    std::vector<void*> blocks;
    for (const std::size_t size : some_sizes)
        for (std::size_t i = 0; i < most_kept; ++i) blocks.push_back(own::allocate(size));
    for (void* b : blocks) own::deallocate(b);
    own::purge();
    EXPECT_EQ(own::statistics().live, 0U);
}

TEST(ListsOfAHeap, leave_live_blocks_alone)
{
    run_threads(3, [](std::size_t me) {
        random_source random(seed() + me);
        std::vector<live_block> blocks(200);
        std::size_t damaged = 0;
        for (std::size_t i = 0; i < scaled(50000, 2000); ++i) {
            live_block& one = blocks[random.below(blocks.size())];
            if (one.address != nullptr) damaged += free_checked(one) ? 0 : 1;
            one = filled_block(8 + random.below(me == 0 ? 16 * kib : 1 * kib), i);
        }
        for (const live_block& one : blocks)
            if (one.address != nullptr) damaged += free_checked(one) ? 0 : 1;
        EXPECT_EQ(damaged, 0U);
    });
}

} // namespace
