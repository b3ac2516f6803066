// Misuse that is noticed in passing ends the process with one line on stderr.
#include <binmalloc/binmalloc.hpp>
#include <binmalloc/geometry.hpp>

#include "support/correct_program.hpp"
#include "support/deadline.hpp"
#include "support/misuse.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
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

#if defined(__linux__)
#    include <sys/mman.h>
#endif

namespace {

using namespace binmalloc_test;

class MisuseDeathTest : public testing::Test {
protected:
    void SetUp() override
    {
        if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    }
};

// Both frees in the process that dies: where malloc is overridden, whatever the test framework does
// between them may be given the block.
void free_twice(std::size_t size)
{
    void* const block = opaque(binmalloc::allocate(size));
    binmalloc::deallocate(block);
    binmalloc::deallocate(block);
}

TEST_F(MisuseDeathTest, second_free_of_a_span)
{
    EXPECT_DEATH(free_twice(100 * kib), misuse_detail::report_with(misuse_detail::some_digits));
}

TEST_F(MisuseDeathTest, second_free_of_a_huge_block)
{
    if (sizeof(void*) < 8) GTEST_SKIP() << "its mapping is gone, and the free faults";
    // The first one is still mapped: it waits for reuse.
    EXPECT_DEATH(free_twice(20 * mib), misuse_detail::report_with(misuse_detail::some_digits));
}

TEST_F(MisuseDeathTest, free_of_an_address_inside_a_span)
{
    auto* const block = static_cast<char*>(opaque(binmalloc::allocate(100 * kib)));
    EXPECT_DEATH(binmalloc::deallocate(block + 16), "^binmalloc: ");
    EXPECT_DEATH(binmalloc::deallocate(block + 32 * kib), "^binmalloc: ");
    binmalloc::deallocate(block);
}

TEST_F(MisuseDeathTest, size_of_a_freed_span)
{
    const auto ask_after_free = [] {
        void* const block = opaque(binmalloc::allocate(100 * kib));
        binmalloc::deallocate(block);
        opaque(binmalloc::usable_size(block));
    };
    EXPECT_DEATH(ask_after_free(), "^binmalloc: ");
}

TEST_F(MisuseDeathTest, free_of_another_arenas_block)
{
    binmalloc::arena mine, other;
    void* const block = opaque(other.allocate(100));
    EXPECT_DEATH(mine.deallocate(block), "^binmalloc: ");
}

TEST_F(MisuseDeathTest, page_allocator_is_given_what_is_not_its_own)
{
    binmalloc::page_allocator pages;
    auto* const block = static_cast<char*>(opaque(pages.allocate(100 * kib)));
    EXPECT_DEATH(pages.deallocate(block + 16 * kib), "^binmalloc: ");
    pages.deallocate(block);
    EXPECT_DEATH(pages.deallocate(block), "^binmalloc: ");
}

// --- second frees of the block that was freed last: seen at latest by the next allocations

using single_heap = binmalloc::basic_heap<binmalloc::single_cache_policy>;

constexpr std::array<std::size_t, 11> block_sizes{1,   8,    16,   40,    64,      100,
                                                  256, 1000, 3000, 10000, 16 * kib};

constexpr int next_few = 100;

template <class Heap>
void expect_reports_of_second_frees()
{
    for (const std::size_t size : block_sizes) {
        for (const std::size_t neighbours :
             {std::size_t{0}, std::size_t{5}, 500 + 64 * kib / size}) {
            SCOPED_TRACE(std::to_string(size) + " bytes, " + std::to_string(neighbours)
                         + " allocated before");
            const auto allocate_last = [&] {
                for (std::size_t i = 0; i < neighbours; ++i) opaque(Heap::allocate(size));
                return Heap::allocate(size);
            };
            expect_report_of_new(allocate_last, [&](void* block) {
                Heap::deallocate(opaque(block));
                Heap::deallocate(opaque(block));
                for (int i = 0; i < next_few; ++i) opaque(Heap::allocate(size));
            });
        }
    }
}

TEST_F(MisuseDeathTest, second_free_of_a_block)
{
    expect_reports_of_second_frees<binmalloc::heap>();
}

TEST_F(MisuseDeathTest, second_free_of_a_single_cache_heaps_block)
{
    expect_reports_of_second_frees<single_heap>();
}

template <std::size_t Size, std::size_t Alignment>
void expect_report_of_typed_second_free()
{
    struct alignas(Alignment) object {
        char bytes[Size];
    };
    static_assert(sizeof(object) == Size);
    using allocator = binmalloc::allocator<object>;
    SCOPED_TRACE(Size);
    expect_report_of_new([] { return allocator{}.allocate(1); },
                         [](object* block) {
                             allocator{}.deallocate(opaque(block), 1);
                             allocator{}.deallocate(opaque(block), 1);
                             for (int i = 0; i < next_few; ++i) opaque(allocator{}.allocate(1));
                         });
}

TEST_F(MisuseDeathTest, second_free_of_a_typed_block)
{
    expect_report_of_typed_second_free<8, 8>();
    expect_report_of_typed_second_free<16, 8>();
    expect_report_of_typed_second_free<24, 8>();
    expect_report_of_typed_second_free<40, 8>();
    expect_report_of_typed_second_free<56, 4>();
    expect_report_of_typed_second_free<128, 64>();
    expect_report_of_typed_second_free<1000, 8>();
    expect_report_of_typed_second_free<4096, 4096>();
}

TEST_F(MisuseDeathTest, second_free_of_a_four_byte_block)
{
    // Its links are no pointers, and it has a lock of its own.
    using ints = binmalloc::allocator<std::uint32_t>;
    std::uint32_t* const kept = ints{}.allocate(1);
    std::uint32_t* const block = ints{}.allocate(1);
    const auto free_twice_here = [&] {
        ints{}.deallocate(opaque(block), 1);
        ints{}.deallocate(opaque(block), 1);
        for (int i = 0; i < next_few; ++i) opaque(ints{}.allocate(1));
    };
    expect_report(block, free_twice_here);
    expect_report(block, [&] { run_thread(free_twice_here); });
    expect_report(block, [&] {
        run_thread([&] { ints{}.deallocate(opaque(block), 1); });
        free_twice_here();
    });
    ints{}.deallocate(block, 1);
    ints{}.deallocate(kept, 1);
}

TEST_F(MisuseDeathTest, second_free_by_another_thread)
{
    for (const std::size_t size : block_sizes) {
        SCOPED_TRACE(size);
        void* const block = binmalloc::allocate(size);
        expect_report(block, [&] {
            run_thread([&] {
                binmalloc::deallocate(opaque(block));
                binmalloc::deallocate(opaque(block));
            });
            // What it held back for this thread arrives when the free list has come to its end.
            for (int i = 0; i < 20000; ++i) opaque(binmalloc::allocate(size));
        });
        binmalloc::deallocate(block);
    }
}

TEST_F(MisuseDeathTest, second_free_of_an_arenas_block)
{
    binmalloc::arena arena;
    binmalloc::locked_arena locked;
    for (const std::size_t size : block_sizes) {
        SCOPED_TRACE(size);
        const auto expect = [&](auto& from, auto free) {
            void* const block = from.allocate(size);
            expect_report(block, [&] {
                free(from, opaque(block));
                free(from, opaque(block));
                for (int i = 0; i < next_few; ++i) opaque(from.allocate(size));
            });
            from.deallocate(block);
        };
        const auto through_arena = [](auto& from, void* block) { from.deallocate(block); };
        expect(arena, through_arena);
        expect(locked, through_arena);
    }
}

// --- frees of blocks in slabs that are gone

/// More slabs than a bin keeps, and something that keeps their region.
class many_slabs {
public:
    explicit many_slabs(std::size_t size)
        : anchor_(binmalloc::allocate(100 * kib)), blocks_(1 * mib / size + 500)
    {
        for (void*& block : blocks_) block = opaque(binmalloc::allocate(size, 4));
    }
    ~many_slabs()
    {
        free_all();
        binmalloc::deallocate(anchor_);
    }
    many_slabs(const many_slabs&) = delete;
    many_slabs& operator=(const many_slabs&) = delete;

    void free_all()
    {
        for (void*& block : blocks_) binmalloc::deallocate(std::exchange(block, nullptr));
    }
    void* in_the_middle() const { return blocks_[blocks_.size() / 2]; }

private:
    void* anchor_;
    std::vector<void*> blocks_;
};

TEST_F(MisuseDeathTest, use_of_a_block_whose_slab_was_freed)
{
    for (const std::size_t size : {std::size_t{4}, std::size_t{64}, 1 * kib, 10 * kib}) {
        many_slabs slabs(size);
        void* const block = slabs.in_the_middle();
        for (const bool purged : {false, true}) {
            SCOPED_TRACE(std::to_string(size) + (purged ? ", purged" : ""));
            const auto after_the_slab = [&](auto use) {
                expect_report(block, [&] {
                    slabs.free_all();
                    if (purged) binmalloc::purge();
                    use();
                });
            };
            after_the_slab([&] { binmalloc::deallocate(block); });
            after_the_slab([&] { run_thread([&] { binmalloc::deallocate(block); }); });
            after_the_slab([&] { opaque(binmalloc::reallocate(block, 50)); });
            after_the_slab([&] { opaque(binmalloc::usable_size(block)); });
        }
    }
}

// --- pointers that are no block's, where a slow path sees them

TEST_F(MisuseDeathTest, free_of_an_interior_pointer_by_another_thread)
{
    for (const std::size_t size : {std::size_t{16}, std::size_t{48}, std::size_t{100}, 1 * kib,
                                   10 * kib, 16 * kib, 100 * kib, 20 * mib}) {
        std::array<void*, 10> blocks{};
        for (void*& block : blocks) block = opaque(binmalloc::allocate(size));
        auto* const block = static_cast<char*>(blocks[5]);
        for (const std::size_t inside : {std::size_t{1}, std::size_t{8}, size / 2, size - 1}) {
            SCOPED_TRACE(std::to_string(inside) + " bytes inside " + std::to_string(size));
            char* const pointer = block + inside;
            expect_report(pointer, [&] {
                run_thread([&] {
                    opaque(binmalloc::allocate(1));
                    binmalloc::deallocate(opaque(pointer));
                });
                for (int i = 0; i < 20000 && size < 100 * kib; ++i)
                    opaque(binmalloc::allocate(size));
            });
        }
        for (void* const one : blocks) binmalloc::deallocate(one);
    }
}

TEST_F(MisuseDeathTest, reallocate_of_an_interior_pointer)
{
    for (const std::size_t size : {std::size_t{16}, std::size_t{48}, std::size_t{100}, 1 * kib,
                                   10 * kib, 16 * kib, 100 * kib, 20 * mib}) {
        auto* const block = static_cast<char*>(opaque(binmalloc::allocate(size)));
        for (const std::size_t inside : {std::size_t{1}, std::size_t{8}, size / 2, size - 1}) {
            for (const std::size_t new_size : {size / 2, size, 2 * size, 100 * size}) {
                SCOPED_TRACE(std::to_string(inside) + " bytes inside " + std::to_string(size)
                             + " -> " + std::to_string(new_size));
                char* const pointer = block + inside;
                expect_report(pointer,
                              [&] { opaque(binmalloc::reallocate(opaque(pointer), new_size)); });
            }
        }
        binmalloc::deallocate(block);
    }
}

#if defined(__linux__)

/// Memory that lies where a region could, and is not ours.
class foreign_region {
public:
    foreign_region() noexcept
        : mapping_(::mmap(nullptr, 2 * size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))
    {}
    ~foreign_region() { ::munmap(mapping_, 2 * size); }
    foreign_region(const foreign_region&) = delete;
    foreign_region& operator=(const foreign_region&) = delete;

    /// Requires: where < binmalloc::detail::region_size.
    char* at(std::size_t where) const noexcept
    {
        const auto begin = reinterpret_cast<std::uintptr_t>(mapping_);
        return reinterpret_cast<char*>((begin + size - 1) / size * size + where);
    }

private:
    static constexpr std::size_t size = binmalloc::detail::region_size;
    void* mapping_;
};

TEST_F(MisuseDeathTest, pointers_into_memory_of_others)
{
    const foreign_region foreign;
    binmalloc::arena arena;
    opaque(arena.allocate(10));
    for (const std::size_t where : {1 * mib, 1 * mib + 16, 3 * mib + 4 * kib,
                                    binmalloc::detail::region_size - 64}) {
        SCOPED_TRACE(where);
        void* const pointer = opaque(static_cast<void*>(foreign.at(where)));
        expect_report(pointer, [&] { binmalloc::deallocate(pointer); });
        expect_report(pointer, [&] { run_thread([&] { binmalloc::deallocate(pointer); }); });
        expect_report(pointer, [&] { opaque(binmalloc::reallocate(pointer, 100)); });
        expect_report(pointer, [&] { opaque(binmalloc::usable_size(pointer)); });
        expect_report(pointer, [&] { single_heap::deallocate(pointer); });
        expect_report(pointer, [&] { arena.deallocate(pointer); });
    }
}

#endif

// --- correct programs are never accused

template <class Heap>
class Correct : public testing::Test {
    const deadline no_hang_{100};
};

class heap_names {
public:
    template <class Heap>
    static std::string GetName(int)
    {
        return std::is_same_v<Heap, single_heap> ? "single_cache" : "leased_caches";
    }
};
using heaps = testing::Types<binmalloc::heap, single_heap>;
TYPED_TEST_SUITE(Correct, heaps, heap_names);

TYPED_TEST(Correct, frees_in_every_order) { free_in_every_order<TypeParam>(); }
TYPED_TEST(Correct, blocks_that_look_free) { blocks_that_look_free<TypeParam>(); }
TYPED_TEST(Correct, frees_with_a_size) { frees_with_a_size<TypeParam>(); }
TYPED_TEST(Correct, exchange_between_threads) { exchange_blocks_of_all_kinds<TypeParam>(); }

} // namespace
