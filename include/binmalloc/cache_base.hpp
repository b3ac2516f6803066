// binmalloc: what of a cache others see: who frees a block from anywhere, the fast paths, a fork.
//
// Layer: cache. Any thread sends to the inbox and asks for the lock; the rest is for whoever holds the cache,
// or is a thief in it (cache.hpp).
#ifndef BINMALLOC_CACHE_BASE_HPP
#define BINMALLOC_CACHE_BASE_HPP

#include <binmalloc/class_lists.hpp>
#include <binmalloc/fork_gate.hpp>
#include <binmalloc/inbox.hpp>
#include <binmalloc/span_stash.hpp>
#include <binmalloc/spinlock.hpp>
#include <binmalloc/tiny_bin.hpp>

#include <atomic>

namespace binmalloc::detail {

/// What every cache has, whatever its heap's policies: enough to free a block into it from anywhere.
struct alignas(64) cache_base {
    detail::inbox inbox; ///< blocks that others freed
    spinlock lock;
    std::atomic<std::size_t> waiting{0};         ///< bytes in the inbox, approximately
    std::atomic<std::uint32_t> overdue_since{0}; ///< ms: when that was found to be much; 0: its thread came by
    tiny_bin tiny;
    spinlock spans_lock;
    unit_list spans; ///< an arena's live spans

    // Read by whoever frees blocks of this cache: a line that hardly ever changes.
    alignas(64) const void* pool = nullptr; ///< the pool that it is part of; null: none
    fork_gate* gate = nullptr;              ///< the pool's
    span_stash* stash = nullptr;            ///< of the thread whose cache or guest it is; null: none
    bool leasable = false;                  ///< a member of a pool; not the empty cache, no guest
    std::uint32_t index = 0;                ///< its place there
    std::atomic<bool> made{false};          ///< its bins are initialised

    // Written in each slow path of who holds it.
    alignas(64) std::atomic<std::uint32_t> busy{0}; ///< its lists may be inconsistent: a `visitor`; fork_gate.hpp
    std::atomic<slab*> ended{nullptr};              ///< its countdown has ended, the slow path is on its way

    enum visitor : std::uint32_t { nobody, holder, thief };

    /// Effects: the cache is busy, unless a fork is on its way; waits for a thief. Requires: it is in a
    /// pool, its lock or lease is held.
    bool try_begin() noexcept
    {
        // Nobody else can be the holder: a signal came in its slow path.
        for (unsigned step = 0; enter(holder) == thief; ++step) {
            // In a forked child the thief may not be there.
            if (!gate->is_open()) return false;
            spinlock::wait_step(step);
        }
        if (gate->is_open()) [[likely]]
            return true;
        end();
        return false;
    }

    /// Effects: the cache is busy, if it is not already.
    bool try_begin_theft() noexcept { return enter(thief) == nobody; }

    void end() noexcept { busy.store(nobody, std::memory_order_release); }

    /// Effects: the span belongs to this cache from now on, or no longer. Any thread.
    void attach(span* s) noexcept
    {
        lock_guard held(spans_lock);
        s->home = this;
        spans.push_front(s);
    }

    void detach(span* s) noexcept
    {
        lock_guard held(spans_lock);
        s->home = nullptr;
        spans.remove(s);
    }

private:
    // Returns: who was in there. Then it stays his.
    std::uint32_t enter(visitor v) noexcept
    {
        std::uint32_t before = nobody;
        busy.compare_exchange_strong(before, v, std::memory_order_seq_cst);
        return before;
    }
};

/// The part of a cache that the fast paths see.
template <class Table>
struct cache_front : cache_base {
    class_lists<Table> lists; ///< a guest's: what its next allocations take
};

/// Effects: frees a span of any heap. Requires: its header says what it is, else the process ends.
template <class Pages>
void free_span(void* p, unit_header* h) noexcept
{
    if (h->kind != unit_kind::span && h->kind != unit_kind::huge)
        os::fatal("free of a pointer that is not a live block", p);
    auto* s = static_cast<span*>(h);
    if (p != Pages::memory_of(s)) os::fatal("free of a pointer inside a block", p);
    if (s->home != nullptr) s->home->detach(s);
    pages_of<Pages>(s).deallocate_span(s);
}

} // namespace binmalloc::detail

#endif
