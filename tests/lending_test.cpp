// Large blocks that a class borrows from a larger one before it makes a slab of its own.
#include <binmalloc/binmalloc.hpp>

#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

using namespace binmalloc_test;
using binmalloc::detail::is_aligned;

/// A heap of its own for each `Tag`.
template <class Policy, class Tag, class Sizes = binmalloc::default_size_classes>
struct own : Policy {
    struct footprint : binmalloc::default_footprint {
        using tag = Tag;
    };
    using size_classes = Sizes;
};
template <class Tag, class Sizes = binmalloc::default_size_classes>
using leased = binmalloc::basic_heap<own<binmalloc::default_policy, Tag, Sizes>>;
template <class Tag, class Sizes = binmalloc::default_size_classes>
using single = binmalloc::basic_heap<own<binmalloc::single_cache_policy, Tag, Sizes>>;

template <class Heap>
bool is_lent(void* p, std::size_t size)
{
    return Heap::usable_size(p) > Heap::good_size(size);
}

/// Expects what is asked for first to be a loan of the block that was freed, or not.
template <class Heap>
void expect_first(bool lent, std::size_t size, std::size_t alignment, std::size_t freed_size)
{
    SCOPED_TRACE(size);
    SCOPED_TRACE(freed_size);
    void* const larger = Heap::allocate(freed_size);
    ASSERT_NE(larger, nullptr);
    Heap::deallocate(larger);
    void* const first = Heap::allocate(size, alignment);
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(first == larger, lent);
    EXPECT_TRUE(is_aligned(first, alignment));
    std::memset(first, 1, size);
    void* const second = Heap::allocate(size, alignment);
    EXPECT_NE(second, first);
    EXPECT_EQ(Heap::usable_size(second), Heap::good_size(size, alignment)) << "nothing is left to lend";
    Heap::deallocate(first);
    void* const again = Heap::allocate(freed_size);
    EXPECT_EQ(again, larger) << "it is where it came from";
    for (void* const p : {second, again}) Heap::deallocate(p);
}

TEST(Lending, is_by_classes_that_are_larger_by_a_half_at_most)
{
    expect_first<leased<struct a>>(true, 5000, 16, 5600);
    expect_first<leased<struct b>>(true, 5000, 16, 7700);
    expect_first<leased<struct c>>(false, 5000, 16, 8000);
    expect_first<leased<struct d>>(true, 15000, 16, 16384);
    expect_first<single<struct e>>(true, 5000, 16, 5600);
    expect_first<single<struct f>>(false, 5000, 16, 8000);
}

TEST(Lending, is_not_by_smaller_classes_nor_of_small_blocks)
{
    expect_first<leased<struct g>>(false, 5600, 16, 5000);
    expect_first<leased<struct h>>(false, 700, 16, 760);
    expect_first<leased<struct i>>(true, 1060, 16, 1200);
}

/// Some are aligned for less than the one before.
struct mixed_sizes {
    static constexpr std::array<std::uint32_t, 5> sizes{16, 4096, 5008, 6144, 16384};
};

TEST(Lending, keeps_the_alignment)
{
    expect_first<leased<struct k, mixed_sizes>>(false, 4000, 1024, 5000);
    expect_first<leased<struct l, mixed_sizes>>(false, 4000, 16, 5000);
    expect_first<leased<struct m, mixed_sizes>>(false, 4000, 1024, 6000);
    expect_first<leased<struct n, mixed_sizes>>(true, 5000, 16, 6000);
}

template <class Heap>
void expect_few_loans_in_a_loop()
{
    Heap::deallocate(Heap::allocate(5600));
    int loans = 0;
    for (int i = 0; i < 1000; ++i) {
        void* const p = Heap::allocate(5000);
        ASSERT_NE(p, nullptr);
        const bool lent = is_lent<Heap>(p, 5000);
        EXPECT_TRUE(!lent || loans == i) << "once it has a slab, it needs no loan";
        loans += lent;
        Heap::deallocate(p);
    }
    EXPECT_GE(loans, 50);
    EXPECT_LE(loans, 100);
}

TEST(Lending, ends_where_a_loop_would_do_nothing_else)
{
    expect_few_loans_in_a_loop<leased<struct o>>();
    expect_few_loans_in_a_loop<single<struct p>>();
}

/// Random replacement: bytes in slabs for each byte that lives, in the end.
template <class Heap>
double slabs_per_live()
{
    random_source random(1);
    std::vector<void*> blocks(1256);
    std::vector<std::size_t> sizes(blocks.size());
    std::size_t live = 0;
    for (std::size_t i = 0; i < scaled(400'000); ++i) {
        const std::size_t place = random.below(blocks.size());
        Heap::deallocate(blocks[place]);
        live -= sizes[place];
        sizes[place] = 16 + random.below(16 * kib - 15);
        blocks[place] = Heap::allocate(sizes[place]);
        if (blocks[place] == nullptr) throw std::bad_alloc();
        live += sizes[place];
    }
    const std::size_t in_slabs = Heap::statistics().live;
    for (void* const block : blocks) Heap::deallocate(block);
    return static_cast<double>(in_slabs) / static_cast<double>(live);
}

TEST(Lending, lets_classes_share_what_each_would_have_for_its_own_maximum)
{
    EXPECT_LT(slabs_per_live<leased<struct q>>(), 1.55); // 1.39; without loans 1.73
}

} // namespace
