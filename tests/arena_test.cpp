// arena and locked_arena: everything given out goes back at once.
#include <binmalloc/binmalloc.hpp>

#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::size_t sizes[] = {
    0, 1, 4, 8, 24, 100, 1000, 5000, 16 * kib, 16 * kib + 1, 100000, 1 * mib, 5 * mib, 40 * mib};

template <class Arena>
class Arenas : public testing::Test {};

class arena_names {
public:
    template <class Arena>
    static std::string GetName(int)
    {
        return std::is_same_v<Arena, binmalloc::arena> ? "arena" : "locked_arena";
    }
};
using arena_types = testing::Types<binmalloc::arena, binmalloc::locked_arena>;
TYPED_TEST_SUITE(Arenas, arena_types, arena_names);

/// Fills the arena with `count` blocks of all sizes and checks them against each other.
template <class Arena>
void populate(Arena& arena, std::size_t count, std::uint64_t seed_of_run)
{
    random_source random(seed() + seed_of_run);
    live_blocks live;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t size = random.size_up_to(random.one_in(100) ? 2 * mib : 4 * kib);
        const live_block block{arena.allocate(size), size, 0, seed_of_run << 32 | i};
        ASSERT_NE(block.address, nullptr);
        ASSERT_TRUE(live.add(block, arena.usable_size(block.address))) << "overlap, size " << size;
    }
    ASSERT_TRUE(live.all_intact());
}

TYPED_TEST(Arenas, blocks_of_every_size_and_alignment)
{
    TypeParam arena;
    live_blocks live;
    std::vector<live_block> blocks;
    for (std::size_t alignment = 1; alignment <= 64 * kib; alignment *= 2) {
        for (const std::size_t size : sizes) {
            if (size > 1 * mib && alignment > 1) continue;
            const live_block block{arena.allocate(size, alignment), size, alignment,
                                   size * 32 + alignment};
            ASSERT_NE(block.address, nullptr) << "size " << size << ", alignment " << alignment;
            ASSERT_TRUE(is_aligned(block.address, alignment)) << "size " << size;
            ASSERT_GE(arena.usable_size(block.address), size);
            ASSERT_TRUE(live.add(block, arena.usable_size(block.address)));
            blocks.push_back(block);
        }
    }
    for (std::size_t i = 0; i < blocks.size(); i += 2) {
        ASSERT_TRUE(live.remove(blocks[i])) << "size " << blocks[i].size;
        arena.deallocate(blocks[i].address);
    }
    EXPECT_TRUE(live.all_intact());
    // The other half goes with the arena.
}

TYPED_TEST(Arenas, a_freed_block_is_used_again)
{
    TypeParam arena;
    for (const std::size_t size : {4U, 24U, 1000U, 20000U, 300000U}) {
        const std::size_t before = memory_in_use().address_space;
        for (std::size_t i = 0; i < 256 * mib / size / (size < 1000 ? 100 : 1); ++i) {
            void* const block = opaque(arena.allocate(size));
            ASSERT_NE(block, nullptr);
            arena.deallocate(block);
        }
        EXPECT_LE(memory_in_use().address_space, before + 70 * mib) << "size " << size;
    }
}

TYPED_TEST(Arenas, reallocate_keeps_the_contents)
{
    TypeParam arena;
    void* block = nullptr;
    std::size_t old_size = 0;
    for (const std::size_t size :
         {1UL, 24UL, 500UL, 70000UL, 4000000UL, 40000000UL, 90000UL, 300UL, 2UL}) {
        block = arena.reallocate(block, size);
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(holds_prefix(block, std::min(old_size, size), 1)) << old_size << " -> " << size;
        fill(block, size, 1);
        old_size = size;
    }
    EXPECT_EQ(arena.reallocate(block, opaque(SIZE_MAX)), nullptr);
    EXPECT_TRUE(holds(block, old_size, 1));
}

TYPED_TEST(Arenas, impossible_requests_give_null_and_the_arena_goes_on)
{
    TypeParam arena;
    EXPECT_EQ(arena.allocate(opaque(SIZE_MAX)), nullptr);
    EXPECT_EQ(arena.allocate(opaque(SIZE_MAX / 2 + 1)), nullptr);
    EXPECT_EQ(arena.allocate(1, 3), nullptr);
    populate(arena, 100, 1);
}

TYPED_TEST(Arenas, the_destructor_gives_everything_back)
{
    const auto use_one = [] {
        TypeParam arena;
        populate(arena, 2000, 1);
        for (const std::size_t size : sizes) opaque(arena.allocate(size));
    };
    use_one();
    const process_memory before = memory_in_use();
    for (std::size_t round = 0; round < scaled(40, 4); ++round) use_one();
    const process_memory after = memory_in_use();
    if (sanitized) GTEST_SKIP() << "resident memory means nothing here";
    EXPECT_LT(after.resident, before.resident + 4 * mib);
    EXPECT_LT(after.address_space, before.address_space + 70 * mib);
}

TYPED_TEST(Arenas, clear_gives_everything_back_and_the_arena_goes_on)
{
    TypeParam arena;
    populate(arena, 2000, 1);
    arena.clear();
    const process_memory before = memory_in_use();
    for (std::uint64_t round = 0; round < scaled(40, 4); ++round) {
        populate(arena, 2000, round);
        opaque(arena.allocate(40 * mib));
        arena.clear();
    }
    arena.clear();
    if (sanitized) return;
    EXPECT_LT(memory_in_use().resident, before.resident + 16 * mib);
    EXPECT_LT(memory_in_use().address_space, before.address_space + 128 * mib);
}

TYPED_TEST(Arenas, many_live_side_by_side)
{
    std::vector<std::unique_ptr<TypeParam>> arenas(40);
    for (auto& arena : arenas) arena = std::make_unique<TypeParam>();
    live_blocks live;
    std::vector<std::vector<live_block>> blocks(arenas.size());
    random_source random(seed());
    for (std::uint64_t i = 0; i < scaled(40000, 4000); ++i) {
        const std::size_t which = random.below(arenas.size());
        const std::size_t size = random.size_up_to(random.one_in(500) ? 100 * kib : 1000);
        blocks[which].push_back({arenas[which]->allocate(size), size, 0, i});
        const live_block& block = blocks[which].back();
        ASSERT_NE(block.address, nullptr);
        ASSERT_TRUE(live.add(block, arenas[which]->usable_size(block.address)))
            << "overlap between arenas";
        if (random.one_in(2)) {
            ASSERT_TRUE(live.remove(block));
            arenas[which]->deallocate(block.address);
            blocks[which].pop_back();
        }
    }
    for (std::size_t which = 0; which < arenas.size(); which += 2) {
        for (const live_block& block : blocks[which]) ASSERT_TRUE(live.remove(block));
        arenas[which].reset();
    }
    EXPECT_TRUE(live.all_intact()) << "the end of one arena damaged another";
}

TYPED_TEST(Arenas, an_empty_arena_costs_and_frees_nothing)
{
    for (int i = 0; i < 1000; ++i) {
        TypeParam arena;
        arena.clear();
    }
    SUCCEED();
}

TYPED_TEST(Arenas, containers_through_arena_allocator)
{
    TypeParam arena;
    using text = std::basic_string<char, std::char_traits<char>,
                                   binmalloc::arena_allocator<char, TypeParam>>;
    binmalloc::arena_allocator<int, TypeParam> ints(arena);
    std::vector<int, binmalloc::arena_allocator<int, TypeParam>> vector(ints);
    std::list<int, binmalloc::arena_allocator<int, TypeParam>> list(ints);
    std::map<int, text, std::less<>,
             binmalloc::arena_allocator<std::pair<const int, text>, TypeParam>>
        map(ints);
    for (int i = 0; i < 5000; ++i) {
        vector.push_back(i);
        list.push_back(i);
        map.emplace(i, text(static_cast<std::size_t>(i % 100), 'x', ints));
    }
    for (int i = 0; i < 5000; i += 2) map.erase(i);
    EXPECT_TRUE(std::equal(vector.begin(), vector.end(), list.begin(), list.end()));
    for (const auto& [i, value] : map) ASSERT_EQ(value.size(), static_cast<std::size_t>(i % 100));
    const auto copy = list;
    EXPECT_EQ(copy, list);
    EXPECT_EQ(arena.usable_size(vector.data()) / sizeof(int) >= vector.capacity(), true);
}

TYPED_TEST(Arenas, allocators_are_equal_when_they_share_the_arena)
{
    TypeParam one, other;
    const binmalloc::arena_allocator<int, TypeParam> a(one), b(one), c(other);
    const binmalloc::arena_allocator<char, TypeParam> d(a);
    EXPECT_TRUE(a == b);
    EXPECT_TRUE(a == d);
    EXPECT_FALSE(a == c);
    static_assert(
        !std::allocator_traits<binmalloc::arena_allocator<int, TypeParam>>::is_always_equal::value);
}

TYPED_TEST(Arenas, containers_move_and_swap_across_arenas)
{
    TypeParam one, other;
    using vector = std::vector<int, binmalloc::arena_allocator<int, TypeParam>>;
    vector a({1, 2, 3}, binmalloc::arena_allocator<int, TypeParam>(one));
    vector b({4, 5}, binmalloc::arena_allocator<int, TypeParam>(other));
    b = std::move(a);
    EXPECT_EQ(b.size(), 3U);
    EXPECT_EQ(b.back(), 3);
    vector c(std::move(b));
    c.push_back(4);
    EXPECT_EQ(c.size(), 4U);
}

TYPED_TEST(Arenas, arena_allocator_throws_on_too_many_objects)
{
    TypeParam arena;
    binmalloc::arena_allocator<int, TypeParam> ints(arena);
    EXPECT_THROW(static_cast<void>(ints.allocate(opaque(SIZE_MAX))), std::bad_array_new_length);
    EXPECT_THROW(static_cast<void>(ints.allocate(opaque(SIZE_MAX / 8))), std::bad_alloc);
}

#if BINMALLOC_HAS_MEMORY_RESOURCE
TYPED_TEST(Arenas, pmr_containers_through_arena_resource)
{
    TypeParam arena;
    binmalloc::arena_resource<TypeParam> resource(arena);
    std::pmr::unordered_map<std::pmr::string, std::pmr::vector<int>> map(&resource);
    for (int i = 0; i < 3000; ++i)
        map[std::pmr::string("key " + std::to_string(i % 100))].push_back(i);
    EXPECT_EQ(map.size(), 100U);
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        void* const block = resource.allocate(100, alignment);
        EXPECT_TRUE(is_aligned(block, alignment));
        resource.deallocate(block, 100, alignment);
    }
    EXPECT_THROW(static_cast<void>(resource.allocate(opaque(SIZE_MAX))), std::bad_alloc);

    TypeParam other_arena;
    binmalloc::arena_resource<TypeParam> same(arena), other(other_arena);
    EXPECT_TRUE(resource.is_equal(same));
    EXPECT_FALSE(resource.is_equal(other));
    EXPECT_FALSE(resource.is_equal(*binmalloc::get_memory_resource()));
}
#endif

TEST(LockedArena, serves_several_threads)
{
    binmalloc::locked_arena arena;
    std::atomic<std::size_t> damaged = 0;
    std::vector<std::atomic<void*>> slots(64);
    run_threads(8, [&](std::size_t me) {
        random_source random(seed() + me);
        for (std::size_t step = 0; step < scaled(20000, 2000); ++step) {
            const std::size_t size = 16 + random.size_up_to(random.one_in(200) ? 64 * kib : 1000);
            auto* const mine = static_cast<std::uint64_t*>(arena.allocate(size));
            if (mine == nullptr) {
                ++damaged;
                continue;
            }
            mine[0] = size;
            fill(mine + 1, size - 8, size);
            auto* const theirs =
                static_cast<std::uint64_t*>(slots[random.below(slots.size())].exchange(mine));
            if (theirs == nullptr) continue;
            damaged += holds(theirs + 1, static_cast<std::size_t>(theirs[0]) - 8, theirs[0]) ? 0 : 1;
            arena.deallocate(theirs);
        }
    });
    EXPECT_EQ(damaged.load(), 0U);
}

TEST(Arena, passes_from_thread_to_thread)
{
    std::optional<binmalloc::arena> arena;
    std::vector<live_block> blocks;
    run_thread([&] {
        arena.emplace();
        for (std::size_t i = 0; i < 1000; ++i) {
            blocks.push_back({arena->allocate(i), i, 0, i});
            fill(blocks.back().address, i, i);
        }
    });
    run_thread([&] {
        for (const live_block& block : blocks) {
            EXPECT_TRUE(holds(block.address, block.size, block.id));
            if (block.size % 2 == 0) arena->deallocate(block.address);
        }
    });
    populate(*arena, 1000, 1);
    for (const live_block& block : blocks) {
        if (block.size % 2 != 0) {
            ASSERT_TRUE(holds(block.address, block.size, block.id));
        }
    }
    arena.reset();
}

} // namespace
