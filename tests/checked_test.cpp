// The checked policy: every misuse that it promises to see, seen when it happens, and no correct
// program accused.
#include <binmalloc/binmalloc.hpp>

#include "support/correct_program.hpp"
#include "support/deadline.hpp"
#include "support/misuse.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace binmalloc_test;

struct checked_single_policy : binmalloc::checked_policy {
    using threading = binmalloc::single_cache;
};
using leased_heap = binmalloc::basic_heap<binmalloc::checked_policy>;
using single_heap = binmalloc::basic_heap<checked_single_policy>;

static_assert(binmalloc::heap_policy<binmalloc::checked_policy>);
static_assert(std::is_base_of_v<binmalloc::default_policy, binmalloc::checked_policy>);

class heap_names {
public:
    template <class Heap>
    static std::string GetName(int)
    {
        return std::is_same_v<Heap, single_heap> ? "single_cache" : "leased_caches";
    }
};
using heaps = testing::Types<leased_heap, single_heap>;

// --- misuse

template <class Heap>
class CheckedDeathTest : public testing::Test {
protected:
    void SetUp() override
    {
        if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    }
};
TYPED_TEST_SUITE(CheckedDeathTest, heaps, heap_names);

constexpr std::array<std::size_t, 13> sizes{4,    8,    16,    40,       64,        100,     256,
                                            1000, 3000, 10000, 16 * kib, 100 * kib, 20 * mib};

/// Blocks side by side, of which some are freed before and after the one that a test is about.
template <class Heap>
class neighbours {
public:
    explicit neighbours(std::size_t size) : size_(size), blocks_(size < 1 * mib ? 300 : 5)
    {
        for (void*& block : blocks_) block = opaque(Heap::allocate(size, 4));
    }
    ~neighbours()
    {
        for (void* const block : blocks_) Heap::deallocate(block, size_, 4);
    }
    neighbours(const neighbours&) = delete;
    neighbours& operator=(const neighbours&) = delete;

    void* in_the_middle() const { return blocks_[blocks_.size() / 2]; }
    void* first() const { return blocks_[0]; }

    /// All but the two above.
    void free_others() const
    {
        for (void* const block : blocks_)
            if (block != in_the_middle() && block != first()) Heap::deallocate(block);
    }

private:
    std::size_t size_;
    std::vector<void*> blocks_;
};

TYPED_TEST(CheckedDeathTest, second_free_of_any_block)
{
    using heap = TypeParam;
    for (const std::size_t size : sizes) {
        SCOPED_TRACE(size);
        const neighbours<heap> blocks(size);
        void* const block = blocks.in_the_middle();
        expect_report(block, [&] { // on top of its list
            heap::deallocate(block);
            heap::deallocate(block);
        });
        expect_report(block, [&] { // under another
            heap::deallocate(block);
            heap::deallocate(blocks.first());
            heap::deallocate(block);
        });
        expect_report(block, [&] { // deep in the list
            heap::deallocate(block);
            blocks.free_others();
            heap::deallocate(block);
        });
        expect_report(block, [&] { // in a slab without a live block, or in none any more
            heap::deallocate(block);
            heap::deallocate(blocks.first());
            blocks.free_others();
            heap::deallocate(block);
        });
        expect_report(block, [&] { // by reallocate
            heap::deallocate(block);
            opaque(heap::reallocate(block, size * 3));
        });
    }
}

TYPED_TEST(CheckedDeathTest, second_free_by_another_thread)
{
    using heap = TypeParam;
    for (const std::size_t size : sizes) {
        SCOPED_TRACE(size);
        const neighbours<heap> blocks(size);
        void* const block = blocks.in_the_middle();
        // A free by another thread may be looked at when it arrives.
        const auto until_it_arrives = [&] {
            for (int i = 0; i < 20000 && size <= 16 * kib; ++i) opaque(heap::allocate(size, 4));
        };
        expect_report(block, [&] {
            run_thread([&] {
                heap::deallocate(block);
                heap::deallocate(block);
            });
            until_it_arrives();
        });
        expect_report(block, [&] { // not one after the other
            run_thread([&] {
                heap::deallocate(block);
                blocks.free_others();
                heap::deallocate(block);
            });
            until_it_arrives();
        });
        expect_report(block, [&] { // each by a thread of its own
            run_thread([&] { heap::deallocate(block); });
            run_thread([&] { heap::deallocate(block); });
            until_it_arrives();
        });
        expect_report(block, [&] { // first by its owner
            heap::deallocate(block);
            run_thread([&] { heap::deallocate(block); });
            until_it_arrives();
        });
    }
}

TYPED_TEST(CheckedDeathTest, second_free_in_an_arena)
{
    using heap = TypeParam;
    for (const std::size_t size : sizes) {
        SCOPED_TRACE(size);
        binmalloc::basic_arena<heap, binmalloc::detail::no_lock> arena;
        void* const block = opaque(arena.allocate(size, 4));
        void* const other = opaque(arena.allocate(size, 4));
        expect_report(block, [&] {
            arena.deallocate(block);
            arena.deallocate(other);
            arena.deallocate(block);
        });
    }
}

TYPED_TEST(CheckedDeathTest, free_of_an_interior_pointer)
{
    using heap = TypeParam;
    for (const std::size_t size : sizes) {
        const neighbours<heap> blocks(size);
        auto* const block = static_cast<char*>(blocks.in_the_middle());
        for (const std::size_t inside : {std::size_t{1}, size / 2, size - 1}) {
            SCOPED_TRACE(std::to_string(inside) + " bytes inside " + std::to_string(size));
            char* const pointer = block + inside;
            expect_report(pointer, [&] { heap::deallocate(pointer); });
            expect_report(pointer, [&] { run_thread([&] { heap::deallocate(pointer); }); });
            expect_report(pointer, [&] { opaque(heap::reallocate(pointer, 2 * size)); });
        }
    }
}

TYPED_TEST(CheckedDeathTest, free_of_a_block_that_is_not_handed_out_yet)
{
    using heap = TypeParam;
    void* const block = opaque(heap::allocate(1000));
    // The last block of a fresh slab, never allocated.
    auto* const beyond = static_cast<char*>(block) + 5 * heap::usable_size(block);
    expect_report(beyond, [&] { heap::deallocate(beyond); });
    heap::deallocate(block);
}

TYPED_TEST(CheckedDeathTest, free_with_a_wrong_size)
{
    using heap = TypeParam;
    for (const std::size_t size : sizes) {
        for (const std::size_t wrong : {size / 2, size * 2 + 8, size * 10, std::size_t{0}}) {
            SCOPED_TRACE(std::to_string(size) + " freed as " + std::to_string(wrong));
            if (heap::good_size(wrong, 4) == heap::good_size(size, 4))
                continue; // not to be told apart
            void* const block = opaque(heap::allocate(size, 4));
            expect_report(block, [&] { heap::deallocate(block, wrong, 4); });
            expect_report(block, [&] { run_thread([&] { heap::deallocate(block, wrong, 4); }); });
            heap::deallocate(block, size, 4);
        }
    }
    for (const std::size_t size : {std::size_t{100}, 1 * kib, 100 * kib, 20 * mib}) {
        void* const block = opaque(heap::allocate(size));
        expect_report(block, [&] { heap::deallocate(block, 3 * size); });
        heap::deallocate(block, size);
    }
}

TYPED_TEST(CheckedDeathTest, containers_free_with_the_size_of_another_type)
{
    using heap = TypeParam;
    struct derived {
        char bytes[200];
    };
    auto* const object = binmalloc::heap_allocator<derived, heap>{}.allocate(1);
    auto* const as_base = reinterpret_cast<std::uint64_t*>(object);
    expect_report(object,
                  [&] { binmalloc::heap_allocator<std::uint64_t, heap>{}.deallocate(as_base, 1); });
    binmalloc::heap_allocator<derived, heap>{}.deallocate(object, 1);
}

TYPED_TEST(CheckedDeathTest, free_of_memory_of_others)
{
    using heap = TypeParam;
    // Of a heap whose regions look the same.
    void* const block = opaque(binmalloc::basic_heap<binmalloc::single_cache_policy>::allocate(50));
    auto* const inside = static_cast<char*>(block) + 8;
    expect_report(inside, [&] { heap::deallocate(inside); });
    binmalloc::basic_heap<binmalloc::single_cache_policy>::deallocate(block);
}

// --- correct programs

template <class Heap>
class Checked : public testing::Test {
    const deadline no_hang_{100};
};
TYPED_TEST_SUITE(Checked, heaps, heap_names);

TYPED_TEST(Checked, accuses_nobody_who_frees_in_any_order) { free_in_every_order<TypeParam>(); }
TYPED_TEST(Checked, accuses_no_block_that_looks_free) { blocks_that_look_free<TypeParam>(); }
TYPED_TEST(Checked, accuses_nobody_who_frees_with_a_size) { frees_with_a_size<TypeParam>(); }
TYPED_TEST(Checked, accuses_no_thread) { exchange_blocks_of_all_kinds<TypeParam>(); }

TYPED_TEST(Checked, accuses_no_arena)
{
    using heap = TypeParam;
    random_source random(seed());
    for (int round = 0; round < 5; ++round) {
        binmalloc::basic_arena<heap, binmalloc::detail::no_lock> arena;
        std::vector<void*> blocks;
        for (std::size_t step = 0; step < scaled(10000, 1000); ++step) {
            const std::size_t size = random.size_up_to(random.one_in(100) ? 200 * kib : 2 * kib);
            if (!blocks.empty() && random.one_in(3)) {
                std::swap(blocks[random.below(blocks.size())], blocks.back());
                arena.deallocate(blocks.back());
                blocks.pop_back();
            } else if (!blocks.empty() && random.one_in(4)) {
                blocks.back() = arena.reallocate(blocks.back(), size);
            } else {
                blocks.push_back(arena.allocate(size));
            }
            ASSERT_TRUE(blocks.empty() || blocks.back() != nullptr);
        }
        if (round % 2 == 0) arena.clear();
    }
}

TYPED_TEST(Checked, gives_blocks_as_any_heap_does)
{
    using heap = TypeParam;
    for (std::size_t size = 0; size < 100 * kib; size += size / 6 + 1) {
        for (std::size_t alignment = 1; alignment <= 8 * kib; alignment *= 4) {
            void* const block = heap::allocate(size, alignment);
            ASSERT_TRUE(block != nullptr && is_aligned(block, alignment)) << size;
            ASSERT_GE(heap::usable_size(block), size);
            fill(block, heap::usable_size(block), size);
            void* const zeroed = heap::allocate_zeroed(size, alignment);
            ASSERT_TRUE(all_zero(zeroed, size)) << size;
            ASSERT_TRUE(holds(block, heap::usable_size(block), size));
            heap::deallocate(block, size, alignment);
            heap::deallocate(zeroed, size, alignment);
        }
    }
}

} // namespace
