// A block of the process heap, filled by its id, and freed with a look at its contents.
#pragma once

#include "live_blocks.hpp"
#include "pattern.hpp"

#include <binmalloc/binmalloc.hpp>

#include <cstddef>
#include <cstdint>

namespace binmalloc_test {

inline live_block filled_block(std::size_t size, std::uint64_t id)
{
    const live_block block{binmalloc::allocate(size), size, 0, id};
    if (block.address != nullptr) fill(block.address, size, id);
    return block;
}

/// Frees the block; false if there is none or its contents have changed.
inline bool free_checked(const live_block& block)
{
    if (block.address == nullptr || !holds(block.address, block.size, block.id)) return false;
    binmalloc::deallocate(block.address);
    return true;
}

} // namespace binmalloc_test
