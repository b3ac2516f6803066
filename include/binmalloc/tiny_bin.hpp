// binmalloc: the bin of blocks smaller than a pointer.
//
// Layer: bins and slabs. Thread safe: it has a lock of its own.
//
// A 4-byte block has no room for a pointer, so its slab's links are 32-bit positions: index + 1 of
// the next free block, 0 at the end. And it cannot travel through an inbox, so every thread frees it
// where it belongs, under the bin's lock.
#ifndef BINMALLOC_TINY_BIN_HPP
#define BINMALLOC_TINY_BIN_HPP

#include <binmalloc/memory_checkers.hpp>
#include <binmalloc/slab.hpp>
#include <binmalloc/spinlock.hpp>

namespace binmalloc::detail {

class tiny_bin {
    using link = std::uint32_t;

public:
    /// Blocks of this size class are tiny.
    static constexpr bool serves(std::size_t block_size) noexcept { return block_size < sizeof(block); }

    template <class Pages>
    void* allocate(bin_index bin, std::size_t block_size, cache_base* home, Pages& pages) noexcept
    {
        lock_guard held(lock_);
        if (available_.empty()) {
            unit_header* first = pages.acquire_units(1);
            if (first == nullptr) return nullptr;
            slab* fresh = make_slab(first, 1, bin, block_size, home, nullptr);
            fresh->free = nullptr;
            permit(unit_memory(fresh), unit_size);
            available_.push_front(fresh);
        }
        auto* s = static_cast<slab*>(available_.front());
        if (s->free == nullptr) carve_links(s);
        auto* p = reinterpret_cast<link*>(s->free);
        s->free = pointer_to(s, *p);
        if (++s->countdown == s->capacity) {
            available_.remove(s);
            full_.push_front(s);
        }
        return p;
    }

    template <class Pages>
    void deallocate(slab* s, void* p, Pages& pages) noexcept
    {
        lock_guard held(lock_);
        if (p == s->free || s->countdown == 0) [[unlikely]]
            os::fatal("double free", p);
        *static_cast<link*>(p) = position_of(s, s->free);
        s->free = static_cast<block*>(p);
        if (s->countdown-- == s->capacity) {
            full_.remove(s);
            available_.push_front(s);
        }
        if (s->countdown == 0 && !available_.is_only(s)) {
            available_.remove(s);
            const unsigned units = unmake_slab(s);
            pages.release_units(s, units);
        }
    }

    /// Effects: takes the slabs without a live block (or all of them) out, for the caller to free.
    template <class Release>
    void release_slabs(bool all, Release release) noexcept
    {
        lock_guard held(lock_);
        for (unit_list* list : {&available_, &full_})
            for (unit_header *h = list->front(), *next; h != nullptr; h = next) {
                next = h->next;
                if (!all && static_cast<slab*>(h)->countdown != 0) continue;
                list->remove(h);
                release(static_cast<slab*>(h));
            }
    }

    /// For fork: nothing changes while it is held.
    spinlock& lock() noexcept { return lock_; }

private:
    static link position_of(const slab* s, const block* b) noexcept
    {
        if (b == nullptr) return 0;
        return static_cast<link>((address_of(b) - address_of(unit_memory(s))) / s->block_size) + 1;
    }

    static block* pointer_to(const slab* s, link position) noexcept
    {
        if (position == 0) return nullptr;
        return offset<block>(unit_memory(s), (position - 1) * std::size_t{s->block_size});
    }

    static void carve_links(slab* s) noexcept
    {
        const carving c = carve(s);
        for (unsigned i = c.first; i < c.last; ++i)
            *reinterpret_cast<link*>(pointer_to(s, i + 1)) = i + 1 < c.last ? i + 2 : 0;
        s->free = pointer_to(s, c.first + 1);
    }

    spinlock lock_;
    unit_list available_; // slabs with a free or uncarved block; their countdown counts live blocks
    unit_list full_;
};

} // namespace binmalloc::detail

#endif
