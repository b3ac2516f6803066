// binmalloc: a piece of memory, as the platform's functions take several at once.
//
// Layer: platform.
#ifndef BINMALLOC_PLATFORM_MEMORY_RANGE_HPP
#define BINMALLOC_PLATFORM_MEMORY_RANGE_HPP

#include <cstddef>

namespace binmalloc::os {

/// Laid out as POSIX's iovec.
struct memory_range {
    void* begin;
    std::size_t size; ///< bytes
};

} // namespace binmalloc::os

#endif
