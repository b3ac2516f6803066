// binmalloc: what a page allocator gives back to the OS in one go.
//
// Layer: page allocator. Not thread safe. It has left the sets already, so nobody else sees it.
#ifndef BINMALLOC_PARTING_HPP
#define BINMALLOC_PARTING_HPP

#include <binmalloc/platform/os.hpp>
#include <binmalloc/region_set.hpp>

namespace binmalloc::detail {

/// Runs of units, and at its end at most one of the others.
struct parting {
    static constexpr unsigned most_runs = 32;

    bool is_empty() const noexcept { return count == 0 && idle == nullptr && !whole; }
    bool is_full() const noexcept
    {
        return count == most_runs || idle != nullptr || whole || scattered != nullptr;
    }

    void add(const unit_run& run) noexcept { runs[count++] = run; }

    /// Effects: gives the runs' memory back; `lazily`: when the OS is short of it, if it can do that. False:
    /// it could not.
    template <class Source>
    bool give_back_runs(bool lazily) const noexcept
    {
        os::memory_range ranges[most_runs];
        std::size_t now = 0;
        for (unsigned i = 0; i < count; ++i) {
            const unit_run& run = runs[i];
            if (lazily && Source::discard(run.memory(), run.bytes())) continue;
            ranges[now++] = {run.memory(), run.bytes()};
        }
        return now == 0 || Source::decommit(ranges, now);
    }

    unit_run runs[most_runs];
    unsigned count = 0;
    span* idle = nullptr;        ///< a huge mapping
    unit_run whole;              ///< a region
    region* scattered = nullptr; ///< that of the last run, which leaves holes in its huge pages
};

} // namespace binmalloc::detail

#endif
