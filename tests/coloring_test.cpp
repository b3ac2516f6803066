// Equal large blocks begin at different places in their pages, so that they do not compete for the same
// lines of the processor's cache; and whatever is done to such a block, it stays whole.
#include <binmalloc/arena.hpp>
#include <binmalloc/binmalloc.hpp>

#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace binmalloc_test;
using binmalloc::detail::address_of;

constexpr std::size_t os_page = 4 * kib;
constexpr std::size_t unit = binmalloc::detail::unit_size;

std::size_t place_in_unit(const void* block) { return address_of(block) % unit; }

TEST(ColoringSizes, are_those_that_get_the_same_span_and_the_same_room)
{
    using namespace binmalloc::detail;
    const auto bytes_for = [](std::size_t size) {
        return binmalloc::detail::align_up(with_room(size, natural_alignment), unit_size);
    };
    const auto room_of_size = [&](std::size_t size) {
        return room_for(bytes_for(size), size, natural_alignment);
    };
    size_range range{0, 0};
    std::size_t ranges = 0;
    const std::size_t most = std::min(2 * mib, max_span_size - most_room); // on 32 bits, spans end there
    for (std::size_t size = max_block_size + 1; size <= most; ++size) {
        const std::size_t bytes = bytes_for(size);
        const std::size_t room = room_of_size(size);
        const size_range now = sizes_of(bytes, room);
        ASSERT_LT(size - now.first, now.count) << size;
        if (now.first == range.first) continue;
        ASSERT_EQ(now.first, size) << "they begin where the last ones end";
        ASSERT_TRUE(ranges == 0 || range.first + range.count == size);
        const std::size_t last = now.first + now.count - 1;
        ASSERT_EQ(bytes_for(last), bytes);
        ASSERT_EQ(room_of_size(last), room);
        ASSERT_TRUE(bytes_for(last + 1) != bytes || room_of_size(last + 1) != room);
        range = now;
        ++ranges;
    }
    EXPECT_GT(ranges, most / unit_size);
    EXPECT_EQ(sizes_of(9 * unit, 0).count, 0U) << "a request for more than a line's alignment";
}

TEST(ColoringSizes, are_known_of_a_block_that_was_resized)
{
    const auto knows = [](const void* p, std::size_t size) {
        const auto* s = static_cast<const binmalloc::detail::span*>(binmalloc::detail::header_of(p));
        return size - s->least < s->sizes;
    };
    for (std::size_t size : {20 * kib, 100 * kib}) {
        void* p = binmalloc::allocate(size);
        ASSERT_NE(p, nullptr);
        EXPECT_TRUE(knows(p, size));
        for (const std::size_t new_size : {3 * size, 2 * size}) {
            p = binmalloc::reallocate(p, new_size);
            ASSERT_NE(p, nullptr);
            EXPECT_TRUE(knows(p, binmalloc::usable_size(p))) << new_size;
        }
        binmalloc::deallocate(p);
    }
}

template <class Heap>
class Coloring : public testing::Test {
protected:
    // How many of `count` blocks begin at different places in their pages.
    std::size_t places(std::size_t count, std::size_t size)
    {
        std::set<std::size_t> all;
        std::vector<void*> blocks;
        for (std::size_t i = 0; i < count; ++i) {
            blocks.push_back(heap.allocate(size));
            EXPECT_NE(blocks.back(), nullptr);
            EXPECT_TRUE(is_aligned(blocks.back(), 64));
            all.insert(address_of(blocks.back()) % os_page);
        }
        for (void* block : blocks) heap.deallocate(block);
        return all.size();
    }

    // Returns: a block that does not begin where its unit does. `others` are to be freed.
    void* shifted(std::size_t size, std::vector<void*>& others)
    {
        for (int i = 0; i < 20; ++i) {
            void* const block = heap.allocate(size);
            if (place_in_unit(block) != 0) return block;
            others.push_back(block);
        }
        return nullptr;
    }

    Heap heap{};
};

struct heap_names {
    template <class Heap>
    static std::string GetName(int)
    {
        if (std::is_same_v<Heap, binmalloc::heap>) return "leased_caches";
        if (std::is_same_v<Heap, binmalloc::arena>) return "arena";
        return "single_cache";
    }
};

using heaps = testing::Types<binmalloc::heap, binmalloc::basic_heap<binmalloc::single_cache_policy>,
                             binmalloc::arena>;
TYPED_TEST_SUITE(Coloring, heaps, heap_names);

TYPED_TEST(Coloring, equal_blocks_begin_all_over_their_pages)
{
    // Where there is room: from 64 KiB on always, below in what is over of the last unit.
    for (const std::size_t size :
         {20 * kib, 40 * kib, 64 * kib, 96 * kib, 128 * kib, 256 * kib, 1 * mib - unit})
        EXPECT_GE(this->places(48, size), 20U) << "size " << size;
    EXPECT_GE(this->places(48, 32 * kib - 1 * kib), 10U); // of 16
}

TYPED_TEST(Coloring, what_is_usable_depends_on_the_request_alone)
{
    for (std::size_t size = 16 * kib + 1; size < 200 * kib; size += 997) {
        std::vector<void*> blocks;
        for (int i = 0; i < 8; ++i) {
            blocks.push_back(this->heap.allocate(size));
            ASSERT_EQ(binmalloc::usable_size(blocks.back()), binmalloc::good_size(size)) << "size " << size;
        }
        for (void* block : blocks) this->heap.deallocate(block);
    }
}

TYPED_TEST(Coloring, blocks_of_changing_sizes_do_not_overlap)
{
    // A span that is used again has the color of a block that left it more room, or less.
    live_blocks live;
    std::vector<live_block> blocks;
    std::uint64_t id = 0;
    for (std::size_t round = 0; round < 6; ++round) {
        for (std::size_t size : {60 * kib, 64 * kib - 64, 64 * kib - 63, 61 * kib, 49 * kib, 64 * kib,
                                 72 * kib, 80 * kib, 76 * kib + 1}) {
            const std::size_t alignment = id % 5 == 0 ? 4 * kib : 16;
            void* const p = this->heap.allocate(size, alignment);
            ASSERT_NE(p, nullptr);
            ASSERT_TRUE(is_aligned(p, alignment));
            blocks.push_back({p, binmalloc::usable_size(p), alignment, ++id});
            ASSERT_TRUE(live.add(blocks.back(), blocks.back().size)) << "overlap, size " << size;
        }
        for (std::size_t i = round % 2; i < blocks.size(); i += 2) {
            ASSERT_TRUE(live.remove(blocks[i])) << "overwritten: size " << blocks[i].size;
            this->heap.deallocate(blocks[i].address);
            blocks[i] = blocks.back();
            blocks.pop_back();
        }
    }
    for (const live_block& block : blocks) {
        ASSERT_TRUE(live.remove(block)) << "overwritten: size " << block.size;
        this->heap.deallocate(block.address);
    }
}

TYPED_TEST(Coloring, content_is_kept_wherever_a_block_goes)
{
    // In place, to another span, by its pages to a mapping of its own, there again; and back.
    constexpr std::size_t start = sizeof(void*) == 8 ? 3 * mib : 600 * kib; // of a region
    std::vector<void*> others;
    void* block = this->shifted(start, others);
    ASSERT_NE(block, nullptr);
    fill(block, start, 7);
    std::size_t kept = start;
    for (const std::size_t size : {3 * mib + 100 * kib, 2 * mib, 8 * mib, 40 * mib, 70 * mib, 100 * mib,
                                   66 * mib, 5 * mib, 100 * kib, 90 * kib, 64 * kib, 17 * kib, 3 * mib}) {
        // A neighbour, so that it has to move.
        others.push_back(this->heap.allocate(100 * kib));
        block = this->heap.reallocate(block, size);
        ASSERT_NE(block, nullptr);
        kept = size < kept ? size : kept;
        ASSERT_GE(binmalloc::usable_size(block), size);
        // Up to the end of what may be used.
        auto* const last = static_cast<unsigned char*>(block) + binmalloc::usable_size(block) - 1;
        if (kept < size) *last = 1;
        ASSERT_TRUE(holds_prefix(block, kept, 7)) << "size " << size;
    }
    this->heap.deallocate(block);
    for (void* other : others) this->heap.deallocate(other);
}

TYPED_TEST(Coloring, a_size_that_fits_does_not_move)
{
    for (const std::size_t size : {64 * kib, 128 * kib, 1 * mib - unit}) {
        std::vector<void*> others;
        void* const block = this->shifted(size, others);
        ASSERT_NE(block, nullptr);
        for (const std::size_t same : {size, size - 1, binmalloc::usable_size(block)})
            EXPECT_EQ(this->heap.reallocate(block, same), block) << "size " << same;
        this->heap.deallocate(block);
        for (void* other : others) this->heap.deallocate(other);
    }
}

TYPED_TEST(Coloring, what_needs_more_than_a_line_is_aligned)
{
    for (std::size_t alignment = 128; alignment <= 1 * mib; alignment *= 2) {
        for (int i = 0; i < 8; ++i) {
            void* const block = this->heap.allocate(72 * kib, alignment);
            EXPECT_TRUE(is_aligned(block, alignment)) << "alignment " << alignment;
            this->heap.deallocate(block);
            this->heap.deallocate(this->heap.allocate(72 * kib));
        }
    }
}

template <class Heap>
class ColoringDeathTest : public Coloring<Heap> {};
TYPED_TEST_SUITE(ColoringDeathTest, heaps, heap_names);

TYPED_TEST(ColoringDeathTest, where_the_span_begins_is_no_block)
{
    if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    std::vector<void*> others;
    auto* const block = static_cast<char*>(this->shifted(64 * kib, others));
    ASSERT_NE(block, nullptr);
    EXPECT_DEATH(this->heap.deallocate(block - place_in_unit(block)), "^binmalloc: ");
    EXPECT_DEATH(this->heap.deallocate(block + 64), "^binmalloc: ");
    EXPECT_DEATH(static_cast<void>(this->heap.reallocate(block - place_in_unit(block), 65 * kib)),
                 "^binmalloc: ");
    this->heap.deallocate(block);
    for (void* other : others) this->heap.deallocate(other);
}

} // namespace
