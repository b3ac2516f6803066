// binmalloc: frees in a leased heap that are not the fast path's.
//
// Layer: heap. Thread safe. The way of such a free is drawn in leased_heap.hpp.
#ifndef BINMALLOC_SLOW_FREES_HPP
#define BINMALLOC_SLOW_FREES_HPP

#include <binmalloc/leases.hpp>

namespace binmalloc::detail {

template <class Policy>
class slow_frees : public leases<Policy> {
    using base = leases<Policy>;

public:
    using typename base::gate_scope;
    using typename base::pages_type;
    using typename base::table;
    using base::is_watched;

protected:
    using typename base::front;
    using typename base::guest_type;
    using typename base::member;
    using typename base::pool_type;
    using typename base::slow_call;
    using base::current_;
    using base::existing_pool;
    using base::own_guest;
    using base::standing_;

    /// Effects: frees a block of the thread's own cache for which its list has no room.
    BINMALLOC_INLINE static void free_into_slab(bin_index bin, void* p, unit_header* h, front* c) noexcept
    {
        if (h->kind == unit_kind::slab) [[likely]]
            free_into(bin, static_cast<slab*>(h), p, h, c);
        else
            free_into_first(p, h, c);
    }

    BINMALLOC_OUTLINE static void free_past_list(void* p, unit_header* h, front* c) noexcept
    {
        free_into_slab(h->bin, p, h, c);
    }

    BINMALLOC_OUTLINE static void deallocate_slow(void* p, unit_header* h) noexcept
    {
        front* c = current_;
        if (h->kind == unit_kind::span) {
            // No memory but the heap's says that it is of the stash's pages.
            auto* s = static_cast<span*>(h);
            span_stash* stash = stash_for(c, s, p);
            if (stash != nullptr && stash->keep_latest(s, p)) [[likely]]
                return;
        }
        if (c->leasable) [[likely]]
            free_of_another(p, h, static_cast<member*>(c));
        else
            free_without_lease(p, h);
    }

private:
    BINMALLOC_OUTLINE static void free_into_first(void* p, unit_header* h, front* c) noexcept
    {
        free_into(h->bin, static_cast<slab*>(first_header(h)), p, h, c);
    }

    // A thief may have taken the slab meanwhile. That there is no room keeps him away from now on.
    BINMALLOC_INLINE static void free_into(bin_index bin, slab* s, void* p, unit_header* h, front* c) noexcept
    {
        if constexpr (os::local_barrier_is_free) {
            os::local_barrier();
            if (h->owner.differs_from(c)) [[unlikely]] {
                c->lists.pass(bin);
                deallocate_slow(p, h);
                return;
            }
        }
        push(*s, p);
        const bool ended = --s->countdown == 0;
        c->lists.pass(bin);
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

    // Effects: frees a block of another cache of the same pool. All else ends in a tail call.
    BINMALLOC_OUTLINE static void free_of_another(void* p, unit_header* h, member* mine) noexcept
    {
        cache_base* const home = h->home; // null: not in a slab
        const slab* const s = slab_with(h);
        if (!is_of_heap(h) || home == nullptr || home->pool != mine->pool || home == mine
            || !begins_block(s, h, p) || tiny_bin::serves(s->block_size)) [[unlikely]] {
            free_with_care(p, h);
            return;
        }
        if (mine->keep_in_exchange(h->bin, s->block_size, p)) return;
        if (mine->has_posted_last(home, p)) [[unlikely]] {
            free_with_care(p, h);
            return;
        }
        if (!mine->post(home, p, s->block_size)) [[unlikely]]
            flush_outbox(home);
    }

    BINMALLOC_OUTLINE static void free_without_lease(void* p, unit_header* h) noexcept
    {
        front* c = current_;
        const cache_base* home = h->home; // null: not in a slab
        if (!is_of_heap(h) || home == nullptr || c->pool == nullptr || home->pool != c->pool
            || !guest_type::serves(h->bin)) [[unlikely]]
            free_with_care(p, h);
        else if (!static_cast<guest_type*>(c)->keep(h->bin, p)) [[unlikely]]
            flush_guest(h->bin);
    }

    static bool is_of_heap(const unit_header* h) noexcept { return region_holding(h)->magic == region_magic; }

    // Effects: frees whatever it is, and ends the process if it is nothing that can be freed.
    BINMALLOC_OUTLINE static void free_with_care(void* p, unit_header* h) noexcept
    {
        if (!is_of_heap(h)) [[unlikely]]
            os::fatal("free of a pointer that is not from this heap", p);
        h = first_header(h);
        if (h->kind == unit_kind::slab) check_block(static_cast<slab*>(h), p, "free of a pointer inside a block");
        if (h->kind == unit_kind::span)
            deallocate_span(p, static_cast<span*>(h));
        else
            deallocate_anything(p, h);
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
        span_stash* stash = stash_for(current_, s, p);
        if (stash == nullptr || !keep_span(*stash, s)) deallocate_anything(p, s);
    }

    // Returns: the thread's stash, if it may keep such a span, which the program frees at p; else null.
    BINMALLOC_INLINE static span_stash* stash_for(const front* c, const span* s, const void* p) noexcept
    {
        span_stash* stash = c->stash;
        const bool right = stash != nullptr && s->home == nullptr && address_of(p) % unit_size == lead_of(s)
            && region_holding(s)->pages == stash->pages();
        return right ? stash : nullptr;
    }

    static bool keep_span(span_stash& stash, span* s) noexcept
    {
        if (stash.keep(s)) return true;
        if (!stash.is_full_for(s)) return false;
        const gate_scope scope;
        pool_type::stash_set_type::thin_out(stash, s);
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
            if (pool_type* its_pool = existing_pool()) its_pool->tick();
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
            if (mine->has_posted_last(home, p)) os::fatal("double free", p);
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
