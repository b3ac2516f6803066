// binmalloc: the spans that a thread has just freed, kept for its next requests.
//
// Layer: cache. One thread at a time visits a stash, its owner: without a lock. Any other thread can
// empty it, one at a time, at a cost that is right for rare occasions:
//
//   owner                                  thief
//     visiting; closed?                      closed
//     yes: not visiting, nothing to be had   a barrier on all threads (membarrier)
//     ...                                    wait until the owner is not visiting
//     not visiting                           take all; open again
//
// The barrier stands in for a fence between the owner's store and load, which would cost it more than
// all the rest. (Dice, Huang, Yang: Asymmetric Dekker Synchronization, 2001.)
//
// A stash holds a few runs of units. A request takes the run that was freed last if it is exactly
// right, else the front of the tightest. Neighbours are joined only when that is needed. It holds no
// more than 1 MiB, or one span as large as the largest that its thread has asked for lately: a thread
// that only frees must not hoard. Where threads compete, it is 4 MiB.
#ifndef BINMALLOC_SPAN_STASH_HPP
#define BINMALLOC_SPAN_STASH_HPP

#include <binmalloc/region.hpp>
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

class span_stash {
public:
    static constexpr unsigned capacity = 16; // runs

    /// Effects: makes the stash usable, for units of this page allocator.
    void open_for(const void* pages, stash_budget& budget) noexcept
    {
        pages_ = pages;
        budget_ = &budget;
    }

    /// Effects: from now on it keeps no more than so many units, and what the budget gives beyond. Any
    /// thread.
    void set_share(std::size_t units) noexcept { share_.store(units, std::memory_order_relaxed); }

    /// So much it holds at the moment. Any thread.
    std::size_t held() const noexcept { return held_.load(std::memory_order_relaxed); }

    /// The page allocator whose units it takes.
    const void* pages() const noexcept { return pages_; }

    /// Returns: the header of so many units, kind none; null: there are not so many side by side. Owner.
    BINMALLOC_INLINE unit_header* take(unsigned units) noexcept
    {
        const visit inside(*this);
        if (!inside || count_ == 0) [[unlikely]]
            return nullptr;
        if (units_[count_ - 1] != units) return take_part(units);
        set_held(held() - units);
        if (borrowed_ != 0) [[unlikely]]
            settle();
        return first_[--count_];
    }

    /// Effects: keeps units that were freed. False: there is no room for them, or it is time to see to
    /// the page allocator. Requires: their headers say unit_kind::none. Owner.
    BINMALLOC_INLINE bool keep(unit_header* first, unsigned units) noexcept
    {
        const visit inside(*this);
        // Only the owner counts.
        const std::uint32_t uses = uses_.load(std::memory_order_relaxed) + 1;
        uses_.store(uses, std::memory_order_relaxed);
        const std::size_t now = held() + units;
        if (!inside || now > useful_ || now > share() || count_ == capacity || uses % window == 0)
            [[unlikely]] return keep_carefully(first, units);
        set_held(now);
        add(first, units);
        return true;
    }

    /// It has no room for another run. Owner.
    bool is_full() noexcept
    {
        const visit inside(*this);
        return inside && count_ == capacity;
    }

    /// Effects: takes note of a request that the stash could not serve. Owner.
    void missed(unsigned units, bool competing) noexcept
    {
        if (competing) competing_ = competing_after;
        const unsigned wanted = competing_ != 0 ? most_useful : units;
        if (wanted > largest_) largest_ = wanted;
        if (wanted > useful_) useful_ = wanted;
    }

    /// Threads compete for the page allocator, as far as this one's last requests show. Owner.
    bool is_competing() const noexcept { return competing_ != 0; }

    /// Effects: takes all out; calls `use` with the headers, the lengths and the number of the runs.
    /// Owner.
    template <class Use>
    void empty(Use use) noexcept
    {
        const visit inside(*this);
        if (inside) take_all(use);
    }

    // For a thief; one at a time.

    /// The owner has kept nothing here since the last time that this was asked.
    bool is_idle() noexcept
    {
        const std::uint32_t uses = uses_.load(std::memory_order_relaxed);
        const bool idle = uses == seen_uses_;
        seen_uses_ = uses;
        return idle;
    }

    bool was_used() const noexcept { return uses_.load(std::memory_order_relaxed) != 0; }

    void close() noexcept { closed_.store(true, std::memory_order_relaxed); }
    bool is_closed() const noexcept { return closed_.load(std::memory_order_acquire); }
    void open() noexcept { closed_.store(false, std::memory_order_release); }

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
        if (visiting_.exchange(false, std::memory_order_relaxed)) {
            count_ = 0;
            set_held(0);
            settle();
        }
        open();
    }

    // The set's (stash_set.hpp), under its lock.
    span_stash* next = nullptr;
    span_stash* previous = nullptr;
    bool has_share = false;

private:
    static constexpr std::uint32_t window = 256;  // spans that were freed
    static constexpr unsigned least_useful = 64;  // units
    static constexpr unsigned most_useful = 256;  // where threads compete
    static constexpr unsigned competing_after = 2;
    static constexpr unsigned patience = 4096;    // steps of waiting, about a millisecond

    class visit {
    public:
        explicit visit(span_stash& stash) noexcept : stash_(stash)
        {
            stash_.visiting_.store(true, std::memory_order_relaxed);
            std::atomic_signal_fence(std::memory_order_seq_cst);
            open_ = !stash_.is_closed();
        }
        ~visit() { stash_.visiting_.store(false, std::memory_order_release); }
        visit(const visit&) = delete;
        visit& operator=(const visit&) = delete;

        explicit operator bool() const noexcept { return open_; }

    private:
        span_stash& stash_;
        bool open_;
    };

    BINMALLOC_INLINE void add(unit_header* first, unsigned units) noexcept
    {
        first_[count_] = first;
        units_[count_] = units;
        ++count_;
    }

    // Within a visit.
    BINMALLOC_OUTLINE bool keep_carefully(unit_header* first, unsigned units) noexcept
    {
        if (is_closed()) return false;
        if (uses_.load(std::memory_order_relaxed) % window == 0) {
            end_window();
            return false;
        }
        const std::size_t before = held();
        if (before + units > useful_ || (count_ == capacity && !join())) return false;
        set_held(before + units);
        if (before + units > share() && !settle()) {
            set_held(before);
            return false;
        }
        add(first, units);
        return true;
    }

    // What the last two windows had no use for is not kept.
    void end_window() noexcept
    {
        const unsigned recent = largest_ > least_useful ? largest_ : least_useful;
        useful_ = recent > previous_ ? recent : previous_;
        previous_ = recent;
        largest_ = 0;
        if (competing_ != 0) --competing_;
    }

    BINMALLOC_OUTLINE unit_header* take_part(unsigned units) noexcept
    {
        if (units > largest_) largest_ = units;
        unsigned place = tightest(units);
        if (place == capacity && (!join() || (place = tightest(units)) == capacity)) return nullptr;
        unit_header* first = first_[place];
        if (units_[place] == units) {
            drop(place);
        } else {
            first_[place] = offset<unit_header>(first, units * header_size);
            units_[place] -= units;
        }
        set_held(held() - units);
        settle();
        return first;
    }

    // The shortest run that is long enough, of equals the one freed last; `capacity`: there is none.
    unsigned tightest(unsigned units) const noexcept
    {
        unsigned best = capacity;
        for (unsigned i = count_; i-- > 0;)
            if (units_[i] >= units && (best == capacity || units_[i] < units_[best])) best = i;
        return best;
    }

    // Effects: joins runs that are neighbours. False: there are none.
    BINMALLOC_OUTLINE bool join() noexcept
    {
        const unsigned before = count_;
        for (unsigned i = 0; i < count_; ++i) {
            for (unsigned k = 0; k < count_;) {
                if (offset<unit_header>(first_[i], units_[i] * header_size) != first_[k]) {
                    ++k;
                    continue;
                }
                units_[i] += units_[k];
                drop(k);
                if (i == count_) i = k; // it was the last and has moved
                k = 0;
            }
        }
        return count_ != before;
    }

    void drop(unsigned place) noexcept
    {
        --count_;
        first_[place] = first_[count_];
        units_[place] = units_[count_];
    }

    template <class Use>
    void take_all(Use use) noexcept
    {
        if (count_ == 0) return;
        join();
        use(first_, units_, count_);
        count_ = 0;
        set_held(0);
        settle();
    }

    // Effects: borrows what is held beyond the share, or gives back what no longer is.
    BINMALLOC_OUTLINE bool settle() noexcept
    {
        const std::size_t wanted = held() > share() ? held() - share() : 0;
        if (wanted > borrowed_) {
            if (!budget_->borrow(wanted - borrowed_)) return false;
        } else if (wanted < borrowed_) {
            budget_->give_back(borrowed_ - wanted);
        }
        borrowed_ = wanted;
        return true;
    }

    std::size_t share() const noexcept { return share_.load(std::memory_order_relaxed); }

    void set_held(std::size_t units) noexcept { held_.store(units, std::memory_order_relaxed); }

    std::atomic<bool> visiting_{false};
    std::atomic<bool> closed_{false};
    std::atomic<std::uint32_t> uses_{0};
    std::uint32_t seen_uses_ = 0;
    unsigned count_ = 0;
    unsigned useful_ = least_useful;   // no more is kept
    unsigned previous_ = least_useful; // the same of the window before
    unsigned largest_ = 0;             // request in this window
    unsigned competing_ = 0;           // windows to go until the competition is thought of as over
    std::atomic<std::size_t> held_{0}; // units, as all numbers here
    std::size_t borrowed_ = 0;
    std::atomic<std::size_t> share_{0};
    stash_budget* budget_ = nullptr;
    const void* pages_ = nullptr;
    std::uint32_t units_[capacity]{};
    unit_header* first_[capacity]{};
};

} // namespace binmalloc::detail

#endif
