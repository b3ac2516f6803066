// Programs without a fault, of the kinds that a check might take for one. A heap that accuses them
// ends the process.
#pragma once

#include "live_blocks.hpp"
#include "pattern.hpp"
#include "process.hpp"
#include "random.hpp"
#include "scale.hpp"
#include "threads.hpp"

#include <binmalloc/binmalloc.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <numeric>
#include <vector>

namespace binmalloc_test {

/// Long lists of free blocks, freed and allocated again in every order.
template <class Heap>
void free_in_every_order()
{
    random_source random(seed());
    for (const std::size_t size : {4U, 8U, 24U, 100U, 1000U, 10000U}) {
        std::vector<void*> blocks(std::min<std::size_t>(scaled(20000, 2000), 8 * mib / size));
        std::vector<std::size_t> order(blocks.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        const auto shuffle = [&] {
            for (std::size_t i = order.size() - 1; i > 0; --i)
                std::swap(order[i], order[random.below(i + 1)]);
        };
        for (int round = 0; round < 6; ++round) {
            for (void*& block : blocks) {
                block = Heap::allocate(size, 4);
                ASSERT_NE(block, nullptr);
                fill(block, size, reinterpret_cast<std::uintptr_t>(block));
            }
            if (round == 1) std::reverse(order.begin(), order.end());
            if (round == 2) std::sort(order.begin(), order.end());
            if (round > 2) shuffle();
            if (round == 4) { // every other one, allocated again at once
                for (std::size_t i = 0; i < order.size(); i += 2) {
                    void*& block = blocks[order[i]];
                    ASSERT_TRUE(holds(block, size, reinterpret_cast<std::uintptr_t>(block)));
                    Heap::deallocate(block, size, 4);
                    block = Heap::allocate(size, 4);
                    fill(block, size, reinterpret_cast<std::uintptr_t>(block));
                }
            }
            for (const std::size_t i : order) {
                ASSERT_TRUE(holds(blocks[i], size, reinterpret_cast<std::uintptr_t>(blocks[i])));
                Heap::deallocate(blocks[i], size, 4);
            }
            if (round == 3) Heap::purge();
        }
    }
}

/// Blocks whose contents look like what an allocator writes into free ones: links to themselves, to
/// their neighbours, to free blocks, positions.
template <class Heap>
void blocks_that_look_free()
{
    random_source random(seed());
    for (const std::size_t size : {4U, 8U, 16U, 48U, 256U, 4096U}) {
        std::vector<void*> blocks(2000);
        for (void*& block : blocks) block = Heap::allocate(size, 4);
        void* last_freed = nullptr;
        for (std::size_t step = 0; step < scaled(40000, 4000); ++step) {
            void*& block = blocks[random.below(blocks.size())];
            const void* link = nullptr;
            switch (random.below(5)) {
            case 0: link = block; break;
            case 1: link = blocks[random.below(blocks.size())]; break;
            case 2: link = last_freed; break;
            case 3: link = reinterpret_cast<const void*>(random.below(5000)); break;
            default: break;
            }
            for (std::size_t at = 0; at + sizeof link <= size; at += sizeof link)
                std::memcpy(static_cast<char*>(block) + at, &link, sizeof link);
            if (size < sizeof link) std::memcpy(block, &link, size);
            last_freed = opaque(block);
            Heap::deallocate(block, size, 4);
            block = Heap::allocate(size, 4);
            if (random.one_in(3)) { // not always the same one again
                void* const other = Heap::allocate(size, 4);
                Heap::deallocate(block, size, 4);
                block = other;
            }
        }
        for (void* const block : blocks) Heap::deallocate(block, size, 4);
    }
}

/// Frees with the size that the block has by the rules: what was asked for, anything up to the count
/// that allocate_at_least gave, or the size of the last reallocate, whether that moved it or not.
template <class Heap>
void frees_with_a_size()
{
    random_source random(seed());
    for (std::size_t step = 0; step < scaled(30000, 3000); ++step) {
        const std::size_t size = random.size_up_to(random.one_in(50) ? 6 * mib : 20 * kib);
        switch (random.below(4)) {
        case 0: Heap::deallocate(Heap::allocate(size), size); break;
        case 1: {
            const std::size_t alignment = std::size_t{1} << random.below(14);
            void* const block = Heap::allocate(size, alignment);
            ASSERT_NE(block, nullptr);
            Heap::deallocate(block, size, alignment);
            break;
        }
        case 2: {
            const auto block = Heap::allocate_at_least(size);
            ASSERT_GE(block.count, size);
            Heap::deallocate(block.ptr, size + random.below(block.count - size + 1));
            break;
        }
        default: {
            void* block = Heap::allocate(random.size_up_to(2 * size + 1));
            block = Heap::reallocate(block, size);
            ASSERT_NE(block, nullptr);
            Heap::deallocate(block, size);
        }
        }
    }
    std::list<int, binmalloc::heap_allocator<int, Heap>> list;
    std::vector<double, binmalloc::heap_allocator<double, Heap>> vector;
    for (int i = 0; i < 5000; ++i) {
        list.push_back(i);
        vector.push_back(i);
        if (i % 3 == 0) list.pop_front();
    }
}

/// Several threads that free each other's blocks, of all kinds, with what they know of them.
template <class Heap>
void exchange_blocks_of_all_kinds()
{
    struct header {
        std::size_t size;
        std::uint64_t id;
    };
    std::vector<std::atomic<header*>> slots(128);
    std::atomic<std::size_t> damaged = 0;
    const auto free_one = [&](header* block, bool with_size) {
        if (block == nullptr) return;
        damaged += holds(block + 1, block->size - sizeof(header), block->id) ? 0 : 1;
        if (with_size)
            Heap::deallocate(block, block->size);
        else
            Heap::deallocate(block);
    };
    run_threads(6, [&](std::size_t me) {
        random_source random(seed() + me);
        for (std::uint64_t step = 0; step < scaled(30000, 3000); ++step) {
            const std::size_t size = sizeof(header)
                                     + random.size_up_to(random.one_in(1000)  ? 5 * mib
                                                         : random.one_in(100) ? 100 * kib
                                                                              : 1000);
            auto* mine =
                static_cast<header*>(random.one_in(4) ? Heap::reallocate(Heap::allocate(100), size)
                                                      : Heap::allocate(size));
            if (mine == nullptr) {
                ++damaged;
                continue;
            }
            *mine = {size, std::uint64_t{me} << 32 | step};
            fill(mine + 1, size - sizeof(header), mine->id);
            free_one(slots[random.below(slots.size())].exchange(mine), random.one_in(2));
            if (random.one_in(5000)) Heap::purge();
        }
    });
    for (auto& slot : slots) free_one(slot.load(), true);
    EXPECT_EQ(damaged.load(), 0U);
}

} // namespace binmalloc_test
