// binmalloc: the heap whose threads lease their caches.
//
// Layer: heap. Thread safe, also before main, after exit, and in a thread whose exit hook has run.
//
// allocate_block(bin, size)                free_block(p)
//   current cache's list -> block            header of p
//     empty -> allocate_slow                   owner is the current cache -> its list
//       a cache is leased                        no room -> slab's free list
//         -> its active slab, all of it            countdown over -> countdown_ended
//         -> refill                            else -> deallocate_slow
//       none yet -> lease one -> refill          span -> page allocator
//       none to be had -> lock a shared          slab of another cache -> outbox, guest's list, or
//       cache, a bundle for the guest            inbox, or that cache itself where it can be locked
//
// A thread without a cache has a static empty one: its first allocation finds an empty list, its first
// free another owner, and both arrive in the slow path without a test of their own. Every slow path
// begins with a slow_call or a gate_scope.
#ifndef BINMALLOC_LEASED_HEAP_HPP
#define BINMALLOC_LEASED_HEAP_HPP

#include <binmalloc/slow_frees.hpp>

namespace binmalloc::detail {

/// All members are static: there is one such heap per policy and process (or per library, where
/// symbols are hidden; their blocks may be freed through any of them).
template <class Policy>
class leased_heap : public slow_frees<Policy> {
    using base = slow_frees<Policy>;

public:
    using typename base::gate_scope;
    using typename base::pages_type;
    using typename base::table;
    using base::is_watched;

    BINMALLOC_INLINE static void* allocate_block(bin_index bin, std::size_t size) noexcept
    {
        if (block* b = current_->lists.take(bin)) [[likely]]
            return b;
        return allocate_slow(bin, size);
    }

    /// Returns: a block if the fast path has one, else null. Also before settle().
    BINMALLOC_INLINE static void* take_block(bin_index bin) noexcept
    {
        front* c = current_;
        return c != nullptr ? c->lists.take(bin) : nullptr;
    }

    BINMALLOC_INLINE static void free_block(void* p) noexcept
    {
        if (p == nullptr) return;
        unit_header* const h = header_of(p);
        front* const c = current_;
        if (h->owner.differs_from(c)) [[unlikely]]
            base::deallocate_slow(p, h);
        else if (!c->lists.keep(h->bin, p)) [[unlikely]]
            base::free_past_list(p, h, c);
    }

    /// For a block that is of this class for certain. What its list has no room for is freed in line, too:
    /// containers free many.
    BINMALLOC_INLINE static void free_block_of(bin_index bin, void* p) noexcept
    {
        if (p == nullptr) return;
        unit_header* const h = header_of(p);
        front* const c = current_;
        if (h->owner.differs_from(c)) [[unlikely]]
            base::deallocate_slow(p, h);
        else if (!c->lists.keep(bin, p)) [[unlikely]]
            base::free_into_slab(bin, p, h, c);
    }

    /// Returns: the block in the span that the thread freed last, if it is right for the size; else null.
    /// Also before settle(). Requires: the size is that of a span.
    BINMALLOC_INLINE static void* take_latest_span(std::size_t size) noexcept
    {
        const front* c = current_;
        span_stash* stash = c != nullptr ? c->stash : nullptr;
        return stash != nullptr ? stash->take_latest(size) : nullptr;
    }

    /// Returns: a block in the last that it freed before of the right length; else null. Requires: as above.
    BINMALLOC_INLINE static void* take_last_span(std::size_t size) noexcept
    {
        span_stash* stash = current_->stash;
        span* s = stash != nullptr ? stash->take_last(span_units(size, natural_alignment)) : nullptr;
        return s != nullptr ? color(s, size, natural_alignment) : nullptr;
    }

    /// Returns: a block in a span that the thread has freed, or in a part of one, else null. Requires: as
    /// above.
    static void* take_span(std::size_t size, std::size_t alignment) noexcept
    {
        span_stash* stash = current_->stash;
        span* s = stash != nullptr ? stash->take(span_units(size, alignment)) : nullptr;
        return s != nullptr ? color(s, size, alignment) : nullptr;
    }

    static void* allocate_span(std::size_t size, std::size_t alignment, bool* zeroed) noexcept
    {
        for (const bool last_try : {false, true}) {
            {
                const slow_call call;
                pool_type* p = existing_pool();
                if (p == nullptr) return nullptr;
                // A thread that only allocates spans must collect what others freed of its blocks.
                if (call.mine() != nullptr)
                    call.mine()->collect();
                else
                    base::become_guest(*p);
                p->tick();
                const memcheck::unseen internal(p->is_watched);
                span_stash* stash = current_->stash;
                span* s = stash != nullptr && is_for_stash(size, alignment)
                    ? p->stashes.acquire(*stash, static_cast<unsigned>(span_units(size, alignment)), zeroed)
                    : p->pages.allocate_span(with_room(size, alignment), alignment, zeroed);
                if (s != nullptr) {
                    void* b = pages_type::block_in(s, size, alignment);
                    if (p->is_watched) [[unlikely]]
                        memcheck::allocated(b, size, usable_bytes_of(s), lead_of(s));
                    return b;
                }
            }
            if (!last_try) purge();
        }
        return nullptr;
    }

    static void purge() noexcept
    {
        const gate_scope scope;
        pool_type* p = existing_pool();
        if (p == nullptr) return;
        {
            const slow_call call;
            const memcheck::unseen internal(p->is_watched);
            if (call.mine() != nullptr) {
                call.mine()->flush_all();
            } else if (guest_type* g = own_guest()) {
                member& m = p->lock_shared(standing_.hint);
                p->flush(*g, m);
                m.lock.unlock();
            }
            p->release_idle();
            if (call.mine() != nullptr) {
                p->steal_all(*call.mine());
                call.mine()->release_free_slabs();
            }
            p->stashes.release_all();
        }
        p->pages.purge();
    }

    static void purge_aged() noexcept
    {
        const gate_scope scope;
        pool_type* p = existing_pool();
        if (p == nullptr) return;
        p->pages.purge_aged();
        p->tick();
    }

    static page_statistics statistics() noexcept
    {
        const gate_scope scope;
        pool_type* p = existing_pool();
        if (p == nullptr) return {};
        page_statistics now = p->pages.statistics();
        // What waits in a stash has not come back to the page allocator, but nobody uses it. Threads go
        // on meanwhile.
        const std::size_t stashed = p->stashes.held_bytes();
        const std::size_t waiting = stashed < now.live ? stashed : now.live;
        now.live -= waiting;
        now.dirty += waiting;
        return now;
    }

    static void set_limit(std::size_t bytes) noexcept
    {
        pool_type* p = pool();
        if (p == nullptr) return;
        p->pages.set_limit(bytes);
        p->stashes.allow(bytes == SIZE_MAX); // what is in them could not serve other threads
        const page_statistics now = statistics();
        if (now.live + now.dirty > bytes) purge();
    }

    static std::size_t limit() noexcept
    {
        pool_type* p = pool();
        return p != nullptr ? p->pages.limit() : SIZE_MAX;
    }

    /// The page allocator of the heap, for an arena in it. Null: no memory.
    static pages_type* pages() noexcept
    {
        pool_type* p = pool();
        return p != nullptr ? &p->pages : nullptr;
    }

private:
    using typename base::front;
    using typename base::guest_type;
    using typename base::member;
    using typename base::pool_type;
    using typename base::slow_call;
    using base::current_;
    using base::existing_pool;
    using base::own_guest;
    using base::pool;
    using base::standing_;

    // `size` is what the caller asked for.
    BINMALLOC_OUTLINE static void* allocate_slow(bin_index bin, std::size_t size) noexcept
    {
        if (front* const c = current_; c->leasable) {
            if (void* b = static_cast<member*>(c)->refill_quickly(bin)) [[likely]]
                return b;
        }
        void* b = try_allocate(bin);
        if (b == nullptr) [[unlikely]] {
            purge();
            b = try_allocate(bin);
        }
        if (is_watched() && b != nullptr) [[unlikely]]
            memcheck::allocated(b, size, usable_bytes(first_header(header_of(b))));
        return b;
    }

    static void* try_allocate(bin_index bin) noexcept
    {
        const slow_call call;
        pool_type* p = existing_pool();
        if (p != nullptr) tick(*p);
        if (call.mine() != nullptr) [[likely]]
            return call.mine()->refill(bin);
        return p != nullptr ? base::allocate_shared(*p, bin) : nullptr;
    }

    // Effects: what is due of giving memory back, also where nothing comes from the page allocator for long.
    static void tick(pool_type& p) noexcept
    {
        p.tick();
        if (++standing_.refills % refills_to_a_look == 0) [[unlikely]]
            p.pages.purge_aged(Policy::footprint::purge_step);
    }

    static constexpr std::uint32_t refills_to_a_look = 256;

    // Larger ones are rare, and so are larger alignments.
    static bool is_for_stash(std::size_t size, std::size_t alignment) noexcept
    {
        return size > table::largest && size <= max_span_size / 2 && alignment <= unit_size;
    }

    // No overflow: it is not 0.
    static constexpr std::size_t span_units(std::size_t size, std::size_t alignment) noexcept
    {
        return (with_room(size, alignment) - 1) / unit_size + 1;
    }
};

} // namespace binmalloc::detail

#endif
