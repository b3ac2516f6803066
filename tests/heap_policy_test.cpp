// Heaps of one's own: other size classes, other limits, and a page source that counts and refuses.
#include <binmalloc/binmalloc.hpp>

#include "support/failing_pages.hpp"
#include "support/good_size.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <list>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace binmalloc_test;

// --- what the concepts take and what they refuse; compile_fail/ has the errors that a user sees

struct empty_sizes {
    static constexpr std::array<std::uint32_t, 0> sizes{};
};
struct descending_sizes {
    static constexpr std::array<std::uint32_t, 2> sizes{32, 16};
};
struct signed_sizes {
    static constexpr std::array<int, 2> sizes{16, 32};
};
struct run_time_sizes {
    [[maybe_unused]] static inline std::array<std::uint32_t, 2> sizes{16, 32};
};
struct powers_of_two {
    static constexpr std::array<std::uint32_t, 11> sizes{8,   16,   32,   64,   128, 256,
                                                         512, 1024, 2048, 4096, 8192};
};
/// The one after 1024 is not aligned for all that would fit.
struct close_sizes {
    static constexpr std::array<std::uint32_t, 6> sizes{16, 512, 1024, 1032, 2048, 2112};
};

static_assert(binmalloc::size_class_policy<binmalloc::default_size_classes>);
static_assert(binmalloc::size_class_policy<powers_of_two>);
static_assert(!binmalloc::size_class_policy<empty_sizes>);
static_assert(!binmalloc::size_class_policy<descending_sizes>);
static_assert(!binmalloc::size_class_policy<signed_sizes>);
static_assert(!binmalloc::size_class_policy<run_time_sizes>);
static_assert(!binmalloc::size_class_policy<int>);

static_assert(binmalloc::page_source<binmalloc::os_pages>);
static_assert(!binmalloc::page_source<int>);
static_assert(!binmalloc::page_source<binmalloc::default_footprint>);

static_assert(binmalloc::footprint_policy<binmalloc::default_footprint>);
static_assert(!binmalloc::footprint_policy<int>);
static_assert(!binmalloc::footprint_policy<binmalloc::os_pages>);

static_assert(binmalloc::heap_policy<binmalloc::default_policy>);
static_assert(binmalloc::heap_policy<binmalloc::single_cache_policy>);
static_assert(!binmalloc::heap_policy<int>);
static_assert(!binmalloc::heap_policy<binmalloc::os_pages>);

template <class Policy>
constexpr std::uint32_t block_size_of(std::size_t size, std::size_t alignment)
{
    using table = binmalloc::detail::size_class_table<Policy>;
    return table::sizes[table::of(size, alignment)];
}
static_assert(block_size_of<close_sizes>(1000, 8) == 1032);
static_assert(block_size_of<close_sizes>(1000, 16) == 1024);
static_assert(block_size_of<close_sizes>(1030, 16) == 2112);
static_assert(block_size_of<close_sizes>(2000, 64) == 2112);
static_assert(block_size_of<close_sizes>(2000, 128) == 2048);

// --- heaps that must behave like any other

struct powers_policy : binmalloc::default_policy {
    using size_classes = powers_of_two;
};

/// A single class; everything over 64 bytes is a span.
struct one_size {
    static constexpr std::array<std::uint32_t, 1> sizes{64};
};
struct one_size_policy : binmalloc::default_policy {
    using size_classes = one_size;
};

/// As many classes as there may be, hardly any of them fit for malloc's alignment.
struct many_sizes {
    static constexpr auto sizes = [] {
        std::array<std::uint32_t, 250> all{};
        std::uint32_t size = 24;
        for (std::uint32_t& one : all) {
            one = size;
            size += 64;
        }
        all.back() = 16384;
        return all;
    }();
};
struct many_sizes_policy : binmalloc::default_policy {
    using size_classes = many_sizes;
};

struct frugal_policy : binmalloc::default_policy {
    using footprint = frugal_footprint;
};
struct frugal_single_policy : frugal_policy {
    using threading = binmalloc::single_cache;
};

template <class Policy>
class HeapOf : public testing::Test {
protected:
    using heap_type = binmalloc::basic_heap<Policy>;
};

class policy_names {
public:
    template <class Policy>
    static std::string GetName(int)
    {
        if (std::is_same_v<Policy, binmalloc::default_policy>) return "default";
        if (std::is_same_v<Policy, binmalloc::single_cache_policy>) return "single_cache";
        if (std::is_same_v<Policy, powers_policy>) return "powers_of_two";
        if (std::is_same_v<Policy, one_size_policy>) return "one_size";
        if (std::is_same_v<Policy, many_sizes_policy>) return "many_sizes";
        if (std::is_same_v<Policy, frugal_policy>) return "frugal";
        return "frugal_single_cache";
    }
};
using policies =
    testing::Types<binmalloc::default_policy, binmalloc::single_cache_policy, powers_policy,
                   one_size_policy, many_sizes_policy, frugal_policy, frugal_single_policy>;
TYPED_TEST_SUITE(HeapOf, policies, policy_names);

TYPED_TEST(HeapOf, blocks_of_every_size_are_aligned_and_apart)
{
    using heap = typename TestFixture::heap_type;
    live_blocks live;
    std::vector<live_block> blocks;
    const auto add = [&](void* address, std::size_t size, std::size_t alignment, std::size_t good) {
        const live_block block{address, size, alignment, blocks.size()};
        ASSERT_NE(address, nullptr) << "size " << size << ", alignment " << alignment;
        ASSERT_TRUE(is_aligned(address, alignment))
            << "size " << size << ", alignment " << alignment;
        ASSERT_GE(heap::usable_size(address), size) << "alignment " << alignment;
        ASSERT_TRUE(is_good(heap::usable_size(address), good))
            << "size " << size << ", alignment " << alignment;
        ASSERT_TRUE(live.add(block, heap::usable_size(address))) << "overlap, size " << size;
        blocks.push_back(block);
    };
    for (std::size_t size = 0; size <= 300 * kib; size += size < 300 ? 1 : size / 10) {
        add(heap::allocate(size), size, size >= 16 ? 16 : 8, heap::good_size(size));
        for (std::size_t alignment = 1; alignment <= 64 * kib; alignment *= 4) {
            add(heap::allocate(size, alignment), size, alignment, heap::good_size(size, alignment));
        }
    }
    for (const live_block& block : blocks) {
        ASSERT_TRUE(live.remove(block)) << "overwritten: size " << block.size;
        heap::deallocate(block.address);
    }
}

TYPED_TEST(HeapOf, reallocates_and_clears)
{
    using heap = typename TestFixture::heap_type;
    void* block = nullptr;
    std::size_t old_size = 0;
    random_source random(seed());
    for (std::size_t step = 0; step < scaled(3000, 300); ++step) {
        const std::size_t size = 1 + random.size_up_to(random.one_in(20) ? 2 * mib : 20 * kib);
        block = heap::reallocate(block, size);
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(holds_prefix(block, std::min(old_size, size), 1)) << old_size << " -> " << size;
        fill(block, size, 1);
        old_size = size;
        void* const zeroed = heap::allocate_zeroed(size);
        ASSERT_TRUE(all_zero(zeroed, size)) << size;
        fill(zeroed, heap::usable_size(zeroed), 2);
        heap::deallocate(zeroed, size);
    }
    heap::deallocate(block);
    EXPECT_EQ(heap::allocate(opaque(SIZE_MAX)), nullptr);
    EXPECT_EQ(heap::allocate(10, 3), nullptr);
}

TYPED_TEST(HeapOf, several_threads_exchange_blocks)
{
    using heap = typename TestFixture::heap_type;
    std::vector<std::atomic<std::uint64_t*>> slots(64);
    std::atomic<std::size_t> damaged = 0;
    run_threads(8, [&](std::size_t me) {
        random_source random(seed() + me);
        for (std::size_t step = 0; step < scaled(10000, 1000); ++step) {
            const std::size_t size = 16 + random.size_up_to(random.one_in(100) ? 64 * kib : 1000);
            auto* const mine = static_cast<std::uint64_t*>(heap::allocate(size));
            if (mine == nullptr) {
                ++damaged;
                continue;
            }
            mine[0] = size;
            fill(mine + 1, size - 8, size);
            std::uint64_t* const theirs = slots[random.below(slots.size())].exchange(mine);
            if (theirs == nullptr) continue;
            damaged += holds(theirs + 1, static_cast<std::size_t>(theirs[0]) - 8, theirs[0]) ? 0 : 1;
            heap::deallocate(theirs);
        }
    });
    for (auto& slot : slots) heap::deallocate(slot.load());
    EXPECT_EQ(damaged.load(), 0U);
}

TYPED_TEST(HeapOf, serves_containers)
{
    using heap = typename TestFixture::heap_type;
    std::list<int, binmalloc::heap_allocator<int, heap>> list;
    std::vector<double, binmalloc::heap_allocator<double, heap>> vector;
    for (int i = 0; i < 20000; ++i) {
        list.push_back(i);
        vector.push_back(i);
    }
    EXPECT_TRUE(std::equal(list.begin(), list.end(), vector.begin(), vector.end(),
                           [](int a, double b) { return static_cast<double>(a) == b; }));
}

TEST(HeapPolicy, own_size_classes_are_what_blocks_get)
{
    using heap = binmalloc::basic_heap<powers_policy>;
    EXPECT_EQ(heap::good_size(100), 128U);
    EXPECT_EQ(heap::good_size(129), 256U);
    EXPECT_EQ(heap::good_size(8000), 8192U);
    void* const block = heap::allocate(33);
    EXPECT_EQ(heap::usable_size(block), 64U);
    heap::deallocate(block);
}

// Classes that a heap must either serve or refuse at compile time.

/// Blocks that are no multiple of a pointer's size.
struct odd_sizes {
    static constexpr std::array<std::uint32_t, 5> sizes{4, 12, 20, 100, 112};
};
/// No block is fit for malloc's alignment.
struct unaligned_sizes {
    static constexpr std::array<std::uint32_t, 3> sizes{8, 24, 40};
};
/// The largest is not.
struct unaligned_end {
    static constexpr std::array<std::uint32_t, 3> sizes{16, 32, 56};
};
/// Too small for a pointer, and nothing else.
struct tiny_only {
    static constexpr std::array<std::uint32_t, 1> sizes{4};
};
template <class Sizes>
struct policy_of : binmalloc::default_policy {
    using size_classes = Sizes;
};

template <class Sizes>
void use()
{
    using heap = binmalloc::basic_heap<policy_of<Sizes>>;
    std::vector<live_block> blocks;
    live_blocks live;
    for (std::size_t id = 0; id < 2000; ++id) {
        const std::size_t size = id % 101;
        if (id % 2 == 0) {
            blocks.push_back({heap::allocate(size, 4), size, 4, id});
        } else {
            blocks.push_back({heap::allocate(size), size, 0, id});
        }
        ASSERT_TRUE(is_aligned(blocks.back().address, id % 2 == 0 ? 4 : size >= 16 ? 16 : 8));
        ASSERT_GE(heap::usable_size(blocks.back().address), size);
        ASSERT_TRUE(live.add(blocks.back(), heap::usable_size(blocks.back().address)));
    }
    for (const live_block& block : blocks) {
        ASSERT_TRUE(live.remove(block));
        heap::deallocate(block.address);
    }
}

TEST(HeapPolicy, classes_whose_largest_lacks_mallocs_alignment_work)
{
    use<unaligned_end>();
}

// Links need their alignment, and malloc's rule needs a class of its own.
static_assert(!binmalloc::size_class_policy<odd_sizes>);
static_assert(!binmalloc::size_class_policy<unaligned_sizes>);
static_assert(!binmalloc::size_class_policy<tiny_only>);

TEST(HeapPolicy, heaps_do_not_share_their_memory)
{
    using one = binmalloc::basic_heap<powers_policy>;
    using other = binmalloc::basic_heap<one_size_policy>;
    const std::size_t before = other::statistics().live;
    std::vector<void*> blocks(1000);
    for (void*& block : blocks) block = one::allocate(1000);
    EXPECT_EQ(other::statistics().live, before);
    EXPECT_GE(one::statistics().live, 1000U * 1000U);
    for (void* const block : blocks) one::deallocate(block);
}

TEST(HeapPolicy, a_frugal_heap_keeps_little)
{
    using heap = binmalloc::basic_heap<frugal_policy>;
    for (const std::size_t size : {100 * kib, 3 * mib, 40 * mib}) {
        std::vector<void*> blocks(5);
        for (void*& block : blocks) block = heap::allocate(size);
        for (void* const block : blocks) heap::deallocate(block);
        EXPECT_LT(heap::statistics().dirty, size) << "size " << size;
    }
}

// --- a page source that refuses the n-th call

template <class Heap>
void expect_usable(const char* when)
{
    EXPECT_EQ(life_with_failures<Heap>(1), 0U) << "null although there is memory, " << when;
    Heap::purge();
}

template <class Heap>
void fail_at_each_of_the_first_calls(const char* which)
{
    SCOPED_TRACE(which);
    std::size_t refused_runs = 0;
    for (const bool for_good : {true, false}) {
        for (std::size_t n = 0; n < scaled(40, 10); ++n) {
            SCOPED_TRACE("refusal of call " + std::to_string(n)
                         + (for_good ? " and all after it" : ""));
            std::size_t nulls = 0;
            bool happened = false;
            {
                const refusal refuse(n, for_good);
                nulls = life_with_failures<Heap>(n);
                happened = refuse.happened();
            }
            refused_runs += happened ? 1 : 0;
            if (for_good && happened && n < 2) {
                EXPECT_GT(nulls, 0U);
            }
            expect_usable<Heap>("after the refusals");
            if (testing::Test::HasFailure()) return;
        }
    }
    EXPECT_GT(refused_runs, 5U) << "the source was hardly ever asked";
}

TEST(FailingPages, the_heap_answers_null_and_goes_on)
{
    fail_at_each_of_the_first_calls<binmalloc::basic_heap<failing_policy<0, false>>>(
        "leased caches");
}

TEST(FailingPages, the_single_cache_heap_answers_null_and_goes_on)
{
    fail_at_each_of_the_first_calls<binmalloc::basic_heap<failing_policy<0, true>>>("single cache");
}

/// The first calls that a heap makes of all: it is not yet there. To be run in a process of its own.
template <class Heap>
[[noreturn]] void refuse_at_birth(std::size_t call)
{
    {
        const refusal refuse(call, true);
        if (call == 0) {
            EXPECT_EQ(Heap::allocate(100), nullptr);
            EXPECT_EQ(Heap::allocate(100000), nullptr);
            EXPECT_EQ(Heap::allocate(4, 4), nullptr);
            EXPECT_EQ(Heap::reallocate(nullptr, 100), nullptr);
        }
        life_with_failures<Heap>(1);
    }
    expect_usable<Heap>("after a hard birth");
    std::exit(testing::Test::HasFailure() ? 1 : 0);
}

TEST(FailingPages, a_heap_whose_first_calls_fail_can_be_used_later)
{
    using leased = binmalloc::basic_heap<failing_policy<1, false>>;
    using single = binmalloc::basic_heap<failing_policy<1, true>>;
    for (std::size_t call = 0; call < 6; ++call) {
        SCOPED_TRACE("call " + std::to_string(call));
        EXPECT_EXIT(refuse_at_birth<leased>(call), testing::ExitedWithCode(0), "");
        EXPECT_EXIT(refuse_at_birth<single>(call), testing::ExitedWithCode(0), "");
    }
}

TEST(FailingPages, several_threads_meet_refusals)
{
    using heap = binmalloc::basic_heap<failing_policy<2, false>>;
    for (std::size_t n = 0; n < scaled(40, 10); ++n) {
        {
            const refusal refuse(n, n % 2 == 0);
            run_threads(8, [&](std::size_t me) { life_with_failures<heap>(n * 8 + me); });
        }
        run_thread([] { expect_usable<heap>("after the refusals"); });
        if (HasFailure()) return;
    }
}

TEST(FailingPages, page_allocator_gives_all_of_it_back)
{
    using pages = binmalloc::basic_page_allocator<failing_pages, frugal_footprint>;
    for (std::size_t n = 0; n < scaled(40, 10); ++n) {
        const std::size_t before = reserved_bytes.load();
        {
            pages source;
            const refusal refuse(n, n % 3 == 0);
            random_source random(seed() + n);
            std::vector<live_block> live;
            for (std::uint64_t step = 0; step < 100; ++step) {
                const std::size_t size =
                    1 + random.size_up_to(random.one_in(4) ? 20 * mib : 1 * mib);
                if (!live.empty() && random.one_in(2)) {
                    live_block& last = live.back();
                    ASSERT_TRUE(holds(last.address, last.size, last.id));
                    if (random.one_in(2)) {
                        void* const moved = source.reallocate(last.address, size);
                        if (moved == nullptr) {
                            ASSERT_TRUE(holds(last.address, last.size, last.id));
                            continue;
                        }
                        ASSERT_TRUE(holds_prefix(moved, std::min(size, last.size), last.id));
                        last = {moved, size, 0, step};
                        fill(moved, size, step);
                        continue;
                    }
                    source.deallocate(last.address);
                    live.pop_back();
                    continue;
                }
                void* const block = source.allocate(size);
                if (block == nullptr) continue;
                live.push_back({block, size, 0, step});
                fill(block, size, step);
            }
            for (const live_block& block : live)
                ASSERT_TRUE(holds(block.address, block.size, block.id));
        }
        ASSERT_EQ(reserved_bytes.load(), before) << "refusal of call " << n;
    }
}

template <class Policy>
class SizeClassTable : public testing::Test {};

using size_class_policies =
    testing::Types<binmalloc::default_size_classes, powers_of_two, close_sizes>;
TYPED_TEST_SUITE(SizeClassTable, size_class_policies);

TYPED_TEST(SizeClassTable, looks_up_what_a_search_finds)
{
    using table = binmalloc::detail::size_class_table<TypeParam>;
    for (std::size_t size = 17; size <= table::largest; ++size) {
        ASSERT_EQ(table::of(size), table::search(size, 16)) << size;
        for (std::size_t alignment = 16; alignment <= binmalloc::detail::unit_size; alignment *= 2)
            ASSERT_EQ(table::of(size, alignment), table::search(size, alignment)) << size << ' ' << alignment;
    }
}

} // namespace
