// README's formula under "What the process needs at most", as code.
#pragma once

#include "process.hpp"

#include <binmalloc/binmalloc.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace binmalloc_test {

/// The number of caches that the process heap has.
inline std::size_t cache_count() noexcept
{
    return 4 * std::size_t{std::max(binmalloc::os::cpu_count(), 8U)};
}

/// Returns: the most bytes that the heap may hold, beside what waits for reuse, when blocks of these
/// requests are alive, `live` bytes of them after rounding up, and no other size class was in use.
/// Fragmentation is not in it: take for `live` what each class has at its own peak.
template <class Requests>
std::size_t most_memory(std::size_t live, const Requests& requests) noexcept
{
    using table = binmalloc::detail::default_table;
    using lists = binmalloc::detail::class_lists<table>;
    constexpr std::size_t held_back = 64 * kib;
    constexpr std::size_t spans_kept_near = 1 * mib;
    std::size_t slabs = 0; // two of each class
    std::size_t kept = 0;  // in lists
    for (std::size_t bin = 0; bin < table::count; ++bin) {
        const bool used = std::any_of(std::begin(requests), std::end(requests), [&](auto size) {
            return binmalloc::good_size(size) == table::sizes[bin];
        });
        if (!used) continue;
        const auto units = table::slab_units(static_cast<binmalloc::detail::bin_index>(bin));
        slabs += 2 * std::size_t{units} * binmalloc::detail::unit_size;
        kept += static_cast<std::size_t>(lists::capacity(bin)) * table::sizes[bin];
    }
    const std::size_t all =
        live + live / 8 + cache_count() * (slabs + kept + held_back + spans_kept_near);
    return all + all / 256;
}

/// Returns: the most bytes that may wait for reuse where blocks come and go again and again and at
/// most `held` bytes are in use beside.
inline std::size_t most_waiting(std::size_t held) noexcept
{
    constexpr std::size_t on_its_way = 4 * mib; // a call gives back so much at once
    return std::max(binmalloc::default_footprint::dirty_ceiling, held) + on_its_way;
}

} // namespace binmalloc_test
