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

#include <binmalloc/leases.hpp>

namespace binmalloc::detail {

/// All members are static: there is one such heap per policy and process (or per library, where
/// symbols are hidden; their blocks may be freed through any of them).
template <class Policy>
class leased_heap : public leases<Policy> {
    using base = leases<Policy>;

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
            deallocate_slow(p, h);
        else if (!c->lists.keep(h->bin, p)) [[unlikely]]
            free_past_list(p, h, c);
    }

    /// For a block that is of this class for certain. What its list has no room for is freed in line, too:
    /// containers free many.
    BINMALLOC_INLINE static void free_block_of(bin_index bin, void* p) noexcept
    {
        if (p == nullptr) return;
        unit_header* const h = header_of(p);
        front* const c = current_;
        if (h->owner.differs_from(c)) [[unlikely]]
            deallocate_slow(p, h);
        else if (!c->lists.keep(bin, p)) [[unlikely]]
            free_into_slab(p, h, c);
    }

    /// Returns: the span that the thread freed last, if it has the right size, else null; not yet colored.
    /// Requires: the size is that of a span.
    BINMALLOC_INLINE static span* take_last_span(std::size_t size) noexcept
    {
        span_stash* stash = current_->stash;
        return stash != nullptr ? stash->take_last(span_units(size, natural_alignment)) : nullptr;
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
                p->stashes.tick();
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
        p->stashes.tick();
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
            memcheck::allocated(b, size, table::sizes[bin]);
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
        p.stashes.tick();
        if (++standing_.refills % refills_to_a_look == 0) [[unlikely]]
            p.pages.purge_aged(Policy::footprint::purge_step);
    }

    static constexpr std::uint32_t refills_to_a_look = 256;

    // Effects: frees a block of the thread's own cache that its list has no room for.
    BINMALLOC_INLINE static void free_into_slab(void* p, unit_header* h, front* c) noexcept
    {
        c->lists.pass(h->bin);
        if (h->kind == unit_kind::slab) [[likely]]
            free_into(static_cast<slab*>(h), p, h, c);
        else
            free_into_first(p, h, c);
    }

    BINMALLOC_OUTLINE static void free_past_list(void* p, unit_header* h, front* c) noexcept
    {
        free_into_slab(p, h, c);
    }

    BINMALLOC_OUTLINE static void free_into_first(void* p, unit_header* h, front* c) noexcept
    {
        free_into(static_cast<slab*>(first_header(h)), p, h, c);
    }

    // A thief may have taken the slab meanwhile.
    BINMALLOC_INLINE static void free_into(slab* s, void* p, unit_header* h, front* c) noexcept
    {
        if constexpr (os::local_barrier_is_free) {
            c->visiting.store(true, std::memory_order_relaxed);
            os::local_barrier();
            if (h->owner.differs_from(c)) [[unlikely]] {
                c->visiting.store(false, std::memory_order_relaxed);
                deallocate_slow(p, h);
                return;
            }
        }
        push(*s, p);
        const bool ended = --s->countdown == 0;
        if constexpr (os::local_barrier_is_free) c->visiting.store(false, std::memory_order_release);
        if (ended) [[unlikely]]
            countdown_ended(s);
    }

    BINMALLOC_OUTLINE static void countdown_ended(slab* s) noexcept
    {
        auto* m = static_cast<member*>(static_cast<front*>(current_));
        m->ended.store(s, std::memory_order_relaxed);
        {
            const slow_call call;
            // Another one: the heap was lost in a fork.
            if (call.mine() != m) return;
            const bin_index bin = s->bin;
            m->countdown_ended(s);
            m->close_if_passed(bin);
            m->ended.store(nullptr, std::memory_order_relaxed);
            m->collect_much();
        }
    }

    BINMALLOC_OUTLINE static void deallocate_slow(void* p, unit_header* h) noexcept
    {
        front* c = current_;
        const cache_base* home = h->home;
        if (home == nullptr && h->kind == unit_kind::span) {
            // No memory but the heap's says that it is of the stash's pages.
            auto* s = static_cast<span*>(h);
            span_stash* stash = stash_for(s, p);
            if (stash != nullptr && stash->keep_quickly(s)) [[likely]]
                return;
        }
        if (!c->leasable)
            deallocate_without_lease(p, h);
        else
            deallocate_checked(p, h);
    }

    BINMALLOC_OUTLINE static void deallocate_checked(void* p, unit_header* h) noexcept
    {
        if (region_of(p)->magic != region_magic) [[unlikely]]
            os::fatal("free of a pointer that is not from this heap", p);
        const unit_header* unit = h;
        h = first_header(h);
        if (h->kind == unit_kind::slab) [[likely]] {
            auto* s = static_cast<slab*>(h);
            check_block(s, unit, p, "free of a pointer inside a block");
            front* c = current_;
            cache_base* home = s->home;
            if (c->leasable && home->pool == c->pool && home != c
                && !tiny_bin::serves(s->block_size)) [[likely]] {
                if (!static_cast<member*>(c)->post(home, p, s->block_size)) [[unlikely]]
                    flush_outbox(home);
                return;
            }
        }
        if (h->kind == unit_kind::span)
            deallocate_span(p, static_cast<span*>(h));
        else
            deallocate_anything(p, h);
    }

    BINMALLOC_OUTLINE static void deallocate_without_lease(void* p, unit_header* h) noexcept
    {
        front* c = current_;
        const cache_base* home = h->home; // null: not in a slab
        if (region_of(p)->magic != region_magic || home == nullptr || c->pool == nullptr
            || home->pool != c->pool || !guest_type::serves(h->bin)) [[unlikely]] {
            deallocate_checked(p, h);
            return;
        }
        if (!static_cast<guest_type*>(c)->keep(h->bin, p)) [[unlikely]]
            flush_guest(h->bin);
    }

    BINMALLOC_OUTLINE static void flush_outbox(cache_base* home) noexcept
    {
        const slow_call call;
        if (call.mine() == nullptr || home->pool != call.mine()->pool) return;
        call.mine()->flush_for(home);
        call.mine()->collect_much();
    }

    BINMALLOC_OUTLINE static void flush_guest(bin_index bin) noexcept
    {
        const gate_scope scope;
        guest_type* g = own_guest();
        pool_type* pool = existing_pool();
        if (g == nullptr || g->pool != pool) return; // the heap was lost in a fork
        if (!g->must_flush(bin) && g->reload(bin)) return;
        member* m = pool->try_lock_shared(standing_.hint);
        if (m == nullptr) {
            if (!g->must_flush(bin)) return; // another time
            m = &pool->lock_shared(standing_.hint);
        }
        pool->flush(*g, bin, *m);
        m->lock.unlock();
    }

    BINMALLOC_OUTLINE static void deallocate_span(void* p, span* s) noexcept
    {
        span_stash* stash = stash_for(s, p);
        if (stash == nullptr || !keep_span(*stash, s)) deallocate_anything(p, s);
    }

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

    // Returns: the thread's stash, if it may keep such a span, which the program frees at p; else null.
    BINMALLOC_INLINE static span_stash* stash_for(const span* s, const void* p) noexcept
    {
        span_stash* stash = current_->stash;
        const bool right = stash != nullptr && s->home == nullptr && address_of(p) % unit_size == lead_of(s)
            && region_holding(s)->pages == stash->pages();
        return right ? stash : nullptr;
    }

    static bool keep_span(span_stash& stash, span* s) noexcept
    {
        if (stash.keep(s)) return true;
        if (!stash.is_full_for(s)) return false;
        const gate_scope scope;
        pool_type::stash_set_type::thin_out(stash);
        return stash.keep(s);
    }

    // Also a thread that has never allocated: it may go on freeing.
    static bool keeps_as_guest(bin_index bin, void* p) noexcept
    {
        if (!guest_type::serves(bin)) return false;
        base::become_guest(*existing_pool());
        guest_type* g = own_guest();
        if (g != nullptr) g->keep(bin, p);
        return g != nullptr;
    }

    // A block of another pool, one that is rare, or none.
    BINMALLOC_OUTLINE static void deallocate_anything(void* p, unit_header* h) noexcept
    {
        const os::keep_errno keep;
        const memcheck::unseen internal(is_watched());
        if (is_watched()) [[unlikely]]
            memcheck::freed(p, usable_bytes(h));
        if (h->kind != unit_kind::slab) {
            const gate_scope scope;
            free_span<pages_type>(p, h);
            if (pool_type* its_pool = existing_pool()) its_pool->stashes.tick();
            return;
        }
        auto* s = static_cast<slab*>(h);
        if (tiny_bin::serves(s->block_size)) {
            const gate_scope scope;
            if (s->home->gate == nullptr || !s->home->gate->is_lost())
                s->home->tiny.deallocate(s, p, pages_of<pages_type>(s));
            return;
        }
        const slow_call call;
        member* mine = call.mine();
        auto* b = static_cast<block*>(p);
        cache_base* home = s->home; // may change, unless it is mine
        if (home == mine) {
            mine->deallocate(s, p);
        } else if (home->pool != existing_pool()) {
            home->inbox.send(b);
        } else if (mine != nullptr) {
            if (!mine->post(home, p, s->block_size)) mine->flush_for(home);
        } else if (keeps_as_guest(s->bin, p)) {
            // The next free sees whether it is time to flush.
        } else {
            auto& m = static_cast<member&>(*home);
            if (!pool_type::with_idle(m, [&m, s, b] { m.deallocate_if_own(s, b); })) m.inbox.send(b);
        }
    }
};

} // namespace binmalloc::detail

#endif
