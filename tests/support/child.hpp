// A forked child that lives on the heap it has inherited, and reports how that went.
//
// What the child does here calls no other allocator than the heap: whoever forks without the C
// library's help may have inherited that one locked.
#pragma once

#include "in_child.hpp"
#include "live_blocks.hpp"
#include "pattern.hpp"
#include "process.hpp"
#include "random.hpp"
#include "scale.hpp"
#include "span_bytes.hpp"

#include <binmalloc/binmalloc.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace binmalloc_test {

/// What a child may report; 0 is success.
enum child_error : int {
    none,
    lost_block,
    damaged_block,
    bad_allocation,
    bad_thread,
    bad_process,
    bad_statistics,
    memory_lost
};

/// Allocates of every kind and frees it again.
template <class Heap = binmalloc::heap>
child_error use_heap()
{
    random_source random(seed());
    std::array<live_block, 500> live;
    std::uint64_t id = 0;
    for (live_block& block : live) {
        const std::size_t size = random.size_up_to(random.one_in(20) ? 1 * mib : 4 * kib);
        block = {Heap::allocate(size), size, 0, id++};
        if (block.address == nullptr) return bad_allocation;
        fill(block.address, block.size, block.id);
    }
    for (const live_block& block : live) {
        if (!holds(block.address, block.size, block.id)) return damaged_block;
        Heap::deallocate(block.address);
    }
    void* const zeroed = Heap::allocate_zeroed(100 * kib);
    if (zeroed == nullptr || !all_zero(zeroed, 100 * kib)) return bad_allocation;
    void* const huge = Heap::reallocate(zeroed, 6 * mib);
    if (huge == nullptr || !all_zero(huge, 100 * kib)) return bad_allocation;
    Heap::deallocate(huge);
    void* const four_bytes = Heap::allocate(4, 4);
    if (four_bytes == nullptr) return bad_allocation;
    Heap::deallocate(four_bytes);
    return none;
}

/// Frees what the parent has allocated, with a look at its contents.
template <class Blocks>
child_error free_inherited(const Blocks& blocks)
{
    for (const live_block& block : blocks) {
        if (block.address == nullptr) return lost_block;
        if (!holds(block.address, block.size, block.id)) return damaged_block;
        binmalloc::deallocate(block.address);
    }
    return none;
}

/// Whether the heap counts what this process, which has one thread, takes and gives.
inline child_error check_statistics()
{
    const auto before = binmalloc::statistics();
    void* const block = binmalloc::allocate(10 * mib);
    if (block == nullptr) return bad_allocation;
    const auto during = binmalloc::statistics();
    if (during.live != before.live + span_bytes(10 * mib)) return bad_statistics;
    if (during.reserved < during.live + during.dirty) return bad_statistics;
    binmalloc::deallocate(block);
    if (binmalloc::statistics().live != before.live) return bad_statistics;
    binmalloc::purge();
    return binmalloc::statistics().dirty == 0 ? none : bad_statistics;
}

} // namespace binmalloc_test
