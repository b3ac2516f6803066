// binmalloc: where a cache's slabs come from, and where they go.
//
// Layer: cache. Not thread safe: whoever holds the cache, and so the stash, if it has one.
#ifndef BINMALLOC_SLAB_SUPPLY_HPP
#define BINMALLOC_SLAB_SUPPLY_HPP

#include <binmalloc/slab.hpp>
#include <binmalloc/span_stash.hpp>

namespace binmalloc::detail {

template <class Pages>
class slab_supply {
public:
    Pages& pages() noexcept { return *pages_; }

    /// Effects: there the units come from, and go to.
    void use(Pages& pages) noexcept { pages_ = &pages; }

    /// Returns: the first of so many units, from the stash if it has them; null: no memory. `zeroed` says if
    /// none of their memory was written since the OS gave it.
    unit_header* take(unsigned units, span_stash* stash, bool& zeroed) noexcept
    {
        zeroed = false;
        if (stash != nullptr) {
            if (span* s = stash->take_last(units)) return s;
            if (span* s = stash->take(units)) return s;
        }
        return pages_->acquire_units(units, &zeroed);
    }

    /// Effects: the units of an empty slab are for the thread's next slab or span, if the stash has room.
    void give(slab* s, span_stash* stash) noexcept
    {
        if (stash == nullptr) {
            release(s);
            return;
        }
        const unsigned units = unmake_slab(s);
        span* free = make_span(s, unit_kind::span, units * unit_size);
        if (stash->keep_quickly(free) || stash->keep(free)) return;
        free->kind = unit_kind::none;
        pages_->release_units(free, units);
    }

    /// Effects: they go back to the page allocator.
    void release(slab* s) noexcept
    {
        const unsigned units = unmake_slab(s);
        pages_->release_units(s, units);
    }

private:
    Pages* pages_ = nullptr;
};

} // namespace binmalloc::detail

#endif
