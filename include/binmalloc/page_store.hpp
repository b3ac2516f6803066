// binmalloc: the state of a page allocator, its limit, and how it gives memory back.
//
// Layer: page allocator. Thread safe with the default lock.
//
// Freed memory waits for reuse until it is older than the footprint's delay, or there is more of it than
// is allowed (allowance.hpp); both are checked as the allocator is used. purge() does not wait. The lock
// is never held across a system call that gives memory back: a run leaves the set first.
//
// What is handed out and what waits for reuse together never pass the limit. A call that takes more
// of the system's memory says so first (promise), and keeps to it or takes it back.
#ifndef BINMALLOC_PAGE_STORE_HPP
#define BINMALLOC_PAGE_STORE_HPP

#include <binmalloc/allowance.hpp>
#include <binmalloc/huge_mapping.hpp>
#include <binmalloc/huge_set.hpp>
#include <binmalloc/memory_checkers.hpp>
#include <binmalloc/page_source.hpp>
#include <binmalloc/parting.hpp>
#include <binmalloc/region_set.hpp>
#include <binmalloc/spinlock.hpp>

#include <atomic>
#include <new>

namespace binmalloc::detail {

template <page_source Source, footprint_policy Footprint, class Lock>
class page_store {
protected:
    using source = permitting<Source>;
    using mapping = huge_mapping<source>;
    using guard = lock_guard<Lock>;

public:
    constexpr page_store() noexcept = default;
    page_store(const page_store&) = delete;
    page_store& operator=(const page_store&) = delete;

    /// Effects: returns all memory to the OS, also what is still handed out.
    ~page_store()
    {
        for (region *r = huge_.first_region(), *next; r != nullptr; r = next) {
            next = r->next_all;
            mapping::destroy(mapping::header(r));
        }
        for (region *r = regions_.first_region(), *next; r != nullptr; r = next) {
            next = r->next_all;
            source::release(r, r->unit_count * unit_size);
        }
    }

    /// Effects: gives all free memory back to the OS now.
    void purge() noexcept { trim(trim_all); }

    /// Effects: gives back what has aged, as calls would do if there were any; about `most` bytes.
    void purge_aged(std::size_t most = SIZE_MAX) noexcept
    {
        bool due;
        {
            guard held(lock_);
            calls_ |= 15; // look at the clock
            due = trim_due();
        }
        if (due) trim(trim_aged, most);
    }

    /// Effects: from now on `bytes` is the most that may be handed out or wait for reuse, in whole
    /// units and without the headers (1/256); SIZE_MAX: no limit. Less than is handed out now is
    /// allowed: then nothing more is to be had until enough was freed.
    void set_limit(std::size_t bytes) noexcept
    {
        limit_.store(bytes, std::memory_order_relaxed);
        if (!is_allowed(1)) purge();
    }

    std::size_t limit() const noexcept { return limit_.load(std::memory_order_relaxed); }

    page_statistics statistics() const noexcept
    {
        if (is_abandoned()) return {};
        guard held(lock_);
        return {regions_.reserved_bytes() + huge_.reserved_bytes(), live_bytes(), dirty_bytes()};
    }

    // For the layers above.

    /// Returns: the header of `count` units, or null. Their headers are the caller's to fill.
    unit_header* acquire_units(unsigned count, bool* zeroed = nullptr) noexcept
    {
        unsigned exactly = count;
        return acquire_units(count, exactly, zeroed);
    }

    /// As acquire_units(count), but takes up to `most` units if that makes no difference to the memory
    /// in use; then `most` says how many these are.
    unit_header* acquire_units(unsigned count, unsigned& most, bool* zeroed) noexcept
    {
        bool unused;
        const unit_run run = acquire_run(count, 1, zeroed != nullptr ? *zeroed : unused, most - count);
        most = run.count;
        return run ? run.header() : nullptr;
    }

    /// Effects: frees units. Requires: their headers say unit_kind::none and no owner.
    void release_units(unit_header* first, unsigned count) noexcept
    {
        release_units(&first, &count, 1);
    }

    /// Effects: frees several runs of units: their first headers and their lengths.
    void release_units(unit_header* const* first, const std::uint32_t* count, unsigned runs) noexcept
    {
        if (is_abandoned()) return;
        for (unsigned i = 0; i < runs; ++i) forbid(unit_memory(first[i]), count[i] * unit_size);
        bool due;
        {
            guard held(lock_);
            for (unsigned i = 0; i < runs; ++i) regions_.release(run_of(first[i], count[i]));
            due = trim_due();
        }
        if (due) [[unlikely]]
            trim(trim_aged);
    }

    /// Effects: waits until nothing changes, also outside the lock where there is time, and keeps it
    /// so. For fork.
    void freeze(std::uint64_t deadline_ms) noexcept
    {
        lock_.lock();
        frozen_ = true;
        while (away_ != 0 && os::now_ms() < deadline_ms) {
            lock_.unlock();
            os::yield();
            lock_.lock();
        }
    }

    void thaw() noexcept
    {
        frozen_ = false;
        lock_.unlock();
    }

    /// Effects: in a forked child: nothing is under way in threads that are not there.
    void inherit() noexcept
    {
        away_ = 0;
        promised_ = 0;
    }

    /// Effects: in a forked child, whose parent was in the middle of a change: from now on nothing is
    /// to be had, and what is freed stays where it is.
    void abandon() noexcept { abandoned_.store(true, std::memory_order_relaxed); }

    const Lock& lock() const noexcept { return lock_; }

    /// Counts the footprint's delays that have passed, as far as the allocator was used.
    std::uint32_t round() const noexcept { return round_.load(std::memory_order_relaxed); }

protected:
    enum trim_mode : bool { trim_aged, trim_all };

    static bool commit(const unit_run& run) noexcept
    {
        if constexpr (!os::commit_needed) return true;
        return source::commit(run.memory(), run.bytes());
    }

    unit_run acquire_run(unsigned count, unsigned alignment, bool& zeroed,
                         unsigned more = 0) noexcept
    {
        if (is_abandoned()) [[unlikely]]
            return {};
        unit_run run;
        bool due;
        {
            guard held(lock_);
            run = acquire_within_limit(count, alignment, zeroed);
            if (run && more != 0 && limit() == SIZE_MAX) regions_.widen(run, more, zeroed);
            due = trim_due();
        }
        if (!run) [[unlikely]]
            run = acquire_from_new_region(count, alignment, zeroed);
        if (due) [[unlikely]]
            trim(trim_aged);
        if (run && !commit(run)) [[unlikely]] {
            guard held(lock_);
            regions_.release(run);
            return {};
        }
        // Discarded memory may still have its content.
        if (Footprint::discard_lazily) zeroed = false;
        return run;
    }

    // Under the lock.
    unit_run acquire_within_limit(unsigned count, unsigned alignment, bool& zeroed) noexcept
    {
        if (held_bytes() > limit()) return {};
        const std::size_t clean_before = regions_.clean_taken();
        const unit_run run = regions_.acquire(count, alignment, units_below_limit(), zeroed);
        allowance_.note_need((regions_.clean_taken() - clean_before) * unit_size, live_bytes());
        return run;
    }

    BINMALLOC_SLOW unit_run acquire_from_new_region(unsigned count, unsigned alignment,
                                                    bool& zeroed) noexcept
    {
        const std::size_t needed =
            align_up((first_unit + count + alignment) * unit_size, source::page_size());
        for (const bool last_try : {false, true}) {
            bool refused = false;
            // Where address space is short, less than that will do. Where it has come to its end, each
            // place that is taken costs a system call: so the least is tried before what lies between.
            const std::size_t most = next_region_size(needed);
            for (std::size_t size = most; size >= needed; size /= 2) {
                if (!is_allowed(count * unit_size)) break;
                void* p = source::reserve(size, region_size);
                if (p == nullptr) {
                    refused = true;
                    if (size == most && size / 2 >= needed && !can_reserve(needed)) break;
                    continue;
                }
                if (!source::commit(p, first_unit * unit_size)) {
                    source::release(p, size);
                    continue;
                }
                auto* r = new (p) region;
                r->huge_pages = reserved_regions() >= Footprint::huge_pages_from;
                if (r->huge_pages) use_huge_pages(r, size, true);
                guard held(lock_);
                regions_.add(r, static_cast<unsigned>(size / unit_size), this);
                return acquire_within_limit(count, alignment, zeroed);
            }
            const std::size_t reserved_before = reserved_bytes();
            if (!last_try) trim(trim_all);
            // Another thread may have freed or mapped something meanwhile.
            guard held(lock_);
            if (const unit_run run = acquire_within_limit(count, alignment, zeroed)) return run;
            // What has been refused stays so as long as no address space was given back.
            if (refused && regions_.reserved_bytes() + huge_.reserved_bytes() >= reserved_before) break;
        }
        return {};
    }

    static bool can_reserve(std::size_t size) noexcept
    {
        void* p = source::reserve(size, region_size);
        if (p != nullptr) source::release(p, size);
        return p != nullptr;
    }

    // A region is as large as those before it together: few for a large heap, small for a small one.
    // Its headers are at its front, so it need not be whole.
    std::size_t next_region_size(std::size_t needed) const noexcept
    {
        const std::size_t before = reserved_regions();
        std::size_t size = first_region_size;
        while (size < region_size && (size < needed || size < before)) size *= 2;
        return size;
    }

    std::size_t reserved_regions() const noexcept
    {
        guard held(lock_);
        return regions_.reserved_bytes();
    }

    std::size_t reserved_bytes() const noexcept
    {
        guard held(lock_);
        return regions_.reserved_bytes() + huge_.reserved_bytes();
    }

    // Effects: counts memory as taken before it is, if the limit allows it.
    bool promise(std::size_t bytes) noexcept
    {
        guard held(lock_);
        if (!within_limit(bytes)) return false;
        promised_ += bytes;
        return true;
    }

    bool is_allowed(std::size_t bytes) const noexcept
    {
        guard held(lock_);
        return within_limit(bytes);
    }

    // Under the lock: so many may come from the system.
    std::size_t units_below_limit() const noexcept
    {
        const std::size_t most = limit();
        return held_bytes() < most ? (most - held_bytes()) / unit_size : 0;
    }

    bool is_abandoned() const noexcept { return abandoned_.load(std::memory_order_relaxed); }

    // Under the lock. The clock is read at every 16th call only.
    bool trim_due() noexcept
    {
        if (dirty_bytes() > allowance_.limit(live_bytes())) shrinking_ = true;
        if (shrinking_ || aging_) return true;
        if (++calls_ % 16 != 0) return false;
        const std::uint64_t now = os::now_ms();
        if (now - aged_at_ < Footprint::purge_delay_ms) return false;
        // What was dirty a round ago and is so still goes now; the rest begins to age.
        aged_at_ = now;
        round_.store(round() + 1, std::memory_order_relaxed);
        aging_ = true;
        allowance_.begin_round();
        return true;
    }

    // One round gives back what aged through the last one, in steps; then the next begins to age.
    BINMALLOC_SLOW void trim(trim_mode mode, std::size_t most = Footprint::purge_step) noexcept
    {
        if (is_abandoned()) return;
        const os::keep_errno keep;
        for (std::size_t given = 0; mode == trim_all || given < most;) {
            parting out;
            {
                guard held(lock_);
                while (!out.is_full() && (mode == trim_all || given < most)) {
                    const std::size_t bytes = take_out(mode, out);
                    if (bytes == 0) break;
                    given += bytes;
                }
                if (out.is_empty()) return;
                ++away_;
            }
            // The system might fill the holes again.
            if (out.scattered != nullptr)
                use_huge_pages(out.scattered, out.scattered->unit_count * unit_size, false);
            if (out.idle != nullptr) mapping::destroy(out.idle);
            if (out.whole) source::release(out.whole.where, out.whole.bytes());
            const bool lazily = Footprint::discard_lazily && mode == trim_aged;
            const bool done = out.give_back_runs<source>(lazily);
            guard held(lock_);
            --away_;
            for (unsigned i = 0; i < out.count; ++i) regions_.put_back(out.runs[i], done);
            if (!done) return;
        }
    }

    // Under the lock. Returns: so many bytes more are to be given back; 0: that's all, for now.
    std::size_t take_out(trim_mode mode, parting& out) noexcept
    {
        if (dirty_bytes() <= allowance_.target(live_bytes())) shrinking_ = false;
        const bool all = mode == trim_all || shrinking_;
        if ((!all && !aging_) || frozen_) return 0;
        std::size_t bytes = 0;
        out.idle = huge_.take_idle(all ? round() + 1 : round() - 1);
        if (out.idle != nullptr) {
            huge_.remove(out.idle);
            bytes = out.idle->bytes;
        } else if (const unit_run run = take_dirty(!all, out)) {
            // Of a whole region most may never have been used.
            bytes = run.first == 0 ? run.where->dirty_units * unit_size : run.bytes();
            if (run.first == 0)
                out.whole = run;
            else
                out.add(run);
        } else {
            if (aging_) regions_.age();
            aging_ = false;
            shrinking_ = false;
            return 0;
        }
        if (mode == trim_aged) allowance_.note_given_back(bytes, all);
        return bytes;
    }

    unit_run take_dirty(bool aging_only, parting& out) noexcept
    {
        if (const unit_run run = regions_.take_dirty(aging_only, huge_page_units)) return run;
        // Only now are huge pages cut.
        const auto page_units = static_cast<unsigned>(divide_up(source::page_size(), unit_size));
        const unit_run run = regions_.take_dirty(aging_only, page_units);
        if (run && run.where->huge_pages) {
            run.where->huge_pages = false;
            out.scattered = run.where;
        }
        return run;
    }

    std::size_t dirty_bytes() const noexcept
    {
        return regions_.dirty_units() * unit_size + huge_.cached_bytes();
    }

    std::size_t live_bytes() const noexcept
    {
        return regions_.live_units() * unit_size + huge_.live_bytes();
    }

    // What counts for the limit.
    std::size_t held_bytes() const noexcept { return live_bytes() + dirty_bytes() + promised_; }

    mutable Lock lock_;
    region_set regions_;
    huge_set huge_;
    allowance<Footprint> allowance_;
    std::size_t promised_ = 0;

private:
    // Under the lock. Nothing more is always within it.
    bool within_limit(std::size_t bytes) const noexcept
    {
        return bytes == 0 || (bytes <= limit() && held_bytes() <= limit() - bytes);
    }

    static void use_huge_pages(region* r, std::size_t size, bool yes) noexcept
    {
        // Not for the headers, of which few are ever written.
        constexpr std::size_t front = align_up(first_unit * unit_size, huge_page_size);
        if (size > front) source::use_huge_pages(offset(r, front), size - front, yes);
    }

    static constexpr std::size_t huge_page_size = std::size_t{2} << 20;
    static constexpr unsigned huge_page_units = huge_page_size / unit_size;

    bool shrinking_ = false;     // there was too much, and the target is not reached yet
    bool aging_ = false;         // a round of trimming has not come to its end
    bool frozen_ = false;        // a fork is on its way
    unsigned away_ = 0;          // runs that are out of the sets to be given back
    std::atomic<std::uint32_t> round_{0};
    std::uint32_t calls_ = 0;
    std::uint64_t aged_at_ = 0;
    std::atomic<bool> abandoned_{false};
    std::atomic<std::size_t> limit_{SIZE_MAX};
};

} // namespace binmalloc::detail

#endif
