// binmalloc: the regions of a page allocator, and the free units in them.
//
// Layer: page allocator. Not thread safe: the page allocator's lock is held. No system calls here.
//
// Regions are listed by the length of their longest free run (an upper bound, corrected whenever a
// search fails), as powers of two: a search looks first where it just fits and takes the tightest run
// that is long enough, memory that was in use before untouched memory. An index of the runs by their
// lengths has it; for aligned spans the bits are searched.
#ifndef BINMALLOC_REGION_SET_HPP
#define BINMALLOC_REGION_SET_HPP

#include <binmalloc/unit_runs.hpp>

namespace binmalloc::detail {

class region_set {
public:
    std::size_t live_units() const noexcept { return live_units_; }
    std::size_t dirty_units() const noexcept { return dirty_units_; }
    std::size_t reserved_bytes() const noexcept { return reserved_bytes_; }

    /// Units that have been taken clean, ever.
    std::size_t clean_taken() const noexcept { return clean_taken_; }

    region* first_region() const noexcept { return all_; }

    /// Effects: makes the units of a new region available. Requires: its memory is zero, its header
    /// is usable.
    void add(region* r, unsigned unit_count, const void* pages) noexcept
    {
        r->pages = pages;
        r->magic = region_magic;
        r->unit_count = unit_count;
        r->free.set(first_unit, unit_count - first_unit);
        r->free_units = unit_count - first_unit;
        r->longest = r->free_units;
        r->lowest = first_unit;
        free_units(r).add(first_unit, r->free_units);
        reserved_bytes_ += unit_count * unit_size;
        r->next_all = all_;
        if (all_ != nullptr) all_->previous_all = r;
        all_ = r;
        link(r);
    }

    /// Effects: takes `count` free units whose first is aligned to `alignment` units, at most
    /// `most_clean` of them clean. `zeroed` says if none of them was written since the OS gave it.
    /// Returns an empty run if there are none.
    unit_run acquire(unsigned count, unsigned alignment, std::size_t most_clean,
                     bool& zeroed) noexcept
    {
        if (count >= first_large) return acquire_large(count, alignment, most_clean, zeroed);
        for (unsigned bin = floor_log2(count); bin < bin_count; ++bin) {
            for (region *r = bins_[bin], *next; r != nullptr; r = next) {
                next = r->next;
                if (r->longest < count) continue;
                const unit_run run{r, search(r, count, alignment), count};
                if (run.first == r->unit_count) continue;
                if (count > most_clean && clean_units(run) > most_clean) continue;
                zeroed = take(run);
                return run;
            }
        }
        return {};
    }

    /// Effects: takes up to `most` free units that follow a run, as long as they are as clean or as dirty
    /// as its last.
    void widen(unit_run& run, unsigned most, bool zeroed) noexcept
    {
        const region* r = run.where;
        const unsigned begin = run.first + run.count;
        const unsigned limit = most < r->unit_count - begin ? begin + most : r->unit_count;
        const unsigned end = find_bit(begin, limit, [r, zeroed](unsigned i) {
            return ~r->free.word(i) | (zeroed ? r->dirty.word(i) : ~r->dirty.word(i));
        });
        take({run.where, begin, end - begin});
        run.count += end - begin;
    }

    /// Effects: takes the `count` units that follow a run, if all are free and at most `most_clean` of
    /// them clean. False: nothing changed.
    bool acquire_after(const unit_run& run, unsigned count, std::size_t most_clean) noexcept
    {
        const unsigned begin = run.first + run.count;
        if (count > run.where->unit_count - begin) return false;
        if (run.where->free.next_clear(begin, begin + count) != begin + count) return false;
        const unit_run more{run.where, begin, count};
        if (clean_units(more) > most_clean) return false;
        take(more);
        return true;
    }

    /// Effects: units that were handed out are free, and dirty unless their memory has gone.
    void release(const unit_run& run, bool clean = false) noexcept
    {
        live_units_ -= run.count;
        put_back(run, clean);
    }

    /// Effects: marks all dirty units as aging. Returns: if there are any.
    bool age() noexcept
    {
        for (region* r = all_; r != nullptr; r = r->next_all) {
            if (r->dirty_units == 0) continue;
            for (unsigned i = 0; i < units_per_region / 64; ++i)
                r->aging.set_word(i, r->free.word(i) & r->dirty.word(i));
        }
        return dirty_units_ != 0;
    }

    /// Effects: takes out a run of dirty units (aging ones only, if asked) for the caller to
    /// decommit, its ends aligned to `alignment` units. A region that is entirely free is taken out
    /// of the set, for the caller to unmap: then the run begins at unit 0. Empty: there is none.
    unit_run take_dirty(bool aging_only, unsigned alignment) noexcept
    {
        // Round by round, beginning where the last one was found.
        if (last_taken_ == nullptr) last_taken_ = all_;
        region* r = last_taken_;
        for (bool more = r != nullptr; more; more = r != last_taken_) {
            if (const unit_run run = take_dirty_of(r, aging_only, alignment)) {
                if (run.first != 0) last_taken_ = r;
                return run;
            }
            r = r->next_all != nullptr ? r->next_all : all_;
        }
        return {};
    }

    /// Effects: a run from take_dirty() is free again, and dirty unless its memory has gone.
    void put_back(const unit_run& run, bool clean) noexcept
    {
        if (clean) {
            run.where->dirty.clear(run.first, run.count);
            run.where->aging.clear(run.first, run.count);
        } else {
            run.where->dirty_units += run.count;
            dirty_units_ += run.count;
            reusable_units(run.where).join(run);
        }
        insert(run);
    }

    /// Effects: forgets a region. Requires: all its units are free.
    void remove(region* r) noexcept
    {
        if (last_taken_ == r) last_taken_ = r->next_all;
        unlink(r);
        (r->previous_all != nullptr ? r->previous_all->next_all : all_) = r->next_all;
        if (r->next_all != nullptr) r->next_all->previous_all = r->previous_all;
        dirty_units_ -= r->dirty_units;
        reserved_bytes_ -= r->unit_count * unit_size;
    }

private:
    // One for each power of two up to a whole region; regions without a free unit are in none.
    static constexpr unsigned bin_count = floor_log2(units_per_region) + 1;

    // Spans from here on (4 MiB) are worth a look at all places: faulting in the pages of a clean one
    // takes far longer.
    static constexpr unsigned first_large = 256;

    // So many places are compared.
    static constexpr unsigned most_compared = 32;

    // Takes the place with the fewest clean units, and of those the tightest.
    BINMALLOC_OUTLINE unit_run acquire_large(unsigned count, unsigned alignment,
                                             std::size_t most_clean, bool& zeroed) noexcept
    {
        unit_run best;
        std::size_t best_clean = most_clean;
        unsigned best_length = ~0u;
        for (unsigned bin = floor_log2(count); bin < bin_count; ++bin) {
            for (region *r = bins_[bin], *next; r != nullptr; r = next) {
                next = r->next;
                bool fits = false;
                r->free_runs.each(count, [&](const unit_header* h, unsigned length) {
                    fits = true;
                    const unsigned begin = unit_of(h);
                    const unsigned end = begin + length;
                    const auto first = static_cast<unsigned>(align_up(begin, alignment));
                    if (first >= end || end - first < count) return;
                    const auto last = static_cast<unsigned>(align_down(end - count, alignment));
                    const unsigned places[] = {first, last};
                    for (const unsigned place : places) {
                        const unit_run run{r, place, count};
                        const std::size_t clean = clean_units(run);
                        if (clean > best_clean || (clean == best_clean && best && length >= best_length))
                            continue;
                        best = run;
                        best_clean = clean;
                        best_length = length;
                    }
                });
                if (!fits && count <= r->longest) set_longest(r, count - 1);
            }
        }
        if (best) zeroed = take(best);
        return best;
    }

    template <class Visit>
    static void each_free_run(const region* r, Visit visit) noexcept
    {
        for (unsigned end = r->lowest;;) {
            const unsigned begin = r->free.next_set(end, r->unit_count);
            if (begin == r->unit_count) return;
            end = r->free.next_clear(begin, r->unit_count);
            visit(begin, end);
        }
    }

    unit_run take_dirty_of(region* r, bool aging_only, unsigned alignment) noexcept
    {
        if (r->free_units == r->unit_count - first_unit && (!aging_only || all_aging(r))) {
            remove(r);
            return {r, 0, r->unit_count};
        }
        if (!r->reusable_runs.has(alignment)) return {};
        const auto candidates = [r, aging_only](unsigned i) {
            return r->free.word(i) & (aging_only ? r->aging.word(i) : r->dirty.word(i));
        };
        const auto others = [&candidates](unsigned i) { return ~candidates(i); };
        for (unsigned end = r->lowest;;) {
            const unsigned begin =
                find_run(end, r->unit_count, alignment < 64 ? alignment : 64, candidates);
            if (begin == r->unit_count) return {};
            end = find_bit(begin, r->unit_count, others);
            const auto first = static_cast<unsigned>(align_up(begin, alignment));
            const auto last = static_cast<unsigned>(align_down(end, alignment));
            if (first >= last) continue;
            const unit_run run{r, first, last - first};
            leave_indexes(run);
            r->free.clear(run.first, run.count);
            r->free_units -= run.count;
            r->dirty_units -= run.count;
            dirty_units_ -= run.count;
            return run;
        }
    }

    static bool all_aging(const region* r) noexcept
    {
        for (unsigned i = 0; i < units_per_region / 64; ++i)
            if ((r->dirty.word(i) & ~r->aging.word(i)) != 0) return false;
        return true;
    }

    unsigned search(region* r, unsigned count, unsigned alignment) noexcept
    {
        if (alignment == 1) {
            const unit_header* h = r->reusable_runs.tightest(count);
            if (h == nullptr) h = r->free_runs.tightest(count);
            if (h != nullptr) return unit_of(h);
            set_longest(r, count - 1);
            return r->unit_count;
        }
        if (r->dirty_units >= count) {
            const unsigned first = scan(r, count, alignment, reusable_units(r));
            if (first != r->unit_count) return first;
        }
        const unsigned first = scan(r, count, alignment, free_units(r));
        if (first == r->unit_count) {
            unsigned longest = 0;
            each_free_run(r, [&longest](unsigned begin, unsigned end) {
                if (end - begin > longest) longest = end - begin;
            });
            if (longest < r->longest) set_longest(r, longest);
        }
        return first;
    }

    // The tightest of the first runs that fit, of equals the lowest. The first that fits would cut up the
    // long ones for single units.
    template <class Word>
    static unsigned scan(const region* r, unsigned count, unsigned alignment, Word word) noexcept
    {
        const unsigned limit = r->unit_count;
        const auto inverse = [&word](unsigned i) { return ~word(i); };
        unsigned best = limit;
        unsigned best_length = ~0u;
        unsigned fitting = 0;
        for (unsigned end = r->lowest; fitting < most_compared;) {
            const unsigned begin = find_run(end, limit, count < 64 ? count : 64, word);
            if (begin == limit) break;
            end = find_bit(begin, limit, inverse);
            const auto first = static_cast<unsigned>(align_up(begin, alignment));
            if (first >= end || end - first < count) continue;
            ++fitting;
            if (end - begin >= best_length) continue;
            best = first;
            best_length = end - begin;
            if (best_length == count) break;
        }
        return best;
    }

    // Effects: free units are so no longer.
    static void leave_indexes(const unit_run& run) noexcept
    {
        free_units(run.where).leave(run);
        reusable_units(run.where).leave(run);
    }

    static std::size_t clean_units(const unit_run& run) noexcept
    {
        return run.count - run.where->dirty.population(run.first, run.count);
    }

    // Returns whether all of the run is clean.
    bool take(const unit_run& run) noexcept
    {
        region* r = run.where;
        leave_indexes(run);
        unsigned dirty = 0;
        each_word(run.first, run.count, [r, &dirty](unsigned i, bitmap_word m, unsigned n) {
            const bitmap_word was_dirty = r->dirty.word(i);
            dirty += (was_dirty & m) == m ? n : static_cast<unsigned>(std::popcount(was_dirty & m));
            r->free.set_word(i, r->free.word(i) & ~m);
            r->dirty.set_word(i, was_dirty | m);
            r->aging.set_word(i, r->aging.word(i) & ~m);
        });
        r->free_units -= run.count;
        r->dirty_units -= dirty;
        if (run.first == r->lowest) r->lowest = run.first + run.count;
        dirty_units_ -= dirty;
        live_units_ += run.count;
        clean_taken_ += run.count - dirty;
        return dirty == 0;
    }

    void insert(const unit_run& run) noexcept
    {
        region* r = run.where;
        const unsigned length = free_units(r).join(run);
        r->free.set(run.first, run.count);
        r->free_units += run.count;
        if (run.first < r->lowest) r->lowest = run.first;
        if (length > r->longest) set_longest(r, length);
    }

    void set_longest(region* r, unsigned longest) noexcept
    {
        unlink(r);
        r->longest = longest;
        link(r);
    }

    void link(region* r) noexcept
    {
        if (r->longest == 0) return;
        region*& first = bins_[floor_log2(r->longest)];
        r->next = first;
        r->previous = nullptr;
        if (first != nullptr) first->previous = r;
        first = r;
    }

    void unlink(region* r) noexcept
    {
        if (r->longest == 0) return;
        (r->previous != nullptr ? r->previous->next : bins_[floor_log2(r->longest)]) = r->next;
        if (r->next != nullptr) r->next->previous = r->previous;
    }

    region* bins_[bin_count]{};
    region* all_ = nullptr;
    region* last_taken_ = nullptr;
    std::size_t live_units_ = 0;
    std::size_t dirty_units_ = 0; // free ones
    std::size_t clean_taken_ = 0;
    std::size_t reserved_bytes_ = 0;
};

} // namespace binmalloc::detail

#endif
