// binmalloc: the stashes of a cache pool's threads.
//
// Layer: cache. Thread safe; what concerns one stash is for its owner alone.
//
// It knows all of them, so that purge() and the passing of time reach also those whose threads sleep.
#ifndef BINMALLOC_STASH_SET_HPP
#define BINMALLOC_STASH_SET_HPP

#include <binmalloc/page_source.hpp>
#include <binmalloc/span_stash.hpp>

namespace binmalloc::detail {

template <class Pages, footprint_policy Footprint>
class stash_set {
public:
    /// `owners` is how many stashes may have a share.
    constexpr stash_set(Pages& pages, std::size_t owners) noexcept : pages_(pages), owners_(owners)
    {
        allow(true);
    }

    const spinlock& lock() const noexcept { return lock_; }

    /// Effects: makes a stash usable and known; one without a share holds what the budget gives.
    void add(span_stash& s, bool has_share) noexcept
    {
        lock_guard held(lock_);
        s.open_for(static_cast<const typename Pages::store*>(&pages_), budget_);
        s.has_share = has_share;
        if (has_share) s.set_share(share_);
        s.next = first_;
        s.previous = nullptr;
        if (first_ != nullptr) first_->previous = &s;
        first_ = &s;
    }

    /// Effects: forgets a stash, and gives what is in it to the page allocator. Owner.
    void remove(span_stash& s) noexcept
    {
        {
            lock_guard held(lock_);
            (s.previous != nullptr ? s.previous->next : first_) = s.next;
            if (s.next != nullptr) s.next->previous = s.previous;
        }
        release(s);
    }

    /// Effects: threads may keep freed spans from now on, or not.
    void allow(bool yes) noexcept
    {
        const std::size_t units = yes ? Footprint::stash_bytes / unit_size : 0;
        lock_guard held(lock_);
        share_ = units / owners_;
        budget_.set(2 * units);
        for (span_stash* s = first_; s != nullptr; s = s->next)
            if (s->has_share) s->set_share(share_);
    }

    /// What threads keep of spans at the moment: bytes.
    std::size_t held_bytes() const noexcept
    {
        lock_guard held(lock_);
        std::size_t units = 0;
        for (const span_stash* s = first_; s != nullptr; s = s->next) units += s->held();
        return units * unit_size;
    }

    /// Returns: a span that the thread's stash did not have, or null. `zeroed` as in the page allocator.
    /// Where threads compete for that, some more units come along for the next requests; else, unless few
    /// are asked for, what is in the stash goes back first, so that it costs no memory which its own thread
    /// could use.
    span* acquire(span_stash& stash, unsigned units, bool* zeroed) noexcept
    {
        stash.missed(units, pages_.lock().is_held());
        if (!stash.is_competing()) {
            if (units > span_lists::few_units) release(stash);
            unit_header* first = pages_.acquire_units(units, zeroed);
            return first != nullptr ? span_of(first, units) : nullptr;
        }
        unsigned acquired = units + along;
        unit_header* first = pages_.acquire_units(units, acquired, zeroed);
        if (first == nullptr) return nullptr;
        if (acquired > units) {
            const unsigned more = acquired - units;
            span* rest = span_of(offset<unit_header>(first, units * header_size), more);
            if (!stash.keep(rest)) {
                rest->kind = unit_kind::none;
                pages_.release_units(rest, more);
            }
        }
        return span_of(first, units);
    }

    /// Effects: gives what is in the calling thread's stash to the page allocator.
    static void release(span_stash& stash) noexcept { stash.empty(release_runs); }

    /// Effects: gives it as much of that as makes room for the span and some more. Requires: is_full_for() it.
    static void thin_out(span_stash& stash, const span* s) noexcept { stash.thin_out(s, release_runs); }

    /// Effects: gives the page allocator what is in all stashes. Does nothing where the system has no
    /// barrier, or somebody is at it.
    void release_all() noexcept { release_some(true); }

    /// Effects: once in each round of the page allocator, the same for those whose threads have kept nothing
    /// for a round. Returns: if it was time.
    bool tick() noexcept
    {
        const std::uint32_t round = pages_.round();
        if (round == last_round_.load(std::memory_order_relaxed)) [[likely]]
            return false;
        last_round_.store(round, std::memory_order_relaxed);
        release_some(false);
        return true;
    }

    // For fork.
    void freeze() noexcept { lock_.lock(); }
    void thaw() noexcept { lock_.unlock(); }

private:
    static constexpr unsigned along = 128; // units

    static span* span_of(unit_header* first, unsigned units) noexcept
    {
        return make_span(first, unit_kind::span, units * unit_size);
    }

    void release_some(bool all) noexcept
    {
        if (!lock_.try_lock()) return; // another time
        bool any = false;
        for (span_stash* s = first_; s != nullptr; s = s->next) {
            const bool idle = s->is_idle();
            if (!s->is_in_use() || !(all || idle)) continue;
            s->close();
            any = true;
        }
        if (any) {
            const bool reached = os::barrier_on_all_threads();
            for (span_stash* s = first_; s != nullptr; s = s->next) {
                if (!s->is_closed()) continue;
                if (reached) s->steal(release_runs);
                s->open();
            }
        }
        lock_.unlock();
    }

    // To the page allocator that they came from: the heap may have been lost in a fork since.
    static void release_runs(unit_header* const* first, const std::uint32_t* units,
                             unsigned count) noexcept
    {
        pages_of<Pages>(first[0]).release_units(first, units, count);
    }

    Pages& pages_;
    std::size_t owners_;
    mutable spinlock lock_; // one thief at a time
    span_stash* first_ = nullptr;
    std::size_t share_ = 0;
    stash_budget budget_;
    std::atomic<std::uint32_t> last_round_{0};
};

} // namespace binmalloc::detail

#endif
