// The address sanitizer knows binmalloc's blocks: what is freed, and what lies behind the size asked
// for, may not be touched; and a correct program is not accused. In other builds the same correct
// programs must do.
#include <binmalloc/binmalloc.hpp>

#include "support/heap.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <list>
#include <memory>
#include <string>
#include <vector>

#if defined(BINMALLOC_TEST_ADDRESS_SANITIZER)
/// Of each of more than a hundred reports the first words are read: nobody needs to look up where the calls
/// in it are. ASAN_OPTIONS=symbolize=1 does it all the same.
extern "C" const char* __asan_default_options() { return "symbolize=0"; }
#endif

namespace {

using namespace binmalloc_test;

/// Of every kind: small, spans, huge; none fills its block.
constexpr std::size_t sizes[] = {9,    13,    33,    100,    1001,    5000,
                                 9001, 16001, 20001, 100001, 3000001, 9000001};

/// A node of a container whose block has room to spare: 41 bytes in 48.
struct odd_node {
    char bytes[41];
};

/// Reads and writes every byte that a program may use.
void use_all(void* block, std::size_t size)
{
    fill(block, size, size);
    ASSERT_TRUE(holds(block, size, size)) << "size " << size;
}

// --- correct programs

TEST(AddressSanitizer, every_byte_asked_for_may_be_used)
{
    for (std::size_t size = 0; size <= 40 * kib; size += size / 64 + 1) {
        for (int round = 0; round < 3; ++round) { // the later ones are used before
            void* const block = binmalloc::allocate(size);
            ASSERT_NE(block, nullptr);
            use_all(block, size);
            void* const zeroed = binmalloc::allocate_zeroed(size);
            ASSERT_TRUE(all_zero(zeroed, size));
            use_all(zeroed, size);
            void* const aligned = binmalloc::allocate(size, 64);
            use_all(aligned, size);
            binmalloc::deallocate(block);
            binmalloc::deallocate(zeroed, size);
            binmalloc::deallocate(aligned, size, 64);
        }
    }
    for (const std::size_t size : sizes) {
        for (int round = 0; round < 2; ++round) {
            void* const block = binmalloc::allocate_zeroed(size);
            ASSERT_TRUE(all_zero(block, size));
            use_all(block, size);
            binmalloc::deallocate(block);
        }
    }
}

TEST(AddressSanitizer, a_larger_block_may_lie_where_smaller_ones_were)
{
    // Whatever is remembered of the small ones must go with their slabs and spans.
    for (const std::size_t size : sizes) {
        std::vector<void*> blocks(
            std::max<std::size_t>(2, std::min<std::size_t>(2000, 2 * mib / size)));
        for (void*& block : blocks) {
            block = binmalloc::allocate(size);
            use_all(block, size);
        }
        for (void* const block : blocks) binmalloc::deallocate(block);
        if (size % 2 == 0) binmalloc::purge();
        void* const large = binmalloc::allocate(2 * mib);
        use_all(large, 2 * mib);
        binmalloc::deallocate(large);
    }
}

TEST(AddressSanitizer, who_asks_for_the_usable_size_may_use_it)
{
    for (const std::size_t size : sizes) {
        void* const block = binmalloc::allocate(size);
        use_all(block, binmalloc::usable_size(block));
        binmalloc::deallocate(block);
        const auto most = binmalloc::allocate_at_least(size);
        ASSERT_GE(most.count, size);
        use_all(most.ptr, most.count);
        binmalloc::deallocate(most.ptr);
    }
    const auto many = binmalloc::allocator<odd_node>{}.allocate_at_least(100);
    use_all(many.ptr, many.count * sizeof(odd_node));
    binmalloc::allocator<odd_node>{}.deallocate(many.ptr, many.count);
}

TEST(AddressSanitizer, a_reallocated_block_has_its_new_size)
{
    for (const std::size_t from : sizes) {
        for (const std::size_t to : sizes) {
            void* block = binmalloc::allocate(from);
            use_all(block, from);
            block = binmalloc::reallocate(block, to);
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(holds_prefix(block, std::min(from, to), from)) << from << " to " << to;
            use_all(block, to);
            block = binmalloc::reallocate(block, to + 1); // in place, where it fits
            use_all(block, to + 1);
            binmalloc::deallocate(block);
        }
    }
}

TEST(AddressSanitizer, containers_and_nodes)
{
    for (int round = 0; round < 3; ++round) {
        std::list<odd_node, binmalloc::allocator<odd_node>> nodes(3000);
        for (odd_node& node : nodes) use_all(&node, sizeof node);
        std::vector<std::string> texts;
        for (std::size_t length = 0; length < 1000; ++length) texts.emplace_back(length, 'x');
        std::basic_string<char, std::char_traits<char>, binmalloc::allocator<char>> text;
        for (int i = 0; i < 100000; ++i) text.push_back('y');
        ASSERT_EQ(text.find('x'), text.npos);
    }
}

TEST(AddressSanitizer, an_arena_may_be_cleared_and_used_again)
{
    binmalloc::arena arena;
    for (int round = 0; round < 3; ++round) {
        for (const std::size_t size : sizes) {
            for (int i = 0; i < 3; ++i) {
                void* block = arena.allocate(size);
                ASSERT_NE(block, nullptr);
                use_all(block, size);
                if (i == 1) block = arena.reallocate(block, size + 1);
                use_all(block, size + (i == 1 ? 1 : 0));
                if (i == 2) arena.deallocate(block);
            }
        }
        arena.clear();
    }
    for (const std::size_t size : sizes) { // the heap has what the arena had
        void* const block = binmalloc::allocate(size);
        use_all(block, size);
        binmalloc::deallocate(block);
    }
}

TEST(AddressSanitizer, blocks_may_go_through_other_threads)
{
    std::vector<void*> blocks(2000);
    for (int round = 0; round < 5; ++round) {
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            blocks[i] = binmalloc::allocate(i + 1);
            use_all(blocks[i], i + 1);
        }
        run_thread([&] {
            for (std::size_t i = 0; i < blocks.size(); ++i) {
                EXPECT_TRUE(holds(blocks[i], i + 1, i + 1));
                binmalloc::deallocate(blocks[i]);
            }
        });
    }
}

TEST(AddressSanitizer, pages_may_be_used_whole)
{
    binmalloc::page_allocator pages;
    for (int round = 0; round < 2; ++round) {
        for (const std::size_t size : sizes) {
            void* block = pages.allocate(size);
            ASSERT_NE(block, nullptr);
            use_all(block, pages.usable_size(block));
            block = pages.reallocate(block, 2 * size);
            use_all(block, pages.usable_size(block));
            pages.deallocate(block);
        }
    }
}

TEST(AddressSanitizer, memory_goes_back_to_the_system_and_comes_again)
{
    // What other code maps where blocks were must be clean.
    for (int round = 0; round < 3; ++round) {
        std::vector<void*> blocks;
        for (int i = 0; i < 20; ++i) blocks.push_back(binmalloc::allocate(9000001));
        for (void* const block : blocks) binmalloc::deallocate(block);
        binmalloc::purge();
        std::vector<std::unique_ptr<char[]>> others;
        for (int i = 0; i < 20; ++i) {
            others.push_back(std::make_unique<char[]>(9 * mib)); // zeroed: all of it is written
            ASSERT_TRUE(all_zero(others.back().get(), 9 * mib));
        }
    }
}

// --- wrong programs, which end with a report

#if defined(BINMALLOC_TEST_ADDRESS_SANITIZER)

constexpr char reported[] = "AddressSanitizer: use-after-poison";
/// Memory that went back to the system at once has no mapping any more.
constexpr char reported_or_unmapped[] = "AddressSanitizer: (use-after-poison|SEGV)";

char read_byte(const void* block, std::size_t offset)
{
    return static_cast<const volatile char*>(opaque(block))[offset];
}
void write_byte(void* block, std::size_t offset)
{
    static_cast<volatile char*>(opaque(block))[offset] = 1;
}

TEST(AddressSanitizerDeathTest, read_after_free)
{
    for (const std::size_t size : sizes) {
        for (const std::size_t offset : {std::size_t{0}, std::size_t{8}, size / 2, size - 1}) {
            const auto wrong = [=] {
                void* const block = binmalloc::allocate(size);
                binmalloc::deallocate(block);
                read_byte(block, offset);
            };
            EXPECT_DEATH(wrong(), reported) << "byte " << offset << " of " << size;
        }
    }
}

TEST(AddressSanitizerDeathTest, write_after_free)
{
    for (const std::size_t size : sizes) {
        const auto wrong = [=] {
            void* const block = binmalloc::allocate(size, 64);
            binmalloc::deallocate(block, size, 64);
            write_byte(block, size / 2);
        };
        EXPECT_DEATH(wrong(), reported) << "size " << size;
    }
}

TEST(AddressSanitizerDeathTest, read_after_another_thread_has_freed)
{
    for (const std::size_t size : {std::size_t{13}, std::size_t{1001}, std::size_t{100001}}) {
        const auto wrong = [=] {
            void* const block = binmalloc::allocate(size);
            run_thread([=] { binmalloc::deallocate(block); });
            read_byte(block, size / 2);
        };
        EXPECT_DEATH(wrong(), reported) << "size " << size;
    }
}

TEST(AddressSanitizerDeathTest, access_one_byte_past_the_size_asked_for)
{
    for (const std::size_t size : sizes) {
        void* const block = binmalloc::allocate(size);
        EXPECT_DEATH(read_byte(block, size), reported) << "size " << size;
        EXPECT_DEATH(write_byte(block, size), reported) << "size " << size;
        binmalloc::deallocate(block);
        void* const zeroed = binmalloc::allocate_zeroed(size);
        EXPECT_DEATH(read_byte(zeroed, size), reported) << "zeroed, size " << size;
        binmalloc::deallocate(zeroed);
        void* const aligned = binmalloc::allocate(size, 32);
        EXPECT_DEATH(read_byte(aligned, size), reported) << "aligned, size " << size;
        binmalloc::deallocate(aligned);
    }
}

TEST(AddressSanitizerDeathTest, access_past_the_size_after_a_larger_block_was_there)
{
    for (const std::size_t size : {std::size_t{13}, std::size_t{100}, std::size_t{20001}}) {
        void* const larger = binmalloc::allocate(size + 2);
        use_all(larger, binmalloc::usable_size(larger));
        binmalloc::deallocate(larger);
        void* const block = binmalloc::allocate(size);
        EXPECT_DEATH(read_byte(block, size), reported) << "size " << size;
        binmalloc::deallocate(block);
    }
}

TEST(AddressSanitizerDeathTest, access_past_a_reallocated_block)
{
    for (const std::size_t size : sizes) {
        // In place: there are a few bytes to lose, and to gain.
        void* block = binmalloc::reallocate(binmalloc::allocate(size), size - 1);
        EXPECT_DEATH(read_byte(block, size - 1), reported) << "made smaller, size " << size;
        block = binmalloc::reallocate(block, size);
        EXPECT_DEATH(read_byte(block, size), reported) << "made larger, size " << size;
        binmalloc::deallocate(block);
    }
}

TEST(AddressSanitizerDeathTest, read_of_the_old_block_after_reallocate_has_moved_it)
{
    struct move {
        std::size_t from;
        std::size_t to;
        const char* report;
    };
    for (const move m :
         {move{13, 5000, reported}, move{5000, 13, reported}, move{1001, 100001, reported},
          move{100001, 1001, reported}, move{100001, 9000001, reported},
          move{9000001, 1001, reported}, move{9000001, 30000001, reported_or_unmapped}}) {
        const auto wrong = [=] {
            void* const old = binmalloc::allocate(m.from);
            use_all(old, m.from);
            void* const moved = binmalloc::reallocate(old, m.to);
            // A huge mapping may have grown where it is; then there is no old block to read.
            read_byte(moved == old ? static_cast<char*>(old) + m.to : old, 0);
        };
        EXPECT_DEATH(wrong(), m.report) << m.from << " to " << m.to;
    }
}

TEST(AddressSanitizerDeathTest, read_after_a_node_was_freed)
{
    const auto wrong = [] {
        odd_node* const node = binmalloc::allocator<odd_node>{}.allocate(1);
        binmalloc::allocator<odd_node>{}.deallocate(node, 1);
        read_byte(node, 20);
    };
    EXPECT_DEATH(wrong(), reported);
    const auto container = [] {
        std::list<odd_node, binmalloc::allocator<odd_node>> nodes(3);
        const odd_node* const front = &nodes.front();
        nodes.pop_front();
        read_byte(front, 0);
    };
    EXPECT_DEATH(container(), reported);
}

TEST(AddressSanitizerDeathTest, read_past_a_node)
{
    odd_node* const node = binmalloc::allocator<odd_node>{}.allocate(1);
    EXPECT_DEATH(read_byte(node, sizeof(odd_node)), reported);
    binmalloc::allocator<odd_node>{}.deallocate(node, 1);
    char* const text = binmalloc::allocator<char>{}.allocate(101);
    EXPECT_DEATH(read_byte(text, 101), reported);
    binmalloc::allocator<char>{}.deallocate(text, 101);
}

TEST(AddressSanitizerDeathTest, read_after_an_arena_was_cleared_or_is_gone)
{
    for (const std::size_t size : sizes) {
        const auto after_clear = [=] {
            binmalloc::arena arena;
            const void* const block = arena.allocate(size);
            arena.clear();
            read_byte(block, size / 2);
        };
        EXPECT_DEATH(after_clear(), reported) << "size " << size;
        const auto after_its_end = [=] {
            const void* block = nullptr;
            {
                binmalloc::locked_arena arena;
                block = arena.allocate(size);
            }
            read_byte(block, size / 2);
        };
        EXPECT_DEATH(after_its_end(), reported) << "size " << size;
        const auto after_one_free = [=] {
            binmalloc::arena arena;
            void* const block = arena.allocate(size);
            arena.deallocate(block);
            read_byte(block, size / 2);
        };
        EXPECT_DEATH(after_one_free(), reported) << "size " << size;
    }
}

TEST(AddressSanitizerDeathTest, read_past_a_block_of_an_arena)
{
    binmalloc::arena arena;
    for (const std::size_t size : sizes) {
        void* const block = arena.allocate(size);
        EXPECT_DEATH(read_byte(block, size), reported) << "size " << size;
    }
}

TEST(AddressSanitizerDeathTest, single_cache_heap)
{
    using single = binmalloc::basic_heap<binmalloc::single_cache_policy>;
    for (const std::size_t size : sizes) {
        void* const block = single::allocate(size);
        EXPECT_DEATH(read_byte(block, size), reported) << "size " << size;
        single::deallocate(block);
        EXPECT_DEATH(read_byte(block, size / 2), reported) << "size " << size;
    }
}

#endif

} // namespace
