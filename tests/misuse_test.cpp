// Misuse that is noticed in passing ends the process with one line on stderr.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <cstddef>

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
    EXPECT_DEATH(free_twice(100 * kib), "^binmalloc: .*0x[0-9a-f]+\n$");
}

TEST_F(MisuseDeathTest, second_free_of_a_huge_block)
{
    // The first one is still mapped: it waits for reuse.
    EXPECT_DEATH(free_twice(20 * mib), "^binmalloc: .*0x[0-9a-f]+\n$");
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

} // namespace
