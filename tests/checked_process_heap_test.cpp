// BINMALLOC_CHECKED: the process heap itself is checked.
#define BINMALLOC_CHECKED 1
#define BINMALLOC_DEFINE_C_API
#include <binmalloc/binmalloc.h>
#include <binmalloc/binmalloc.hpp>

#include "support/correct_program.hpp"
#include "support/misuse.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <cstddef>

namespace {

using namespace binmalloc_test;

static_assert(binmalloc::heap::policy::checked);

class CheckedProcessHeapDeathTest : public testing::Test {
protected:
    void SetUp() override
    {
        if (with_thread_sanitizer) GTEST_SKIP() << "no death tests under this tool";
    }
};

TEST_F(CheckedProcessHeapDeathTest, reports_misuse_through_every_front_end)
{
    for (const std::size_t size : {std::size_t{24}, 1 * kib, 100 * kib, 20 * mib}) {
        auto* const block = static_cast<char*>(opaque(bin_malloc(size)));
        auto* const other = static_cast<char*>(opaque(bin_malloc(size)));
        expect_report(block, [&] {
            bin_free(block);
            bin_free(other);
            bin_free(block);
        });
        expect_report(block, [&] {
            binmalloc::deallocate(block);
            binmalloc::deallocate(other);
            binmalloc::deallocate(block);
        });
        expect_report(block + 8, [&] { bin_free(block + 8); });
        expect_report(block + 8, [&] { opaque(bin_realloc(block + 8, size)); });
        expect_report(block, [&] { bin_free_sized(block, 5 * size); });
        expect_report(block, [&] { bin_free_aligned_sized(block, 16, 5 * size); });
        expect_report(block, [&] { binmalloc::deallocate(block, 5 * size); });
        expect_report(block, [&] { binmalloc::allocator<char>{}.deallocate(block, 5 * size); });
#if BINMALLOC_HAS_MEMORY_RESOURCE
        expect_report(block,
                      [&] { binmalloc::get_memory_resource()->deallocate(block, 5 * size, 8); });
#endif
        bin_free_sized(block, size);
        bin_free_sized(other, size);
    }
}

TEST(CheckedProcessHeap, accuses_no_correct_program)
{
    free_in_every_order<binmalloc::heap>();
    blocks_that_look_free<binmalloc::heap>();
    frees_with_a_size<binmalloc::heap>();
    exchange_blocks_of_all_kinds<binmalloc::heap>();
}

TEST(CheckedProcessHeap, takes_sizes_as_c_knows_them)
{
    for (std::size_t size = 0; size < 10 * mib; size += size / 3 + 1) {
        bin_free_sized(opaque(bin_malloc(size)), size);
        bin_free_sized(opaque(bin_calloc(1, size)), size);
        bin_free_sized(opaque(bin_realloc(bin_malloc(size / 2), size + 1)), size + 1);
        for (const std::size_t alignment : {16UL, 64UL, 4096UL})
            bin_free_aligned_sized(opaque(bin_aligned_alloc(alignment, size)), alignment, size);
    }
}

} // namespace
