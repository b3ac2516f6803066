// What a large block takes of its heap.
#pragma once

#include "process.hpp"

#include <binmalloc/functions.hpp>

#include <cstddef>

namespace binmalloc_test {

/// Bytes of the span that serves such a request: whole units, in which the block begins anywhere in its first
/// page. Requires: it is over 16 KiB.
inline std::size_t span_bytes(std::size_t size) noexcept
{
    constexpr std::size_t unit = 16 * kib;
    return (binmalloc::good_size(size) + unit - 1) / unit * unit;
}

} // namespace binmalloc_test
