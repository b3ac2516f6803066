// memory_resource: the heap behind std::pmr.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#if BINMALLOC_HAS_MEMORY_RESOURCE

#    include <atomic>
#    include <cstddef>
#    include <list>
#    include <map>
#    include <memory_resource>
#    include <new>
#    include <string>
#    include <unordered_map>
#    include <vector>

namespace {

using namespace binmalloc_test;

TEST(MemoryResource, every_alignment_and_size)
{
    std::pmr::memory_resource* const heap = binmalloc::get_memory_resource();
    ASSERT_NE(heap, nullptr);
    for (std::size_t alignment = 1; alignment <= 1 * mib; alignment *= 2) {
        for (const std::size_t size : {0UL, 1UL, 4UL, 24UL, 100UL, 5000UL, 20000UL, 300000UL}) {
            void* const block = heap->allocate(size, alignment);
            ASSERT_NE(block, nullptr);
            ASSERT_TRUE(is_aligned(block, alignment))
                << "alignment " << alignment << ", size " << size;
            fill(block, size, alignment);
            ASSERT_TRUE(holds(block, size, alignment));
            heap->deallocate(block, size, alignment);
        }
    }
}

TEST(MemoryResource, a_request_without_an_alignment_is_fit_for_every_type)
{
    std::pmr::memory_resource* const heap = binmalloc::get_memory_resource();
    for (std::size_t size = 1; size <= 300; ++size) {
        void* const block = heap->allocate(size);
        ASSERT_TRUE(is_aligned(block, alignof(std::max_align_t)));
        heap->deallocate(block, size);
    }
}

TEST(MemoryResource, blocks_come_from_the_heap_in_dense_classes)
{
    std::pmr::memory_resource* const heap = binmalloc::get_memory_resource();
    void* const block = heap->allocate(24, 8);
    EXPECT_EQ(binmalloc::usable_size(block), 24U);
    heap->deallocate(block, 24, 8);
}

TEST(MemoryResource, resources_of_one_heap_are_equal_and_others_are_not)
{
    binmalloc::memory_resource one, other;
    EXPECT_TRUE(one.is_equal(other));
    EXPECT_TRUE(one == *binmalloc::get_memory_resource());
    EXPECT_FALSE(one.is_equal(*std::pmr::new_delete_resource()));
    EXPECT_FALSE(one.is_equal(*std::pmr::null_memory_resource()));
    void* const block = one.allocate(100);
    other.deallocate(block, 100);
}

TEST(MemoryResource, absurd_requests_throw)
{
    std::pmr::memory_resource* const heap = binmalloc::get_memory_resource();
    EXPECT_THROW(static_cast<void>(heap->allocate(opaque(SIZE_MAX))), std::bad_alloc);
    EXPECT_THROW(static_cast<void>(heap->allocate(opaque(SIZE_MAX / 2), 64)), std::bad_alloc);
    EXPECT_THROW(static_cast<void>(heap->allocate(1, opaque(SIZE_MAX / 2 + 1))), std::bad_alloc);
    std::pmr::vector<int> values(binmalloc::get_memory_resource());
    EXPECT_THROW(values.reserve(values.max_size()), std::bad_alloc);
    values.push_back(1);
    EXPECT_EQ(values.back(), 1);
}

TEST(MemoryResource, containers_of_containers)
{
    std::pmr::map<int, std::pmr::vector<std::pmr::string>> words(binmalloc::get_memory_resource());
    for (int i = 0; i < 500; ++i) {
        for (int j = 0; j < i % 20; ++j)
            words[i].emplace_back(std::to_string(i * j) + " and a tail that is long");
    }
    for (auto& [i, list] : words) {
        ASSERT_EQ(list.get_allocator().resource(), binmalloc::get_memory_resource());
        for (int j = 0; j < i % 20; ++j) {
            ASSERT_EQ(list[static_cast<std::size_t>(j)].compare(0, std::to_string(i * j).size(),
                                                                std::to_string(i * j)),
                      0);
        }
    }
    std::pmr::unordered_map<int, std::pmr::list<int>> lists(binmalloc::get_memory_resource());
    for (int i = 0; i < 1000; ++i) lists[i % 37].push_back(i);
    std::size_t total = 0;
    for (const auto& [key, list] : lists) total += list.size();
    EXPECT_EQ(total, 1000U);
}

TEST(MemoryResource, can_feed_the_standard_pools)
{
    std::pmr::unsynchronized_pool_resource pool(binmalloc::get_memory_resource());
    std::pmr::monotonic_buffer_resource steady(binmalloc::get_memory_resource());
    std::pmr::list<int> pooled(&pool), grown(&steady);
    for (int i = 0; i < 10000; ++i) {
        pooled.push_back(i);
        grown.push_back(i);
    }
    EXPECT_EQ(pooled, grown);
}

TEST(MemoryResource, serves_several_threads)
{
    std::atomic<std::size_t> right = 0;
    run_threads(8, [&](std::size_t me) {
        std::pmr::list<std::size_t> values(binmalloc::get_memory_resource());
        for (std::size_t i = 0; i < 5000; ++i) values.push_back(i * me);
        std::size_t i = 0;
        for (const std::size_t value : values) right += value == me * i++ ? 1 : 0;
    });
    EXPECT_EQ(right.load(), 8U * 5000U);
}

TEST(MemoryResource, can_be_the_default_resource)
{
    std::pmr::memory_resource* const before =
        std::pmr::set_default_resource(binmalloc::get_memory_resource());
    {
        std::pmr::string text(1000, 'x');
        EXPECT_GE(binmalloc::usable_size(text.data()), 1000U);
    }
    std::pmr::set_default_resource(before);
}

} // namespace

#endif
