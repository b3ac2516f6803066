// binmalloc: the spans that a thread has just freed, kept for its next requests.
//
// Layer: cache. One thread at a time visits a stash, its owner: without a lock. Any other thread can
// empty it, one at a time, at a cost that is right for rare occasions:
//
//   owner                                  thief
//     visiting; closed?                      closed
//     yes: not visiting, nothing to be had   a barrier on all threads
//     ...                                    wait until the owner is not visiting
//     not visiting                           take all; open again
//
// The barrier stands in for a fence between the owner's store and load, which would cost it more than
// all the rest; only where the system has no such barrier there is one (os::local_barrier).
// (Dice, Huang, Yang: Asymmetric Dekker Synchronization, 2001.)
//
// Programs that use one large block at a time free and allocate the same over and over: the span that was
// freed last is before all lists, with its block as it was.
//
// A stash holds no more than 1 MiB, or one span as large as the largest that its thread has asked for
// lately: a thread that only frees must not hoard. If threads compete, or it often asks in vain: 8 MiB.
#ifndef BINMALLOC_SPAN_STASH_HPP
#define BINMALLOC_SPAN_STASH_HPP

#include <binmalloc/platform/os.hpp>
#include <binmalloc/relaxed.hpp>
#include <binmalloc/span_lists.hpp>
#include <binmalloc/spinlock.hpp>

#include <atomic>

namespace binmalloc::detail {

/// What stashes may hold beyond their shares, all together: units.
class stash_budget {
public:
    void set(std::size_t units) noexcept { most_.store(units, std::memory_order_relaxed); }

    bool borrow(std::size_t units) noexcept
    {
        std::size_t out = borrowed_.load(std::memory_order_relaxed);
        while (out + units <= most_.load(std::memory_order_relaxed))
            if (borrowed_.compare_exchange_weak(out, out + units, std::memory_order_relaxed))
                return true;
        return false;
    }

    void give_back(std::size_t units) noexcept
    {
        borrowed_.fetch_sub(units, std::memory_order_relaxed);
    }

private:
    std::atomic<std::size_t> most_{0};
    std::atomic<std::size_t> borrowed_{0};
};

/// What a stash has whose latest span is gone: right for no size. Never written.
inline constinit span no_span{};

class span_stash {
public:
    /// Effects: makes the stash usable, for units of this page allocator.
    void open_for(const void* pages, stash_budget& budget) noexcept
    {
        pages_ = pages;
        budget_ = &budget;
    }

    /// Effects: from now on it keeps no more than so many units, and what the budget gives beyond. Any
    /// thread, one at a time.
    void set_share(std::size_t units) noexcept
    {
        share_.store(units, std::memory_order_relaxed);
        attention_.fetch_or(share_changed, std::memory_order_relaxed);
    }

    /// So many units it holds at the moment. Any thread.
    std::uint32_t held() const noexcept { return listed() + latest_units(); }

    /// It holds something, or a part of the budget. Any thread.
    bool is_in_use() const noexcept { return held() + borrowed() != 0; }

    /// The page allocator whose units it takes.
    const void* pages() const noexcept { return pages_; }

    /// Returns: the block of the span that was freed last, if its place there is right for the size, with
    /// the natural alignment; else null. Owner.
    BINMALLOC_INLINE void* take_latest(std::size_t size) noexcept
    {
        const visit inside(*this);
        if (attention() != 0) [[unlikely]]
            return nullptr;
        span* const s = latest_;
        if (size - s->least >= s->sizes) [[unlikely]]
            return nullptr;
        set_latest(&no_span, 0);
        s->kind = unit_kind::span;
        void* const b = latest_block_;
#if defined(__GNUC__)
        if (b == nullptr) __builtin_unreachable(); // callers do not ask
#endif
        return b;
    }

    /// Effects: keeps a span that was freed, before all others; its block is at p. False: the stash must look
    /// closer, see keep(). Requires: it came from these pages, and its header says so. Owner.
    BINMALLOC_INLINE bool keep_latest(span* s, void* p) noexcept
    {
        enter();
        // Before anything that a thief changes is read.
        const bool kept = attention() == 0 && becomes_latest(s, p);
        leave();
        return kept;
    }

    /// Returns: a span of so many units, if it was the last that was freed of its list; else null. Owner.
    BINMALLOC_INLINE span* take_last(std::size_t units) noexcept
    {
        const visit inside(*this);
        if (attention() != 0) [[unlikely]]
            return nullptr;
        span* s = spans_.take_last(units);
        if (s != nullptr) [[likely]]
            set_listed(listed() - units);
        return s;
    }

    /// Returns: a span of so many units; null: there are not so many side by side. Owner.
    BINMALLOC_OUTLINE span* take(std::size_t units) noexcept
    {
        const visit inside(*this);
        if (is_closed() || units > held()) return nullptr;
        list_latest();
        const auto wanted = static_cast<std::uint32_t>(units);
        if (wanted > largest_) largest_ = wanted;
        span* s = spans_.take_tightest(wanted);
        if (s == nullptr && wanted > span_lists::few_units && spans_.join())
            s = spans_.take_tightest(wanted);
        if (s != nullptr) set_listed(listed() - wanted);
        return s;
    }

    /// Effects: as keep_latest(), but behind that one: units without a block.
    BINMALLOC_INLINE bool keep_quickly(span* s) noexcept
    {
        const visit inside(*this);
        if (attention() != 0) [[unlikely]]
            return false;
        const std::uint32_t units = units_of(s);
        if (held() + units > limit_ || left_.below_zero_after_decrement()) [[unlikely]]
            return false;
        list(s, units);
        return true;
    }

    /// Effects: as keep_quickly(). False: there is no room, or it is time to see to the page allocator.
    BINMALLOC_OUTLINE bool keep(span* s) noexcept
    {
        const visit inside(*this);
        if (is_closed()) return false;
        heed_share();
        const std::uint32_t units = units_of(s);
        const std::uint32_t now = held() + units;
        if (left_.get() <= 0) {
            end_window();
            return false;
        }
        if (now > useful_ || !borrow_for(now)) return false;
        left_.set(left_.get() - 1);
        list(s, units);
        return true;
    }

    /// It would have room for the span if it were half empty. Owner.
    bool is_full_for(const span* s) noexcept
    {
        const visit inside(*this);
        return !is_closed() && held() + units_of(s) > limit_ && units_of(s) <= limit_ / 2;
    }

    /// Effects: takes out what there is most of, until a quarter of what it may hold is free, and room for
    /// the span; calls `use` as empty() does. Requires: is_full_for() it. Owner.
    template <class Use>
    void thin_out(const span* s, Use use) noexcept
    {
        const visit inside(*this);
        if (is_closed()) return;
        list_latest();
        const std::uint32_t units = units_of(s);
        const std::uint32_t room = units > limit_ / 4 ? units : limit_ / 4;
        while (listed() > limit_ - room) set_listed(listed() - spans_.empty_largest(use));
    }

    /// Effects: takes note of a request that the stash could not serve. Owner.
    void missed(std::uint32_t units, bool competing) noexcept
    {
        if (competing) competing_ = competing_after;
        // A thread that only allocates has no use for a stash.
        const std::int32_t left = left_.observe();
        if (left != left_at_miss_) ++misses_;
        left_at_miss_ = left;
        const bool often = misses_ >= many_misses || competing_ != 0;
        const std::uint32_t wanted = often && units < most_useful ? most_useful : units;
        if (wanted > largest_) largest_ = wanted;
        if (wanted > useful_) {
            useful_ = wanted;
            set_limit();
        }
    }

    /// Threads compete for the page allocator, as far as this one's last requests show. Owner.
    bool is_competing() const noexcept { return competing_ != 0; }

    /// Effects: takes all out; calls `use` with the headers, the lengths and the number of the runs, once
    /// or several times. Owner.
    template <class Use>
    void empty(Use use) noexcept
    {
        const visit inside(*this);
        if (!is_closed()) take_all(use);
    }

    // For a thief; one at a time.

    /// The owner has kept nothing here since the last time that this was asked.
    bool is_idle() noexcept
    {
        const std::int32_t left = left_.observe();
        const bool idle = left == seen_left_;
        seen_left_ = left;
        return idle;
    }

    void close() noexcept { attention_.fetch_or(closed, std::memory_order_relaxed); }
    bool is_closed() const noexcept { return (attention() & closed) != 0; }
    void open() noexcept { forget(closed); }

    /// As empty(), unless the owner does not get out of its visit: it may have been stopped in there.
    /// Requires: it has been closed since before a barrier on all threads.
    template <class Use>
    void steal(Use use) noexcept
    {
        for (unsigned step = 0; visiting_.load(std::memory_order_acquire); ++step) {
            if (step == patience) return;
            spinlock::wait_step(step);
        }
        take_all(use);
    }

    /// Effects: in a forked child, where the owner is not: forgets what a visit left half done.
    void inherit() noexcept
    {
        if (visiting_.load(std::memory_order_relaxed)) {
            visiting_.store(false, std::memory_order_relaxed);
            spans_.clear();
            set_listed(0);
            set_latest(&no_span, 0);
            give_back_beyond(0);
        }
        open();
    }

    // The set's (stash_set.hpp), under its lock.
    span_stash* next = nullptr;
    span_stash* previous = nullptr;
    bool has_share = false;

private:
    static constexpr std::int32_t window = 255;       // spans that were freed
    static constexpr std::uint32_t many_misses = 16;  // in a window
    static constexpr std::uint32_t least_useful = 64; // units
    static constexpr std::uint32_t most_useful = 512; // where threads compete or misses are many
    static constexpr unsigned competing_after = 2;
    static constexpr unsigned patience = 4096;        // steps of waiting, about a millisecond

    // What the owner must not overlook.
    enum attention_bit : std::uint32_t {
        closed = 1,        // a thief is at it
        share_changed = 2, // or what is borrowed, since the owner looked at it
    };

    BINMALLOC_INLINE void enter() noexcept
    {
        visiting_.store(true, std::memory_order_relaxed);
        os::local_barrier();
    }

    BINMALLOC_INLINE void leave() noexcept { visiting_.store(false, std::memory_order_release); }

    class visit {
    public:
        BINMALLOC_INLINE explicit visit(span_stash& stash) noexcept : stash_(stash)
        {
            stash_.enter();
        }
        BINMALLOC_INLINE ~visit() { stash_.leave(); }
        visit(const visit&) = delete;
        visit& operator=(const visit&) = delete;

    private:
        span_stash& stash_;
    };

    std::uint32_t attention() const noexcept { return attention_.load(std::memory_order_acquire); }

    void forget(attention_bit bit) noexcept
    {
        attention_.fetch_and(~std::uint32_t{bit}, std::memory_order_release);
    }

    BINMALLOC_INLINE void list(span* s, std::uint32_t units) noexcept
    {
        spans_.put(s, units);
        set_listed(listed() + units);
    }

    // Effects: keeps it, if there is room, and this is not the last of the window.
    BINMALLOC_INLINE bool becomes_latest(span* s, void* p) noexcept
    {
        list_latest();
        const std::uint32_t units = units_of(s);
        if (listed() + units > limit_ || left_.below_zero_after_decrement()) [[unlikely]]
            return false;
        s->kind = unit_kind::none;
        set_latest(s, units);
        latest_block_ = p;
        return true;
    }

    // Effects: the latest is as all others.
    BINMALLOC_INLINE void list_latest() noexcept
    {
        const std::uint32_t units = latest_units();
        if (units == 0) return;
        list(latest_, units);
        set_latest(&no_span, 0);
    }

    // What the last two windows had no use for is not kept.
    void end_window() noexcept
    {
        const std::uint32_t recent = largest_ > least_useful ? largest_ : least_useful;
        useful_ = recent > previous_ ? recent : previous_;
        previous_ = recent;
        largest_ = 0;
        misses_ = 0;
        if (competing_ != 0) --competing_;
        give_back_beyond(held() < useful_ ? useful_ : held());
        set_limit();
        left_.set(window);
    }

    void heed_share() noexcept
    {
        if ((attention() & share_changed) == 0) return;
        forget(share_changed);
        set_limit();
    }

    void set_limit() noexcept
    {
        const std::size_t most = share() + borrowed();
        limit_ = most < useful_ ? static_cast<std::uint32_t>(most) : useful_;
    }

    template <class Use>
    void take_all(Use use) noexcept
    {
        list_latest();
        spans_.empty(use);
        set_listed(0);
        give_back_beyond(0);
    }

    // Effects: borrows what `units` need beyond the share; enough for all that may be useful, if there is
    // so much.
    bool borrow_for(std::uint32_t units) noexcept
    {
        const std::size_t own = share() + borrowed();
        const std::uint32_t wanted = units < useful_ ? useful_ : units;
        return own >= units || borrow(wanted - own) || borrow(units - own);
    }

    bool borrow(std::size_t units) noexcept
    {
        if (!budget_->borrow(units)) return false;
        set_borrowed(borrowed() + units);
        set_limit();
        return true;
    }

    // Effects: gives back what was borrowed and is not needed for so much. Also a thief's, who leaves the
    // limit to the owner.
    void give_back_beyond(std::size_t units) noexcept
    {
        const std::size_t needed = units > share() ? units - share() : 0;
        if (borrowed() <= needed) return;
        budget_->give_back(borrowed() - needed);
        set_borrowed(needed);
        attention_.fetch_or(share_changed, std::memory_order_relaxed);
    }

    void set_borrowed(std::size_t units) noexcept
    {
        borrowed_.store(static_cast<std::uint32_t>(units), std::memory_order_relaxed);
    }

    std::size_t borrowed() const noexcept { return borrowed_.load(std::memory_order_relaxed); }
    std::size_t share() const noexcept { return share_.load(std::memory_order_relaxed); }

    std::uint32_t listed() const noexcept { return listed_.load(std::memory_order_relaxed); }

    void set_listed(std::size_t units) noexcept
    {
        listed_.store(static_cast<std::uint32_t>(units), std::memory_order_relaxed);
    }

    std::uint32_t latest_units() const noexcept { return latest_units_.load(std::memory_order_relaxed); }

    BINMALLOC_INLINE void set_latest(span* s, std::uint32_t units) noexcept
    {
        latest_ = s;
        latest_units_.store(units, std::memory_order_relaxed);
    }

    std::atomic<bool> visiting_{false};
    std::atomic<std::uint32_t> attention_{0}; // a word: see process_hooks.hpp
    span* latest_ = &no_span;                    // what was freed last
    void* latest_block_ = nullptr;               // where its block is
    std::atomic<std::uint32_t> latest_units_{0}; // how long it is; in units is all here but the next and misses_
    relaxed_count left_{window};            // frees to the end of this window
    std::atomic<std::uint32_t> listed_{0};  // what is held but for the latest
    std::uint32_t limit_ = 0;               // so much is kept without a closer look
    std::uint32_t useful_ = least_useful;   // no more is kept
    std::uint32_t previous_ = least_useful; // the same of the window before
    std::uint32_t largest_ = 0;             // request in this window
    std::uint32_t misses_ = 0;              // in this window, with frees between them
    std::int32_t left_at_miss_ = window;
    std::int32_t seen_left_ = window;       // by the last thief
    unsigned competing_ = 0; // windows to go until the competition is thought of as over
    std::atomic<std::uint32_t> borrowed_{0};
    std::atomic<std::size_t> share_{0};
    stash_budget* budget_ = nullptr;
    const void* pages_ = nullptr;
    span_lists spans_;
};

} // namespace binmalloc::detail

#endif
