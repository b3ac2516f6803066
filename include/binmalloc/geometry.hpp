// binmalloc: units and regions, the sizes that everything else follows from.
//
// Layer: size classes. See region.hpp for the picture.
#ifndef BINMALLOC_GEOMETRY_HPP
#define BINMALLOC_GEOMETRY_HPP

#include <binmalloc/bits.hpp>

namespace binmalloc::detail {

/// A region's grain: one header per unit, every slab and span is a number of units.
inline constexpr unsigned unit_shift = 14;
inline constexpr std::size_t unit_size = std::size_t{1} << unit_shift;

/// Regions are aligned to their size, so a block's region is its address with the low bits cleared.
/// This is alignment, and the most that one region can be: a heap's first regions are smaller.
inline constexpr unsigned region_shift = sizeof(void*) == 8 ? 28 : 22;
inline constexpr std::size_t region_size = std::size_t{1} << region_shift;
inline constexpr unsigned units_per_region = unsigned{1} << (region_shift - unit_shift);

/// The first region of a page allocator. Each further one is as large as all before it together.
inline constexpr std::size_t first_region_size = sizeof(void*) == 8 ? region_size / 8 : region_size;

/// One header a cache line: two threads that free into neighbouring slabs do not share one.
inline constexpr std::size_t header_size = 64;

/// What a processor's cache takes and gives at a time: bytes.
inline constexpr std::size_t cache_line = 64;

/// The largest size class; more than that is a span.
inline constexpr std::size_t max_block_size = unit_size;

/// A slab has at most so many units (a header says in a byte how far it is from the slab's first).
inline constexpr unsigned max_slab_units = 8;

/// Spans up to a quarter of a region come from regions, where they coalesce: freed memory serves any
/// size again without a system call. Larger ones have a mapping of their own.
inline constexpr std::size_t max_span_size = region_size / 4;

/// From here on moving a block's pages costs less than copying its content.
inline constexpr std::size_t min_moved_size = std::size_t{2} << 20;

/// No request may be larger, whatever its alignment: sums of two such sizes never wrap.
inline constexpr std::size_t max_request = (SIZE_MAX >> 1) - 2 * region_size;

/// Larger alignments are refused.
inline constexpr std::size_t max_alignment = std::size_t{1} << (sizeof(void*) == 8 ? 40 : 28);

/// What malloc and operator new promise for 16 bytes and more; less for smaller requests.
inline constexpr std::size_t natural_alignment = 16;

/// malloc's rule: no object of `size` bytes needs more than this.
constexpr std::size_t natural_alignment_of(std::size_t size) noexcept
{
    return size > 8 ? natural_alignment : 8;
}

} // namespace binmalloc::detail

#endif
