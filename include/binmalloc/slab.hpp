// binmalloc: slabs, from their units to their blocks.
//
// Layer: bins and slabs. Not thread safe: whoever calls holds the slab's home.
//
// A slab's memory is carved into blocks a page at a time, so a size class that is used once costs
// one page; memory that was in use before, more of it at a time. `free` lists what was carved and is
// not in use, last freed first.
//
//   free -> block -> block -> end <-.     The list ends in a link to itself. A block that is freed
//                              \___/      while it is on top becomes one, too: so the comparison that
//                                         finds the end finds double frees, and costs nothing more.
#ifndef BINMALLOC_SLAB_HPP
#define BINMALLOC_SLAB_HPP

#include <binmalloc/coloring.hpp>
#include <binmalloc/platform/os.hpp>
#include <binmalloc/region.hpp>
#include <binmalloc/size_classes.hpp>

#include <new>

namespace binmalloc::detail {

/// What a cache without slabs points to: no free block, nothing to carve. Never written.
inline constinit slab empty_slab{};

/// Effects: takes the block on top of the list. Null: the list is at its end, or broken.
BINMALLOC_INLINE block* pop(free_list* list) noexcept
{
    block* b = list->free;
    block* next = next_of(b);
    if (next == b) [[unlikely]]
        return nullptr;
    list->free = next;
    return b;
}

/// Effects: puts a block on top of the list. (Not a pointer: to convert a slab's asks whether it is null.)
BINMALLOC_INLINE void push(free_list& list, void* p) noexcept
{
    auto* b = static_cast<block*>(p);
    link(b, list.free);
    list.free = after_link(b);
}

/// Effects: takes all blocks of the list. Returns: the first of them. A child that is forked now loses them.
BINMALLOC_INLINE block* take_all(free_list* list) noexcept
{
    block* const first = list->free;
    set_in_order(list->free, &list_end);
    return first;
}

/// Effects: ends the process if the list is not at its end though nothing could be taken.
inline bool at_end(const free_list* list) noexcept
{
    if (list->free == &list_end) [[likely]]
        return true;
    if (next_of(list->free) == list->free) os::fatal("double free", list->free);
    return false;
}

/// How much is carved at a time. More would touch pages that may never be used.
inline constexpr std::size_t carve_bytes = 4096;

/// Where they were touched before, it is at least so many blocks: few at a time would be as many slow paths.
inline constexpr unsigned carve_blocks_again = 32;

/// Large blocks are carved one by one. Where their memory was touched before, it is some more of those up to a
/// page; larger ones may have pages that were not.
inline constexpr std::size_t largest_carved_again = carve_bytes + cache_line;
inline constexpr unsigned carve_large_again = 8;

/// The slab that a unit belongs to, if it does: no more than an address. Its first unit is 0 units from it.
inline slab* slab_with(unit_header* h) noexcept
{
    return pointer_at<slab>(address_of(h) - std::size_t{h->distance} * header_size);
}

/// The header of the slab or span that a unit belongs to.
inline unit_header* first_header(unit_header* h) noexcept
{
    return h->kind == unit_kind::interior ? slab_with(h) : h;
}

/// Bytes that may be used of the block that a first header stands for, 0 if it stands for none.
inline std::size_t usable_bytes(const unit_header* h) noexcept
{
    switch (h->kind) {
    case unit_kind::slab: return static_cast<const slab*>(h)->block_size;
    case unit_kind::span:
    case unit_kind::huge: return usable_bytes_of(static_cast<const span*>(h));
    default: return 0;
    }
}

inline slab* slab_of(const void* p) noexcept { return static_cast<slab*>(first_header(header_of(p))); }

inline unsigned units_of(const slab* s) noexcept
{
    return static_cast<unsigned>(divide_up(std::size_t{s->capacity} * s->block_size, unit_size));
}

/// Effects: the slab belongs to this cache.
inline void set_home(slab* s, cache_base* home, const cache_base* owner) noexcept
{
    const unsigned units = units_of(s);
    for (unsigned i = 0; i < units; ++i) {
        auto* const h = offset<unit_header>(s, i * header_size);
        h->home = home;
        h->owner = owner;
    }
}

/// Effects: who frees a block of the slab takes the fast path if this is his cache.
inline void set_owner(slab* s, const cache_base* owner) noexcept
{
    const unsigned units = units_of(s);
    for (unsigned i = 0; i < units; ++i) offset<unit_header>(s, i * header_size)->owner = owner;
}

/// Effects: makes `units` units a slab of `block_size`-byte blocks, none carved yet.
inline slab* make_slab(unit_header* first, unsigned units, bin_index bin, std::size_t block_size,
                       cache_base* home, const cache_base* owner, bool resident = false) noexcept
{
    slab* s = new (first) slab{};
    s->kind = unit_kind::slab;
    s->resident = resident;
    s->bin = bin;
    s->block_size = static_cast<std::uint32_t>(block_size);
    s->capacity = static_cast<std::uint16_t>(units * unit_size / block_size);
    for (unsigned i = 1; i < units; ++i) {
        auto* further = new (offset(first, i * header_size)) unit_header{};
        further->bin = bin;
        further->kind = unit_kind::interior;
        further->distance = static_cast<std::uint8_t>(i);
    }
    set_home(s, home, owner);
    return s;
}

/// Effects: the units' headers say that nothing is there. Returns: how many there are.
inline unsigned unmake_slab(slab* s) noexcept
{
    const unsigned units = units_of(s);
    for (unsigned i = 0; i < units; ++i) {
        auto* h = offset<unit_header>(s, i * header_size);
        h->owner = nullptr;
        h->home = nullptr;
        h->kind = unit_kind::none;
    }
    return units;
}

/// The range of blocks that carving adds next: indices [first, last).
struct carving {
    unsigned first;
    unsigned last;
};

/// Effects: counts the next page's worth of blocks as carved, or more. Requires: carved < capacity.
inline carving carve(slab* s) noexcept
{
    unsigned wanted = 1;
    if (s->block_size > largest_small) {
        if (s->resident && s->block_size <= largest_carved_again) wanted = carve_large_again;
    } else {
        wanted = static_cast<unsigned>(carve_bytes / s->block_size);
        if (s->resident && wanted < carve_blocks_again) wanted = carve_blocks_again;
    }
    const unsigned first = s->carved;
    const unsigned left = s->capacity - first;
    const unsigned last = first + (wanted < left ? wanted : left);
    s->carved = static_cast<std::uint16_t>(last);
    return {first, last};
}

/// Effects: carves. Returns: the first of the new blocks; the others are listed in ascending order. As on a
/// fast path, a fork may come at any moment. Requires: the free list is empty, and carved < capacity.
inline block* carve_blocks(slab* s) noexcept
{
    const carving c = carve(s);
    auto* const first = offset<block>(unit_memory(s), c.first * std::size_t{s->block_size});
    if (c.last - c.first > 1) {
        auto* const second = offset<block>(first, s->block_size);
        block* last = second;
        for (unsigned i = c.first + 2; i < c.last; ++i) {
            auto* const next = offset<block>(last, s->block_size);
            link(last, next);
            last = next;
        }
        link(last, &list_end);
        set_in_order(s->free, second);
    }
    return first;
}

/// Whether `p` is where a block of the slab begins. Requires: it lies in the unit that `h` describes, which
/// belongs to the slab. Any thread.
BINMALLOC_INLINE bool begins_block(const slab* s, const unit_header* h, const void* p) noexcept
{
    const auto in_unit = static_cast<std::uint32_t>(address_of(p) % unit_size);
    const std::uint32_t distance = h->distance * std::uint32_t{unit_size} + in_unit;
    // One division.
    return distance % s->block_size == 0 && distance / s->block_size < s->capacity;
}

/// Effects: ends the process unless it is. Requires: the same.
BINMALLOC_INLINE void check_block(const slab* s, const unit_header* h, const void* p,
                                  const char* what) noexcept
{
    if (!begins_block(s, h, p)) [[unlikely]]
        os::fatal(what, p);
}

inline void check_block(const slab* s, const void* p, const char* what) noexcept
{
    check_block(s, header_of(p), p, what);
}

} // namespace binmalloc::detail

#endif
