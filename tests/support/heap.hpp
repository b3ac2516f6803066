// The process heap with a single way to ask: alignment 0 stands for malloc's rule.
#pragma once

#include <binmalloc/binmalloc.hpp>

#include <cstddef>

namespace binmalloc_test::heap {

inline constexpr std::size_t no_alignment = 0;

inline void* allocate(std::size_t size, std::size_t alignment) noexcept
{
    return alignment == no_alignment ? binmalloc::allocate(size)
                                     : binmalloc::allocate(size, alignment);
}

inline void* allocate_zeroed(std::size_t size, std::size_t alignment) noexcept
{
    return alignment == no_alignment ? binmalloc::allocate_zeroed(size)
                                     : binmalloc::allocate_zeroed(size, alignment);
}

inline auto allocate_at_least(std::size_t size, std::size_t alignment) noexcept
{
    return alignment == no_alignment ? binmalloc::allocate_at_least(size)
                                     : binmalloc::allocate_at_least(size, alignment);
}

inline void* reallocate(void* block, std::size_t size, std::size_t alignment) noexcept
{
    return alignment == no_alignment ? binmalloc::reallocate(block, size)
                                     : binmalloc::reallocate(block, size, alignment);
}

inline std::size_t good_size(std::size_t size, std::size_t alignment) noexcept
{
    return alignment == no_alignment ? binmalloc::good_size(size)
                                     : binmalloc::good_size(size, alignment);
}

/// Bytes that the heap holds from the OS, in use or kept for reuse.
inline std::size_t held_bytes() noexcept
{
    const auto now = binmalloc::statistics();
    return now.live + now.dirty;
}

/// The same, once it has given back what it can.
inline std::size_t held_bytes_after_purge() noexcept
{
    binmalloc::purge();
    return held_bytes();
}

} // namespace binmalloc_test::heap
