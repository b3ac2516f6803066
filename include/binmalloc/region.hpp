// binmalloc: regions, units and their headers.
//
// Layer: page allocator. Plain data; who may touch what is said beside each field.
//
//   region, aligned to region_size                                    next region
//   |                                                                 |
//   v unit 0    ...  first_unit                                       v
//   +------------------+--------+--------+----------------+-----------+
//   | header of unit 0 |  slab  |  slab  | slab, 2 units  | span ...  |
//   | header of unit 1 +--------+--------+----------------+-----------+
//   |  ...             |  ^ blocks: | b | b | b | b | ... |
//   +------------------+
//
//   region of p = (p - 1) & ~(region_size - 1)        unit of p = p / unit_size % units_per_region
//
// All headers of a region stand side by side at its start: at the start of each slab they would lie
// at equal offsets and compete for the same cache sets. `p - 1` sends a block that starts exactly
// where a region would to the region before; only a huge span of such an alignment does, and its
// header is that of unit 0.
//
// Units below first_unit hold the headers themselves and never blocks; their own headers' room is
// used for the region's bookkeeping.
#ifndef BINMALLOC_REGION_HPP
#define BINMALLOC_REGION_HPP

#include <binmalloc/bitmap.hpp>
#include <binmalloc/geometry.hpp>
#include <binmalloc/units.hpp>

#include <atomic>
#include <new>

namespace binmalloc::detail {

/// A free block: its first word is a link.
struct block {
    block* next;
};

/// Effects: sets a link, after all that were set so before. A fork copies what was stored so far, and
/// the lists in the copy must be whole; that is a matter of the compiler's order alone.
BINMALLOC_LINK void set_in_order(block*& place, block* b) noexcept
{
    const_cast<block* volatile&>(place) = b;
}

/// Blocks are linked through these two alone.
BINMALLOC_LINK block* next_of(const block* b) noexcept { return b->next; }
BINMALLOC_INLINE void link(block* b, block* next) noexcept { set_in_order(b->next, next); }

/// Returns: b, for a store after that of its link; as set_in_order(), but the place may be part of an address.
BINMALLOC_INLINE block* after_link(block* b) noexcept
{
#if defined(__GNUC__) && !BINMALLOC_ADDRESS_SANITIZER
    asm("" : "+r"(b) : "m"(b->next));
#else
    std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
    return b;
}

/// The end of every list of free blocks: its own successor.
inline constinit block list_end{&list_end};

/// Free blocks, last freed first.
struct free_list {
    block* free = &list_end;
};

/// Under the home's lock or lease. A slab of 4-byte blocks: under its bin's lock, with 32-bit links.
struct alignas(header_size) slab : unit_header, free_list {
    /// Frees until the next visit of the slow path; see cache.hpp.
    std::uint32_t countdown;
    std::uint16_t capacity; ///< blocks that fit
    std::uint16_t carved;   ///< blocks that have been on the free list at least once
};
static_assert(sizeof(slab) == header_size);
static_assert(sizeof(free_unit) <= header_size);

struct alignas(header_size) span : unit_header {
    std::size_t bytes; ///< of its units or pages; see coloring.hpp
    union {
        void* mapping;             ///< huge: where its own mapping begins
        std::size_t least;         ///< in a region: the smallest size of which its block's place is right
    };
    union {
        std::size_t mapping_bytes; ///< huge: how long that is
        std::size_t sizes;         ///< in a region: how many sizes, from that on; 0: not known
    };
};
static_assert(sizeof(span) == header_size);

/// Says that an address really is a region; one value per layout of this file.
inline constexpr std::uint64_t region_magic = 0x62696e6d616c000b;

using unit_bitmap = bitmap<units_per_region>;

/// Under the page allocator's lock, except `pages` and `magic`, which never change.
struct region {
    span boundary;            ///< header of a block that starts where this region ends
    const void* pages;        ///< the page allocator that mapped it
    std::uint64_t magic;
    // Who frees reads that line; this is the next.
    alignas(64) region* next; ///< in the list of regions with a free run of about the same length
    region* previous;
    region* next_all;
    region* previous_all;
    std::uint32_t unit_count; ///< less than units_per_region where address space is short
    std::uint32_t free_units;
    std::uint32_t dirty_units;///< free units that may hold memory
    std::uint32_t longest;    ///< no free run is longer
    std::uint32_t lowest;     ///< no unit before it is free
    bool huge_pages;          ///< were asked for
    std::uint32_t idle_since; ///< a cached huge mapping: the round of trimming when it came
    unit_bitmap free;
    unit_bitmap dirty;        ///< written since the OS last gave or took the memory
    unit_bitmap aging;        ///< free and dirty already when the trimmer came by
    run_index<free_unit_list, &free_unit::free_length> free_runs;
    run_index<unit_list, &free_unit::reusable_length> reusable_runs; ///< of units that are free and dirty
};

inline constexpr unsigned first_unit = static_cast<unsigned>(
    std::size_t{units_per_region} * header_size / unit_size > divide_up(sizeof(region), header_size)
        ? std::size_t{units_per_region} * header_size / unit_size
        : divide_up(sizeof(region), header_size));
static_assert(first_unit < units_per_region / 8, "headers and bookkeeping must stay small");

/// The region that `p` lies in. Requires: p != null.
BINMALLOC_INLINE region* region_of(const void* p) noexcept
{
    return pointer_at<region>((address_of(p) - 1) & ~std::uintptr_t{region_size - 1});
}

/// The header of the unit that `p` lies in. Requires: p != null.
BINMALLOC_INLINE unit_header* header_of(const void* p) noexcept
{
    // One shift and one mask give unit index times header size.
    constexpr unsigned shift = unit_shift - floor_log2(header_size);
    constexpr std::uintptr_t mask = (std::uintptr_t{units_per_region} - 1) * header_size;
    return offset<unit_header>(region_of(p), (address_of(p) >> shift) & mask);
}

inline unit_header* header_at(region* r, unsigned unit) noexcept
{
    return offset<unit_header>(r, unit * header_size);
}

/// The region that a header stands in.
inline region* region_holding(const unit_header* h) noexcept
{
    return pointer_at<region>(align_down(address_of(h), region_size));
}

/// The unit that a header describes. Requires: not the boundary header.
inline unsigned unit_of(const unit_header* h) noexcept
{
    return static_cast<unsigned>((address_of(h) & (region_size - 1)) / header_size);
}

/// The memory of the unit that a header describes. Requires: not the boundary header.
inline void* unit_memory(const unit_header* h) noexcept
{
    // A header's offset, times so many, is its unit's.
    const std::uintptr_t in_region = address_of(h) & (region_size - 1);
    return offset(region_holding(h), in_region * (unit_size / header_size));
}

/// The page allocator that a unit came from. Requires: it is of that type.
template <class Pages>
Pages& pages_of(const unit_header* h) noexcept
{
    using store = typename Pages::store;
    return static_cast<Pages&>(
        *static_cast<store*>(const_cast<void*>(region_holding(h)->pages)));
}

/// Effects: the unit's header says that a span begins there.
inline span* make_span(unit_header* place, unit_kind kind, std::size_t bytes) noexcept
{
    span* s = new (place) span{};
    s->kind = kind;
    s->bytes = bytes;
    return s;
}

} // namespace binmalloc::detail

#endif
