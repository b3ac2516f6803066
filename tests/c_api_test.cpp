// The C API: bin_malloc and its family keep malloc's contracts, errno included.
#define BINMALLOC_DEFINE_C_API
#include <binmalloc/binmalloc.h>
#include <binmalloc/binmalloc.hpp>

#include "support/good_size.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <set>

namespace {

using namespace binmalloc_test;

constexpr int untouched = 4711;
constexpr std::size_t too_much = SIZE_MAX / 2 + 1;

/// Expects null and ENOMEM from `call`.
template <class Call>
void expect_no_memory(const char* what, Call call)
{
    errno = untouched;
    EXPECT_EQ(call(), nullptr) << what;
    EXPECT_EQ(errno, ENOMEM) << what;
}

TEST(CApi, malloc_and_free)
{
    for (std::size_t size = 0; size <= 3000; ++size) {
        errno = untouched;
        void* const block = bin_malloc(size);
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(is_aligned(block, size >= 16 ? 16 : 8));
        ASSERT_GE(bin_malloc_usable_size(block), size);
        ASSERT_TRUE(is_good(bin_malloc_usable_size(block), bin_malloc_good_size(size))) << size;
        fill(block, size, size);
        ASSERT_TRUE(holds(block, size, size));
        bin_free(block);
        ASSERT_EQ(errno, untouched) << "size " << size;
    }
}

TEST(CApi, free_keeps_errno_for_blocks_of_every_kind)
{
    for (const std::size_t size : {std::size_t{1}, 1 * kib, 100 * kib, 10 * mib, 100 * mib}) {
        void* const block = opaque(bin_malloc(size));
        void* const other = opaque(bin_malloc(size));
        void* const aligned = opaque(bin_aligned_alloc(64, size));
        errno = untouched;
        bin_free(block);
        EXPECT_EQ(errno, untouched);
        bin_free_sized(other, size);
        EXPECT_EQ(errno, untouched);
        bin_free_aligned_sized(aligned, 64, size);
        EXPECT_EQ(errno, untouched);
    }
    errno = untouched;
    bin_free(nullptr);
    bin_cfree(nullptr);
    bin_free_sized(nullptr, 0);
    bin_free_aligned_sized(nullptr, 64, 0);
    EXPECT_EQ(errno, untouched);
}

TEST(CApi, zero_sizes_give_blocks_of_their_own)
{
    std::set<void*> blocks;
    for (int i = 0; i < 100; ++i) {
        void* aligned = nullptr;
        ASSERT_EQ(bin_posix_memalign(&aligned, 64, 0), 0);
        for (void* const block :
             {bin_malloc(0), bin_calloc(0, 8), bin_calloc(8, 0), bin_realloc(nullptr, 0),
              bin_aligned_alloc(64, 0), bin_memalign(64, 0), aligned}) {
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(blocks.insert(block).second);
        }
    }
    for (void* const block : blocks) bin_free(block);
}

TEST(CApi, calloc_is_zero_and_checks_its_product)
{
    for (std::size_t count = 1; count <= 20000; count += count / 7 + 1) {
        for (const std::size_t size : {1U, 3U, 8U, 24U}) {
            for (int round = 0; round < 2; ++round) {
                void* const block = bin_calloc(count, size);
                ASSERT_NE(block, nullptr);
                ASSERT_TRUE(all_zero(block, count * size)) << count << " x " << size;
                fill(block, count * size, count);
                bin_free(block);
            }
        }
    }
    expect_no_memory("calloc", [] { return bin_calloc(opaque(SIZE_MAX), 2); });
    expect_no_memory("calloc", [] { return bin_calloc(2, opaque(SIZE_MAX)); });
    expect_no_memory("calloc", [] { return bin_calloc(opaque(SIZE_MAX / 16 + 1), 16); });
    expect_no_memory("calloc",
                     [] { return bin_calloc(opaque(SIZE_MAX / 2), opaque(SIZE_MAX / 2)); });
    expect_no_memory("calloc", [] {
        constexpr auto half_of_the_bits = std::size_t{1} << (sizeof(std::size_t) * 4);
        return bin_calloc(opaque(half_of_the_bits), opaque(half_of_the_bits));
    });
    expect_no_memory("calloc", [] { return bin_calloc(opaque(too_much), 1); });
}

TEST(CApi, realloc_keeps_contents_and_the_old_block_on_failure)
{
    void* block = bin_realloc(nullptr, 10);
    fill(block, 10, 1);
    std::size_t old_size = 10;
    for (const std::size_t size : {100UL, 5000UL, 200000UL, 30000000UL, 70000UL, 24UL, 1UL}) {
        block = bin_realloc(block, size);
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(holds_prefix(block, size < old_size ? size : old_size, 1)) << size;
        fill(block, size, 1);
        old_size = size;
    }
    expect_no_memory("realloc", [&] { return bin_realloc(block, opaque(too_much)); });
    EXPECT_TRUE(holds(block, old_size, 1));
    bin_free(block);
}

TEST(CApi, realloc_leaves_blocks_where_they_fit)
{
    for (const std::size_t size : {std::size_t{8}, std::size_t{16}, std::size_t{100}, 1 * kib, 5 * kib,
                                   16 * kib, 20 * kib, 300 * kib}) {
        void* const block = bin_malloc(size);
        fill(block, size, 3);
        const std::size_t usable = bin_malloc_usable_size(block);
        const std::size_t unit = size > 16 * kib ? 16 * kib : usable / 2;
        for (const std::size_t new_size : {size, usable, usable - unit + 1, size})
            EXPECT_EQ(bin_realloc(block, new_size), block) << size << " -> " << new_size;
        EXPECT_TRUE(holds_prefix(block, size, 3));
        bin_free(block);
    }
}

TEST(CApi, realloc_gives_all_blocks_the_alignment_of_malloc)
{
    for (int i = 0; i < 100; ++i) {
        void* const block = bin_realloc(binmalloc::allocate(24, 8), 20);
        EXPECT_TRUE(is_aligned(block, 16));
        bin_free(block);
    }
}

TEST(CApiDeathTest, realloc_of_an_interior_pointer)
{
    if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    for (const std::size_t size : {std::size_t{48}, 1 * kib, 10 * kib, 100 * kib}) {
        auto* const block = static_cast<char*>(opaque(bin_malloc(size)));
        for (const std::size_t inside : {std::size_t{16}, size / 2})
            EXPECT_DEATH(opaque(bin_realloc(opaque(block + inside), size)), "^binmalloc: ") << size;
        bin_free(block);
    }
}

TEST(CApi, realloc_to_zero_frees)
{
    // As glibc does; C leaves it open.
    const std::size_t before = binmalloc::statistics().live;
    for (int i = 0; i < 100; ++i) {
        errno = untouched;
        EXPECT_EQ(bin_realloc(bin_malloc(10 * mib), 0), nullptr);
        EXPECT_EQ(bin_reallocarray(bin_malloc(10 * mib), 0, 8), nullptr);
        EXPECT_EQ(errno, untouched) << "not a failure";
    }
    EXPECT_LT(binmalloc::statistics().live, before + 10 * mib);
}

TEST(CApi, reallocarray_checks_its_product)
{
    void* block = bin_reallocarray(nullptr, 10, 10);
    ASSERT_NE(block, nullptr);
    fill(block, 100, 1);
    block = bin_reallocarray(block, 1000, 10);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(holds_prefix(block, 100, 1));
    expect_no_memory("reallocarray",
                     [&] { return bin_reallocarray(block, opaque(SIZE_MAX / 4), 8); });
    expect_no_memory("reallocarray",
                     [&] { return bin_reallocarray(block, 8, opaque(SIZE_MAX / 4)); });
    expect_no_memory("reallocarray", [&] { return bin_reallocarray(block, 1, opaque(too_much)); });
    EXPECT_TRUE(holds_prefix(block, 100, 1));
    bin_free(block);
}

TEST(CApi, absurd_sizes_are_enomem)
{
    expect_no_memory("malloc", [] { return bin_malloc(opaque(SIZE_MAX)); });
    expect_no_memory("malloc", [] { return bin_malloc(opaque(too_much)); });
    expect_no_memory("realloc", [] { return bin_realloc(nullptr, opaque(SIZE_MAX)); });
    expect_no_memory("aligned_alloc", [] { return bin_aligned_alloc(64, opaque(SIZE_MAX - 63)); });
    expect_no_memory("memalign", [] { return bin_memalign(64, opaque(SIZE_MAX)); });
    expect_no_memory("valloc", [] { return bin_valloc(opaque(SIZE_MAX)); });
    expect_no_memory("pvalloc", [] { return bin_pvalloc(opaque(SIZE_MAX)); });
}

TEST(CApi, aligned_families_align)
{
    for (std::size_t alignment = sizeof(void*); alignment <= 1 * mib; alignment *= 2) {
        for (const std::size_t size :
             {std::size_t{1}, alignment, 3 * alignment, std::size_t{1000}}) {
            void* posix = nullptr;
            errno = untouched;
            ASSERT_EQ(bin_posix_memalign(&posix, alignment, size), 0);
            ASSERT_EQ(errno, untouched);
            for (void* const block :
                 {posix, bin_aligned_alloc(alignment, size), bin_memalign(alignment, size)}) {
                ASSERT_NE(block, nullptr);
                ASSERT_TRUE(is_aligned(block, alignment));
                ASSERT_GE(bin_malloc_usable_size(block), size);
                fill(block, size, alignment);
                ASSERT_TRUE(holds(block, size, alignment));
                bin_free(block);
            }
        }
    }
}

TEST(CApi, bad_alignments_are_einval)
{
    for (const std::size_t alignment :
         {std::size_t{0}, std::size_t{3}, std::size_t{12}, std::size_t{24}, std::size_t{100},
          SIZE_MAX, SIZE_MAX - 7}) {
        int marker = 0;
        void* block = &marker;
        errno = untouched;
        EXPECT_EQ(bin_posix_memalign(&block, alignment, 100), EINVAL) << alignment;
        EXPECT_EQ(block, &marker) << "left as it was";
        EXPECT_EQ(errno, untouched) << "the error is returned, not in errno";
        if (alignment == 0) continue; // others may take it as the smallest alignment
        errno = untouched;
        EXPECT_EQ(bin_aligned_alloc(alignment, 100), nullptr) << alignment;
        EXPECT_EQ(errno, EINVAL) << alignment;
        errno = untouched;
        EXPECT_EQ(bin_memalign(alignment, 100), nullptr) << alignment;
        EXPECT_EQ(errno, EINVAL) << alignment;
    }
    // Powers of two, but less than a pointer's size.
    for (const std::size_t alignment : {1U, 2U, 4U}) {
        void* block = nullptr;
        EXPECT_EQ(bin_posix_memalign(&block, alignment, 100),
                  alignment < sizeof(void*) ? EINVAL : 0);
        bin_free(block);
    }
    void* block = nullptr;
    EXPECT_EQ(bin_posix_memalign(&block, 64, opaque(too_much)), ENOMEM);
    EXPECT_EQ(block, nullptr);
}

TEST(CApi, valloc_and_pvalloc_give_pages)
{
    const std::size_t page = binmalloc::os_pages::page_size();
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, page - 1, page, page + 1, page * 25}) {
        void* const plain = bin_valloc(size);
        void* const whole = bin_pvalloc(size);
        ASSERT_NE(plain, nullptr);
        ASSERT_NE(whole, nullptr);
        EXPECT_TRUE(is_aligned(plain, page));
        EXPECT_TRUE(is_aligned(whole, page));
        EXPECT_GE(bin_malloc_usable_size(plain), size);
        EXPECT_GE(bin_malloc_usable_size(whole), (size + page - 1) / page * page);
        fill(whole, bin_malloc_usable_size(whole), size);
        EXPECT_TRUE(holds(whole, bin_malloc_usable_size(whole), size));
        bin_free(plain);
        bin_cfree(whole);
    }
}

TEST(CApi, usable_size_of_null_is_zero) { EXPECT_EQ(bin_malloc_usable_size(nullptr), 0U); }

TEST(CApi, malloc_trim_gives_free_memory_back)
{
    // So little waits for reuse; more would have been given back when it was freed.
    void* const block = bin_malloc(512 * kib);
    ASSERT_NE(block, nullptr);
    fill(block, 512 * kib, 1);
    bin_free(block);
    EXPECT_GE(binmalloc::statistics().dirty, 512 * kib);
    EXPECT_EQ(bin_malloc_trim(0), 1);
    EXPECT_EQ(binmalloc::statistics().dirty, 0U);
    EXPECT_EQ(bin_malloc_trim(0), 0) << "nothing is left to give";
    void* const again = bin_malloc(64 * mib);
    fill(again, 64 * mib, 2);
    EXPECT_TRUE(holds(again, 64 * mib, 2));
    bin_free(again);
}

TEST(CApi, shares_the_heap_with_the_cpp_functions)
{
    void* const from_c = bin_malloc(100);
    EXPECT_EQ(binmalloc::usable_size(from_c), bin_malloc_usable_size(from_c));
    binmalloc::deallocate(from_c);
    bin_free(binmalloc::allocate(24, 8));
    bin_free(binmalloc::allocator<int>{}.allocate(1));
}

} // namespace
