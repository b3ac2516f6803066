// binmalloc: size classes.
//
// Layer: size classes. Everything here is computed at compile time and checked by static_assert.
//
// A policy names the block sizes in ascending order; the table derives the lookup from them. With
// the default sizes:
//
//   request                     class     why
//   malloc(5)                       8     8-byte alignment up to 8 bytes
//   malloc(24)                     32     16-byte alignment from there on: 24 is no multiple of 16
//   allocator<T>, sizeof 24, alignof 8
//                                  24     the type is known to need only 8
//   allocator<int>, one int         4     links in free 4-byte blocks are 32 bits wide
//   malloc(900)                   960     eight steps per doubling: 896, 960, 1024
//   malloc(1024)                 1040     so that not all blocks begin at the same few places in a page
//   aligned_alloc(64, 200)        256     the smallest class that is a multiple of 64
//
// Blocks lie at multiples of their size from the start of a slab, which is aligned to a unit. So a
// block is aligned to every power of two (up to a unit) that divides its size, and an aligned
// request is only a matter of choosing the class.
#ifndef BINMALLOC_SIZE_CLASSES_HPP
#define BINMALLOC_SIZE_CLASSES_HPP

#include <binmalloc/geometry.hpp>

#include <array>
#include <concepts>

namespace binmalloc {
namespace detail {

/// Calls `visit` with each default block size, ascending.
template <class Visit>
constexpr void each_default_size(Visit visit)
{
    visit(4u);
    for (unsigned size = 8; size < 64; size += 8) visit(size);
    for (unsigned size = 64; size < 128; size += 16) visit(size);
    for (unsigned base = 128; base < max_block_size; base *= 2) {
        for (unsigned step = 0; step < 8; ++step) {
            const unsigned size = base + step * (base / 8);
            visit(size);
            if (size == 1024) visit(size + unsigned{natural_alignment});
            if (size >= 1024) visit(size + unsigned{cache_line});
        }
    }
    visit(unsigned{max_block_size});
}

inline constexpr std::size_t default_size_count = [] {
    std::size_t n = 0;
    each_default_size([&n](unsigned) { ++n; });
    return n;
}();

} // namespace detail

/// The size classes that the process heap uses: 4 B to 16 KiB. Up to 64 B every multiple of 8, up to
/// 256 B every multiple of 16, then eight steps per doubling: a request over 128 B wastes less
/// than 11.2 % of its block. From 1 KiB on each class has one beside it that is larger by a cache line (that
/// of 1 KiB by 16 B), and serves all that it is aligned for.
struct default_size_classes {
    static constexpr auto sizes = [] {
        std::array<std::uint32_t, detail::default_size_count> all{};
        std::size_t n = 0;
        detail::each_default_size([&](unsigned size) { all[n++] = size; });
        return all;
    }();
};

namespace detail {

/// The largest size that fits malloc's alignment, 0 if none does.
template <std::size_t N>
constexpr std::size_t largest_natural(const std::array<std::uint32_t, N>& sizes)
{
    std::size_t largest = 0;
    for (const std::uint32_t size : sizes)
        if (size % natural_alignment == 0) largest = size;
    return largest;
}

template <std::size_t N>
constexpr bool valid_sizes(const std::array<std::uint32_t, N>& sizes)
{
    if (N == 0 || N > 250 || sizes.back() > max_block_size) return false;
    std::uint32_t previous = 0;
    for (const std::uint32_t size : sizes) {
        // A free block holds a link: of 32 bits in a 4-byte block, else a pointer.
        if (size <= previous || size % (size < 8 ? 4 : 8) != 0) return false;
        previous = size;
    }
    return largest_natural(sizes) != 0;
}

template <class T>
inline constexpr bool is_size_array = false;
template <std::size_t N>
inline constexpr bool is_size_array<const std::array<std::uint32_t, N>> = true;

} // namespace detail

/// `P::sizes` is a constexpr std::array<std::uint32_t, N>, N <= 250, ascending, each 4 or a multiple
/// of 8 and at most 16 KiB, one at least a multiple of 16. From 1 KiB on, a multiple of 128 that is followed
/// by a size at most 64 B larger serves only what the other is not aligned for.
template <class P>
concept size_class_policy = detail::is_size_array<decltype(P::sizes)>
    && requires { requires detail::valid_sizes(P::sizes); };

namespace detail {

/// Larger blocks are few to a page, and to a slab.
inline constexpr std::size_t largest_small = 1024 + natural_alignment;

/// The index of a size class, also of the bin that serves it.
using bin_index = std::uint8_t;

template <size_class_policy Policy>
class size_class_table {
public:
    static constexpr auto& sizes = Policy::sizes;
    static constexpr std::size_t count = sizes.size();
    static constexpr std::size_t largest = sizes.back();
    static constexpr bin_index none = static_cast<bin_index>(count);

    /// Up to here a class by malloc's rule is one table look-up.
    static constexpr std::size_t fast_limit = largest_natural(sizes);

    /// The smallest class that holds `size` bytes at `alignment`, or `none`. Linear: for constants and for
    /// building the tables.
    static constexpr bin_index search(std::size_t size, std::size_t alignment) noexcept
    {
        return search_from(0, size, alignment);
    }

    /// The same. Requires: no class below `i` is it.
    static constexpr bin_index search_from(std::size_t i, std::size_t size, std::size_t alignment) noexcept
    {
        for (; i < count; ++i) {
            if (sizes[i] < size || sizes[i] % alignment != 0) continue;
            if (!gives_way(i, alignment)) return static_cast<bin_index>(i);
        }
        return none;
    }

    /// Whether requests at that alignment take the next class: it is larger by a line at most, and a multiple
    /// of the alignment, too. Blocks that are a multiple of two lines apart begin at few different places in
    /// their pages, at worst at one; and for a processor's first cache, memory at the same place in two pages
    /// competes for the same few lines. Blocks of an odd number of lines, or of 16 bytes, begin at all places
    /// in turn. (Bonwick: The Slab Allocator, 1994, colours slabs for the same reason.)
    static constexpr bool gives_way(std::size_t i, std::size_t alignment) noexcept
    {
        return i + 1 < count && sizes[i] >= 1024 && sizes[i] % (2 * cache_line) == 0
            && sizes[i] + cache_line >= sizes[i + 1] && sizes[i + 1] % alignment == 0;
    }

    /// The class of a request by malloc's rule. Requires: size <= fast_limit.
    static constexpr bin_index of_fast(std::size_t size) noexcept
    {
        return natural_[(size + 7) / 8];
    }

    /// The class of a request by malloc's rule, or `none`.
    static constexpr bin_index of(std::size_t size) noexcept
    {
        return size <= fast_limit ? of_fast(size) : none;
    }

    /// The class of a request at an alignment (a power of two), or `none`.
    static constexpr bin_index of(std::size_t size, std::size_t alignment) noexcept
    {
        if (alignment <= 8) {
            if (size <= 4 && alignment <= 4) return smallest_;
            if (size <= dense_limit) return dense_[(size + 7) / 8];
        }
        if (alignment <= natural_alignment)
            return of(size > natural_alignment ? size : natural_alignment);
        if (alignment > unit_size || size > largest) return none;
        bin_index i = of(size);
        if (i > 0 && sizes[i - 1] >= size && !gives_way(i - 1, alignment)) --i;
        while (i < count && sizes[i] % alignment != 0) ++i;
        return i;
    }

    /// Units of a slab of this class, which hold at least 8 blocks: the fewest, up to 4, with at most 1/32
    /// left over; else the fewest with at most 1/16; else those with the smallest share left over.
    static constexpr unsigned slab_units(bin_index bin) noexcept
    {
        const std::size_t size = sizes[bin];
        if (const unsigned few = fewest_units(size, 4, 32); few != 0) return few;
        if (const unsigned more = fewest_units(size, max_slab_units, 16); more != 0) return more;
        unsigned best = max_slab_units;
        for (unsigned units = best - 1; units * unit_size / size >= 8; --units)
            if (left_over(size, units) * best <= left_over(size, best) * units) best = units;
        return best;
    }

private:
    static constexpr std::size_t left_over(std::size_t size, unsigned units) noexcept
    {
        return units * unit_size % size;
    }

    // Of at most `most`, for 8 blocks and with at most 1/`share` left over; 0: there are none.
    static constexpr unsigned fewest_units(std::size_t size, unsigned most, std::size_t share) noexcept
    {
        for (unsigned units = 1; units <= most; ++units) {
            const std::size_t bytes = units * unit_size;
            if (bytes / size >= 8 && left_over(size, units) * share <= bytes) return units;
        }
        return 0;
    }

    // For each multiple of 8. An alignment does not fall as the size grows.
    template <std::size_t Limit, class Alignment>
    static constexpr auto build(Alignment alignment)
    {
        std::array<bin_index, Limit / 8 + 1> table{};
        table[0] = search(1, alignment(0));
        for (std::size_t i = 1; i < table.size(); ++i)
            table[i] = search_from(table[i - 1], i * 8, alignment(i * 8));
        return table;
    }

    static constexpr std::size_t dense_limit = fast_limit < largest_small ? fast_limit : largest_small;

    static constexpr bin_index smallest_ = search(1, 4);
    static constexpr auto natural_ = build<fast_limit>(natural_alignment_of);
    static constexpr auto dense_ = build<dense_limit>([](std::size_t) { return std::size_t{8}; });
};

using default_table = size_class_table<default_size_classes>;

static_assert(default_table::largest == max_block_size);
static_assert(default_table::sizes[default_table::of(24)] == 32);
static_assert(default_table::sizes[default_table::of(24, 8)] == 24);
static_assert(default_table::sizes[default_table::of(3, 4)] == 4);
static_assert(default_table::sizes[default_table::of(200, 64)] == 256);
static_assert(default_table::sizes[default_table::of(4096)] == 4160);
static_assert(default_table::sizes[default_table::of(4096, 4096)] == 4096);
static_assert(default_table::of(max_block_size + 1) == default_table::none);

// Waste over 128 B is at most 12.5 %, slabs hold at least 8 blocks and leave a fourteenth over at most, and
// every look-up agrees with the search it stands for.
constexpr bool default_table_is_right()
{
    std::size_t previous = 0;
    for (std::size_t i = 0; i < default_table::count; ++i) {
        const std::size_t size = default_table::sizes[i];
        if (size > 128 && (size - previous - 1) * 8 > size) return false;
        const std::size_t slab_bytes = default_table::slab_units(static_cast<bin_index>(i)) * unit_size;
        if (slab_bytes / size < 8 || slab_bytes % size * 14 > slab_bytes) return false;
        if (default_table::of(size, 8) != default_table::search(size, size < 8 ? 4 : 8)
            && size != 4) return false;
        if (default_table::of(size) != default_table::search(size, natural_alignment_of(size)))
            return false;
        previous = size;
    }
    return true;
}
static_assert(default_table_is_right());

} // namespace detail
} // namespace binmalloc

#endif
