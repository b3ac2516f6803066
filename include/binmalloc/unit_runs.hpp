// binmalloc: runs of units in a region, and the free ones of them as an index knows them.
//
// Layer: page allocator. Not thread safe: the page allocator's lock is held.
//
// Free units are bits; a free span is a run of them, so neighbours coalesce by being neighbours. How long a
// run is stands in the headers of its first and last unit (boundary tags: Knuth, The Art of Computer
// Programming, 2.5, 1968), so that neither end has to be looked for in the bits.
#ifndef BINMALLOC_UNIT_RUNS_HPP
#define BINMALLOC_UNIT_RUNS_HPP

#include <binmalloc/region.hpp>

namespace binmalloc::detail {

/// Units of one region, side by side.
struct unit_run {
    region* where = nullptr;
    unsigned first = 0;
    unsigned count = 0;

    explicit operator bool() const noexcept { return where != nullptr; }
    unit_header* header() const noexcept { return header_at(where, first); }
    void* memory() const noexcept { return offset(where, first * unit_size); }
    std::size_t bytes() const noexcept { return count * unit_size; }
};

inline unit_run run_of(unit_header* h, unsigned count) noexcept
{
    return {region_holding(h), unit_of(h), count};
}

/// Units of a region that are in one of its indexes: all that are free, or those that are dirty, too.
template <auto region::*Index, bool Dirty>
class indexed_units {
public:
    explicit indexed_units(region* where) noexcept : where_(where) {}

    /// Word `i` of the bits that say which they are.
    bitmap_word operator()(unsigned i) const noexcept
    {
        return Dirty ? where_->free.word(i) & where_->dirty.word(i) : where_->free.word(i);
    }

    /// Effects: adds a run that is no other's neighbour.
    void add(unsigned begin, unsigned length) const noexcept
    {
        index().add(header_at(where_, begin), length);
        // Nothing comes after the region's last unit, so its header need not be resident.
        const unsigned end = begin + length;
        if (end != where_->unit_count) length_at(end - 1) = length;
    }

    /// Effects: adds a run, which becomes one with its neighbours. Before the bits say so. Returns: how long
    /// that is.
    unsigned join(const unit_run& run) const noexcept
    {
        unsigned begin = run.first;
        unsigned end = run.first + run.count;
        if (has(begin - 1)) { // the first units, those of the headers, are never free
            const unsigned length = length_at(begin - 1);
            begin -= length;
            remove(begin, length);
        }
        if (end != where_->unit_count && has(end)) {
            const unsigned length = length_at(end);
            remove(end, length);
            end += length;
        }
        add(begin, end - begin);
        return end - begin;
    }

    /// Effects: takes units out, as far as they are in. Before the bits say so.
    void leave(const unit_run& run) const noexcept
    {
        const unsigned end = run.first + run.count;
        for (unsigned at = run.first; (at = find_bit(at, end, *this)) != end;) {
            const unsigned all_begin = at == run.first ? find_run_start(at, first_unit, *this) : at;
            const unsigned length = length_at(all_begin);
            const unsigned all_end = all_begin + length;
            remove(all_begin, length);
            if (all_begin < at) add(all_begin, at - all_begin);
            if (all_end > end) add(end, all_end - end);
            at = all_end < end ? all_end : end;
        }
    }

private:
    auto& index() const noexcept { return where_->*Index; }

    bool has(unsigned unit) const noexcept { return ((*this)(unit / 64) >> unit % 64 & 1) != 0; }

    // The length of the run that begins or ends with this unit.
    std::uint32_t& length_at(unsigned unit) const noexcept
    {
        return index().length_at(header_at(where_, unit));
    }

    void remove(unsigned begin, unsigned length) const noexcept
    {
        index().remove(header_at(where_, begin), length);
    }

    region* where_;
};

using free_units = indexed_units<&region::free_runs, false>;
using reusable_units = indexed_units<&region::reusable_runs, true>;

} // namespace binmalloc::detail

#endif
