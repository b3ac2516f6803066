// binmalloc: where in its first unit a span's block begins.
//
// Layer: page allocator. Not thread safe: whoever holds the span.
//
//   |<- lead ->|<------- block: usable bytes ------->|      |
//   +----------+-------------------------------------+------+
//   | unit                | unit                | unit      |
//   +---------------------+---------------------+-----------+
//    lead = color * cache_line                room = lead + what is behind the block
//
// For a processor's first cache, memory at the same place in two pages competes for the same few lines. So
// the rows of a matrix, each a block of its own, should not all begin at the start of a unit. A block has
// one of as many colors as its last unit has lines to spare, up to a page's; from 64 KiB on there is always
// room for all. What is usable depends only on what was asked for. (Bonwick: The Slab Allocator, 1994.)
#ifndef BINMALLOC_COLORING_HPP
#define BINMALLOC_COLORING_HPP

#include <binmalloc/memory_checkers.hpp>
#include <binmalloc/region.hpp>

#include <bit>

namespace binmalloc::detail {

inline constexpr std::size_t most_colors = 64;
inline constexpr std::size_t most_room = (most_colors - 1) * cache_line;

/// Bytes of a span that are not for its block.
inline std::size_t room_of(const span* s) noexcept { return s->bin * cache_line; }

inline std::size_t lead_of(const span* s) noexcept { return s->distance * cache_line; }

inline std::size_t usable_bytes_of(const span* s) noexcept { return s->bytes - room_of(s); }

/// Up to here a block takes the room that is left over; there, no line would be left for other colors.
inline constexpr std::size_t largest_without_room = 4 * unit_size - cache_line;

/// Bytes that a span for `size` bytes shall have, at least.
constexpr std::size_t with_room(std::size_t size, std::size_t alignment) noexcept
{
    const bool all = alignment <= cache_line && size > largest_without_room
        && size <= max_span_size - most_room;
    return all ? size + most_room : size;
}

/// Bytes that are not for the block, of a span of `bytes` for `size` of them.
constexpr std::size_t room_for(std::size_t bytes, std::size_t size, std::size_t alignment) noexcept
{
    if (alignment > cache_line) return 0;
    const std::size_t colors = (bytes - size) / cache_line + 1;
    return (std::bit_floor(colors < most_colors ? colors : most_colors) - 1) * cache_line;
}

inline void copy_color(span* to, const span* from) noexcept
{
    to->distance = from->distance;
    to->bin = from->bin;
}

inline void forget_color(span* s) noexcept { s->distance = s->bin = 0; }

/// Sizes, with the natural alignment: [first, first + count).
struct size_range {
    std::size_t first;
    std::size_t count;
};

/// The sizes for which a block gets just so many bytes of a span, and so much room. None: no such one does.
constexpr size_range sizes_of(std::size_t bytes, std::size_t room) noexcept
{
    const std::size_t largest = bytes - room;
    std::size_t below = bytes - unit_size; // would need fewer units
    const bool added = below >= largest_without_room;
    if (room == most_room) {
        if (added && below - most_room > largest_without_room)
            below -= most_room;
        else if (added)
            below = largest_without_room;
    } else {
        const std::size_t more_colors = bytes - 2 * room - cache_line; // so would this, at least
        if (added || more_colors < below) return {0, 0};
        below = more_colors;
    }
    return {below + 1, largest - below};
}

/// Effects: the span's header says of which sizes its block's place is right.
inline void note_sizes(span* s) noexcept
{
    const size_range sizes = sizes_of(s->bytes, room_of(s));
    s->least = sizes.first;
    s->sizes = sizes.count;
}

/// Effects: gives a span the color of its place, out of as many as fit into the room. Returns: where its
/// block begins.
BINMALLOC_OUTLINE inline void* color_in(span* s, std::size_t room) noexcept
{
    // Two rounds of multiplying: after one, spans nine units apart would have only 16 colors.
    auto hash = static_cast<std::uint32_t>(address_of(s) / header_size) * std::uint32_t{0x9E3779B1};
    hash = (hash ^ hash >> 15) * std::uint32_t{0x85EBCA77};
    s->bin = static_cast<std::uint8_t>(room / cache_line);
    s->distance = static_cast<std::uint8_t>((hash >> 24) & s->bin); // a power of two less one
    note_sizes(s);
    forbid(unit_memory(s), lead_of(s));
    return offset(unit_memory(s), lead_of(s));
}

/// Effects: gives a span in a region the color that its place has. Returns: where its block begins.
/// Requires: it has `size` bytes, and more where with_room() says so.
BINMALLOC_INLINE void* color(span* s, std::size_t size, std::size_t alignment) noexcept
{
    // Mostly it has it from its last block.
    const bool done = room_of(s) == most_room && s->bytes - size >= most_room && alignment <= cache_line;
    if (!done) [[unlikely]]
        return color_in(s, room_for(s->bytes, size, alignment));
    return offset(unit_memory(s), lead_of(s));
}

} // namespace binmalloc::detail

#endif
