// Blocks that change hands between copies of binmalloc: each is checked and freed by another thread
// through another copy than it came from.
#pragma once

#include "../support/pattern.hpp"
#include "../support/threads.hpp"
#include "library.hpp"
#include "plugin.hpp"

#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace binmalloc_test {

struct request {
    std::size_t size;
    std::size_t alignment;
};

/// A block of each kind: tiny, of slabs of one and of several units, spans, huge, over-aligned.
inline constexpr std::array<request, 11> requests{{{4, 4},
                                                   {8, 8},
                                                   {24, 8},
                                                   {100, 4},
                                                   {3000, 16},
                                                   {16 * kib, 16},
                                                   {17 * kib, 16},
                                                   {200 * kib, 64},
                                                   {mib, 16},
                                                   {5 * mib, 16},
                                                   {64, 64 * kib}}};

struct owned_block {
    void* address;
    std::size_t size;
    std::uint64_t id;
};

inline owned_block make_block(const plugin& from, const request& wanted, std::uint64_t id)
{
    const owned_block block{from.allocate(wanted.size, wanted.alignment), wanted.size, id};
    expect(block.address != nullptr && is_aligned(block.address, wanted.alignment), "a block");
    fill(block.address, block.size, block.id);
    return block;
}

/// One block of each kind, several of the small ones.
inline std::vector<owned_block> make_blocks(const plugin& from, std::uint64_t id)
{
    std::vector<owned_block> blocks;
    for (const request& wanted : requests) {
        const std::size_t count = wanted.size < kib ? 20 : 1;
        for (std::size_t i = 0; i < count; ++i) {
            blocks.push_back(make_block(from, wanted, id * 1000 + blocks.size()));
        }
    }
    return blocks;
}

inline void expect_intact(const owned_block& block)
{
    expect(holds(block.address, block.size, block.id), "the block's contents");
}

/// Frees a block, checked, every third one after it was resized.
inline void free_block(const plugin& through, const owned_block& block)
{
    expect_intact(block);
    void* address = block.address;
    if (block.id % 3 == 0) {
        const std::size_t size = block.id % 2 == 0 ? block.size * 2 : block.size / 2;
        address = through.reallocate(address, size);
        expect(address != nullptr
                   && holds_prefix(address, size < block.size ? size : block.size, block.id),
               "the resized block's contents");
    }
    through.deallocate(address);
}

inline void free_blocks(const plugin& through, const std::vector<owned_block>& blocks)
{
    for (const owned_block& block : blocks) free_block(through, block);
}

/// Threads in a ring, each of which passes blocks of both copies to the next, who frees them
/// through the other copy.
inline void exchange(const plugin& one, const plugin& other, std::size_t thread_count,
                     std::size_t rounds)
{
    struct parcel {
        std::vector<owned_block> of_one;
        std::vector<owned_block> of_other;
    };
    std::vector<parcel> parcels(thread_count);
    std::barrier ready(static_cast<std::ptrdiff_t>(thread_count));
    run_threads(thread_count, [&](std::size_t index) {
        for (std::size_t round = 0; round < rounds; ++round) {
            const std::uint64_t id = 2 * (round * thread_count + index);
            parcels[index] = {make_blocks(one, id), make_blocks(other, id + 1)};
            ready.arrive_and_wait();
            const parcel& received = parcels[(index + 1) % thread_count];
            free_blocks(other, received.of_one);
            free_blocks(one, received.of_other);
            ready.arrive_and_wait();
        }
    });
}

/// Forks while other threads are busy in the copy's heap; the children use it, too.
inline void fork_while_others_allocate(const plugin& copy)
{
    const auto allocate_some = [&copy](std::size_t size) {
        std::array<void*, 200> blocks{};
        for (void*& block : blocks) block = copy.allocate(size, 8);
        for (void* block : blocks) copy.deallocate(block);
        copy.deallocate(copy.allocate(100 * kib, 8));
    };
    std::atomic<bool> stop{false};
    std::array<std::thread, 2> busy;
    for (std::thread& thread : busy) {
        thread = std::thread([&] {
            while (!stop) allocate_some(5000);
        });
    }
    for (int i = 0; i < 50; ++i) {
        run_forked([&] {
            allocate_some(3000);
            copy.purge();
        });
    }
    stop = true;
    for (std::thread& thread : busy) thread.join();
}

/// Bytes in use in a copy's heap once it has collected what others freed.
inline std::size_t live_after_purge(const plugin& copy)
{
    copy.purge();
    return copy.live();
}

} // namespace binmalloc_test
