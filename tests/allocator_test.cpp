// allocator<T>: the standard's requirements, containers, over-aligned types, and the typed size
// classes.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace {

using namespace binmalloc_test;
using binmalloc::allocator;

template <class T>
using traits = std::allocator_traits<allocator<T>>;

static_assert(std::is_same_v<traits<int>::value_type, int>);
static_assert(std::is_same_v<traits<int>::pointer, int*>);
static_assert(std::is_same_v<traits<int>::size_type, std::size_t>);
static_assert(std::is_same_v<traits<int>::difference_type, std::ptrdiff_t>);
static_assert(traits<int>::is_always_equal::value);
static_assert(traits<int>::propagate_on_container_move_assignment::value);
static_assert(std::is_same_v<traits<int>::rebind_alloc<std::string>, allocator<std::string>>);
static_assert(std::is_empty_v<allocator<int>>);
static_assert(std::is_nothrow_default_constructible_v<allocator<int>>);
static_assert(std::is_nothrow_copy_constructible_v<allocator<int>>);
static_assert(std::is_nothrow_constructible_v<allocator<int>, const allocator<char>&>);
static_assert(std::is_nothrow_move_assignable_v<std::vector<int, allocator<int>>>);
static_assert(noexcept(std::declval<allocator<int>&>().deallocate(nullptr, 1)));
static_assert(sizeof(std::vector<int, allocator<int>>) == 3 * sizeof(void*));

struct alignas(64) line {
    unsigned char bytes[64];
};
struct alignas(4096) page {
    unsigned char bytes[4096];
};
#if defined(_WIN32) && defined(__clang__)
constexpr std::size_t largest_alignas = 8 * 1024; // that clang takes there
#else
constexpr std::size_t largest_alignas = 64 * 1024;
#endif
struct alignas(largest_alignas) far_apart {
    unsigned char bytes[largest_alignas];
};

TEST(Allocator, all_instances_are_equal_across_types)
{
    const allocator<int> ints;
    const allocator<std::string> strings(ints);
    EXPECT_TRUE(ints == allocator<int>{});
    EXPECT_TRUE(ints == strings);
    EXPECT_FALSE(ints != strings);
    // A block of one instance may go back through another.
    int* const block = allocator<int>{}.allocate(10);
    allocator<int>(strings).deallocate(block, 10);
}

template <class T>
class AllocatorOf : public testing::Test {};

using value_types = testing::Types<char, short, int, double, void*, long double, line, page,
                                   far_apart, std::pair<void*, int>, std::string>;

class type_names {
public:
    template <class T>
    static std::string GetName(int index)
    {
        return std::to_string(index) + "_size" + std::to_string(sizeof(T)) + "align"
               + std::to_string(alignof(T));
    }
};
TYPED_TEST_SUITE(AllocatorOf, value_types, type_names);

TYPED_TEST(AllocatorOf, arrays_of_every_length_are_aligned_and_apart)
{
    allocator<TypeParam> heap;
    std::vector<TypeParam*> arrays;
    const std::size_t longest = sizeof(TypeParam) > 1000 ? 12 : 300;
    for (std::size_t count = 0; count <= longest; ++count) {
        TypeParam* const array = heap.allocate(count);
        ASSERT_NE(array, nullptr);
        ASSERT_TRUE(is_aligned(array, alignof(TypeParam))) << "count " << count;
        fill(array, count * sizeof(TypeParam), count);
        arrays.push_back(array);
    }
    for (std::size_t count = 0; count <= longest; ++count) {
        ASSERT_TRUE(holds(arrays[count], count * sizeof(TypeParam), count)) << "count " << count;
        heap.deallocate(arrays[count], count);
    }
}

TYPED_TEST(AllocatorOf, allocate_at_least_counts_whole_objects)
{
    allocator<TypeParam> heap;
    for (std::size_t count = 0; count <= 20; ++count) {
        const auto result = heap.allocate_at_least(count);
        static_assert(std::is_same_v<decltype(result.ptr), TypeParam*>);
        ASSERT_NE(result.ptr, nullptr);
        ASSERT_GE(result.count, count);
        ASSERT_LE(result.count * sizeof(TypeParam), binmalloc::usable_size(result.ptr));
        ASSERT_GT((result.count + 1) * sizeof(TypeParam), binmalloc::usable_size(result.ptr))
            << "room for one more that was not told";
        fill(result.ptr, result.count * sizeof(TypeParam), count);
        ASSERT_TRUE(holds(result.ptr, result.count * sizeof(TypeParam), count));
        // Any count between the two may be given back.
        heap.deallocate(result.ptr, count % 2 == 0 ? count : result.count);
    }
}

// One object is freed by a way of its own, however it was allocated.
TYPED_TEST(AllocatorOf, single_objects_come_and_go)
{
    allocator<TypeParam> heap;
    std::vector<TypeParam*> live;
    const auto check_and_free = [&](std::size_t i) {
        ASSERT_TRUE(holds(live[i], sizeof(TypeParam), i)) << i;
        heap.deallocate(live[i], 1);
    };
    for (int round = 0; round < 3; ++round) {
        live.clear();
        for (std::size_t i = 0; i < 300; ++i) {
            TypeParam* p = nullptr;
            switch (i % 4) {
            case 0: p = heap.allocate(1); break;
            case 1: p = heap.allocate(opaque(std::size_t{1})); break;
            case 2: p = heap.allocate_at_least(1).ptr; break;
            case 3: {
                const auto none = heap.allocate_at_least(0);
                p = none.count > 0 ? none.ptr : heap.allocate(1);
                if (none.count == 0) heap.deallocate(none.ptr, 0);
                break;
            }
            }
            ASSERT_TRUE(is_aligned(p, alignof(TypeParam)));
            fill(p, sizeof(TypeParam), i);
            live.push_back(p);
        }
        for (std::size_t i = 0; i < live.size(); i += 2) check_and_free(i);
        for (std::size_t i = 1; i < live.size(); i += 2) check_and_free(i);
    }
}

TYPED_TEST(AllocatorOf, too_many_objects_throw)
{
    allocator<TypeParam> heap;
    if constexpr (sizeof(TypeParam) > 1) {
        EXPECT_THROW(static_cast<void>(heap.allocate(opaque(SIZE_MAX / sizeof(TypeParam) + 1))),
                     std::bad_array_new_length);
        EXPECT_THROW(static_cast<void>(heap.allocate(opaque(SIZE_MAX))), std::bad_array_new_length);
        EXPECT_THROW(static_cast<void>(heap.allocate_at_least(opaque(SIZE_MAX))),
                     std::bad_array_new_length);
    }
    EXPECT_THROW(static_cast<void>(heap.allocate(opaque(SIZE_MAX / sizeof(TypeParam)))),
                 std::bad_alloc);
    EXPECT_THROW(static_cast<void>(heap.allocate(opaque(SIZE_MAX / 2 / sizeof(TypeParam)))),
                 std::bad_alloc);
    TypeParam* const block = heap.allocate(1);
    fill(block, sizeof(TypeParam), 1);
    heap.deallocate(block, 1);
}

template <class T>
using a = allocator<T>;

TEST(AllocatorContainers, vector)
{
    std::vector<int, a<int>> values;
    for (int i = 0; i < 100000; ++i) values.push_back(i);
    for (int i = 0; i < 100000; ++i) ASSERT_EQ(values[static_cast<std::size_t>(i)], i);
    auto moved = std::move(values);
    values = std::vector<int, a<int>>(10, 3);
    moved.swap(values);
    EXPECT_EQ(moved.size(), 10U);
    EXPECT_EQ(values.back(), 99999);
    values.clear();
    values.shrink_to_fit();
    EXPECT_EQ(values.capacity(), 0U);
    std::vector<bool, a<bool>> bits(1000, true);
    EXPECT_EQ(std::count(bits.begin(), bits.end(), true), 1000);
}

TEST(AllocatorContainers, list_splices_between_lists)
{
    std::list<int, a<int>> left, right;
    for (int i = 0; i < 1000; ++i) (i % 2 == 0 ? left : right).push_back(i);
    left.merge(right);
    EXPECT_TRUE(right.empty());
    int expected = 0;
    for (const int value : left) ASSERT_EQ(value, expected++);
    EXPECT_EQ(expected, 1000);
}

TEST(AllocatorContainers, map_and_set)
{
    std::map<int, std::string, std::less<>, a<std::pair<const int, std::string>>> names;
    std::set<std::uint64_t, std::less<>, a<std::uint64_t>> numbers;
    random_source random(seed());
    for (int i = 0; i < 5000; ++i) {
        names[i] = std::to_string(i);
        numbers.insert(random.below(10000));
        numbers.erase(random.below(10000));
    }
    for (int i = 0; i < 5000; i += 2) names.erase(i);
    EXPECT_EQ(names.size(), 2500U);
    for (const auto& [number, name] : names) ASSERT_EQ(name, std::to_string(number));
    EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
}

TEST(AllocatorContainers, unordered_map_with_strings)
{
    using text = std::basic_string<char, std::char_traits<char>, a<char>>;
    struct hash {
        std::size_t operator()(const text& key) const noexcept
        {
            return std::hash<std::string_view>{}(std::string_view(key));
        }
    };
    std::unordered_map<text, int, hash, std::equal_to<>, a<std::pair<const text, int>>> numbers;
    const auto name = [](int i) {
        return text(static_cast<std::size_t>(i % 60), 'x') + text(std::to_string(i).c_str());
    };
    for (int i = 0; i < 5000; ++i) numbers.emplace(name(i), i);
    for (int i = 0; i < 5000; ++i) ASSERT_EQ(numbers.at(name(i)), i);
    const auto copy = numbers;
    numbers.clear();
    EXPECT_EQ(copy.size(), 5000U);
}

TEST(AllocatorContainers, deque_and_shared_pointer)
{
    std::deque<int, a<int>> queue;
    for (int i = 0; i < 100000; ++i) {
        queue.push_back(i);
        if (i % 3 == 0) queue.pop_front();
    }
    int expected = 100000 - static_cast<int>(queue.size());
    for (const int value : queue) ASSERT_EQ(value, expected++);

    const auto shared =
        std::allocate_shared<std::string>(a<std::string>{}, "a string of some length, not inline");
    const std::weak_ptr<std::string> weak = shared;
    EXPECT_EQ(weak.lock()->size(), 35U);
}

TEST(AllocatorContainers, over_aligned_elements)
{
    std::vector<line, a<line>> lines(1000);
    for (const line& one : lines) ASSERT_TRUE(is_aligned(&one, 64));
    std::list<page, a<page>> pages(20);
    for (const page& one : pages) ASSERT_TRUE(is_aligned(&one, 4096));
    std::map<int, line, std::less<>, a<std::pair<const int, line>>> map;
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(is_aligned(&map[i], 64));
}

TEST(AllocatorContainers, nodes_pass_between_threads)
{
    std::list<int, a<int>> all;
    std::vector<std::list<int, a<int>>> parts(8);
    run_threads(parts.size(), [&](std::size_t me) {
        for (int i = 0; i < 2000; ++i) parts[me].push_back(i);
    });
    for (auto& part : parts) all.splice(all.end(), part);
    run_thread([&] {
        EXPECT_EQ(all.size(), 16000U);
        all.clear();
    });
}

// The typed path: the class follows from sizeof and alignof alone.

template <std::size_t Size>
struct alignas(8) object {
    unsigned char bytes[Size];
};

template <class T>
std::size_t block_size_of_one()
{
    T* const block = allocator<T>{}.allocate(1);
    const std::size_t result = binmalloc::usable_size(opaque(block));
    allocator<T>{}.deallocate(block, 1);
    return result;
}

TEST(AllocatorTyped, small_objects_get_blocks_of_their_own_size)
{
    EXPECT_EQ(block_size_of_one<std::int32_t>(), 4U);
    EXPECT_EQ(block_size_of_one<float>(), 4U);
    EXPECT_EQ(block_size_of_one<object<8>>(), 8U);
    EXPECT_EQ(block_size_of_one<object<16>>(), 16U);
    EXPECT_EQ(block_size_of_one<object<24>>(), 24U);
    EXPECT_EQ(block_size_of_one<object<32>>(), 32U);
    EXPECT_EQ(block_size_of_one<object<40>>(), 40U);
    EXPECT_EQ(block_size_of_one<object<48>>(), 48U);
    EXPECT_EQ(block_size_of_one<object<56>>(), 56U);
    EXPECT_EQ(block_size_of_one<object<64>>(), 64U);
}

TEST(AllocatorTyped, list_of_int_nodes_lie_24_bytes_apart)
{
    if constexpr (sizeof(void*) != 8) GTEST_SKIP() << "a node is two pointers and an int";
    std::list<int, a<int>> values(2000, 1);
    std::vector<std::uintptr_t> places;
    for (const int& value : values) places.push_back(reinterpret_cast<std::uintptr_t>(&value));
    std::sort(places.begin(), places.end());
    std::size_t adjacent = 0;
    for (std::size_t i = 1; i < places.size(); ++i) {
        ASSERT_GE(places[i] - places[i - 1], 24U);
        adjacent += places[i] - places[i - 1] == 24 ? 1 : 0;
    }
    EXPECT_GT(adjacent, places.size() * 3 / 4);
}

TEST(AllocatorTyped, blocks_can_be_freed_by_the_untyped_calls_and_back)
{
    auto* const typed = allocator<object<24>>{}.allocate(1);
    binmalloc::deallocate(typed);
    auto* const untyped = static_cast<object<24>*>(binmalloc::allocate(sizeof(object<24>)));
    allocator<object<24>>{}.deallocate(untyped, 1);
    auto* const shape = allocator<object<40>>{}.allocate(1);
    fill(shape, 40, 4);
    void* const grown = binmalloc::reallocate(shape, 4000);
    ASSERT_TRUE(holds_prefix(grown, 40, 4));
    binmalloc::deallocate(grown);
}

} // namespace
