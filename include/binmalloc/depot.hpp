// binmalloc: bundles of free blocks that guests leave for each other.
//
// Layer: cache pool. Whoever calls holds the shared cache that the depot belongs to.
//
// Each block of a bundle would have to be counted back into its slab, and taken from one again a moment
// later, all under a lock for which others wait. A whole bundle changes hands in a few steps.
// (Bonwick, Adams: Magazines and Vmem, 2001.)
#ifndef BINMALLOC_DEPOT_HPP
#define BINMALLOC_DEPOT_HPP

#include <binmalloc/region.hpp>
#include <binmalloc/size_classes.hpp>

namespace binmalloc::detail {

/// Free blocks of one size class, from `first` to `last`; their slabs know nothing of it.
struct bundle {
    block* first = nullptr;
    block* last = nullptr;
    std::uint32_t count = 0;
};

/// Zero bytes are an empty one.
template <class Table>
class depot {
public:
    /// It keeps no more than so many bytes, and so many bundles of a size class.
    static constexpr std::size_t most_bytes = 262144;
    static constexpr std::uint32_t most_bundles = 4;

    /// Effects: keeps a bundle, which is not empty. False: there is no room for it.
    bool put(bin_index bin, const bundle& b) noexcept
    {
        shelf& place = shelves_[bin];
        const std::size_t bytes = b.count * std::size_t{Table::sizes[bin]};
        if (place.count == most_bundles || bytes_ + bytes > most_bytes) return false;
        place.bundles[place.count++] = b;
        bytes_ += bytes;
        return true;
    }

    /// Returns: the bundle that came last; an empty one if there is none.
    bundle take(bin_index bin) noexcept
    {
        shelf& place = shelves_[bin];
        if (place.count == 0) return {};
        const bundle b = place.bundles[--place.count];
        bytes_ -= b.count * std::size_t{Table::sizes[bin]};
        return b;
    }

    /// Effects: gives all blocks to `release(block)`.
    template <class Release>
    void empty(Release release) noexcept
    {
        for (unsigned bin = 0; bytes_ != 0 && bin < Table::count; ++bin) {
            for (bundle b; (b = take(static_cast<bin_index>(bin))).count != 0;)
                release_all(b, release);
        }
    }

private:
    struct shelf {
        bundle bundles[most_bundles];
        std::uint32_t count;
    };

    std::size_t bytes_ = 0;
    shelf shelves_[Table::count]{};
};

/// Effects: gives the blocks of a bundle to `release(block)`, which may write to them.
template <class Release>
void release_all(const bundle& b, Release& release) noexcept
{
    for (block *next = b.first, *last = b.last, *at = nullptr; at != last;) {
        at = next;
        next = next_of(at);
        release(at);
    }
}

} // namespace binmalloc::detail

#endif
