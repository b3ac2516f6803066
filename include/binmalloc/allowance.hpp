// binmalloc: how much freed memory may wait for reuse.
//
// Layer: page allocator. Not thread safe: the page allocator's lock is held.
//
// That is learned, between the footprint's bounds: what was given back because there was too much, and
// is needed again at once, raises the allowance; what nobody needs for the delay lowers it. So a program
// that works through large amounts again and again soon makes no system calls, and one that frees all it
// has, has given it back then.
#ifndef BINMALLOC_ALLOWANCE_HPP
#define BINMALLOC_ALLOWANCE_HPP

#include <binmalloc/page_source.hpp>

namespace binmalloc::detail {

/// All amounts are bytes; `live` is what is handed out at the moment.
template <footprint_policy Footprint>
class allowance {
public:
    /// So much may wait at the very most.
    static constexpr std::size_t ceiling(std::size_t live) noexcept
    {
        const std::size_t share = live / Footprint::dirty_divisor;
        return share > Footprint::dirty_ceiling ? share : std::size_t{Footprint::dirty_ceiling};
    }

    /// So much may wait.
    std::size_t limit(std::size_t live) const noexcept
    {
        const std::size_t most = ceiling(live);
        std::size_t least = live / 8;
        if (least < Footprint::dirty_floor) least = Footprint::dirty_floor;
        const std::size_t wanted = learned_ > least ? learned_ : least;
        return wanted < most ? wanted : most;
    }

    /// So much is left where there was more than the limit: less than that, or each further free would be
    /// a system call.
    std::size_t target(std::size_t live) const noexcept
    {
        const std::size_t most = limit(live);
        return most > Footprint::dirty_floor * 4 ? most - most / 8 : most / 2;
    }

    /// Effects: takes note that so much comes from the system. If as much was given back just now, that
    /// was too early.
    void note_need(std::size_t bytes, std::size_t live) noexcept
    {
        const std::size_t regretted = bytes < given_back_ ? bytes : given_back_;
        given_back_ -= regretted;
        learned_ += regretted + regretted / 4;
        const std::size_t most = ceiling(live);
        if (learned_ > most) learned_ = most;
    }

    /// Effects: takes note of what was given back: early, as there was too much, or since it had aged.
    void note_given_back(std::size_t bytes, bool early) noexcept
    {
        if (early)
            given_back_ += bytes;
        else
            learned_ -= bytes < learned_ ? bytes : learned_;
    }

    /// Effects: what is needed from now on has nothing to do with what was given back so far.
    void begin_round() noexcept { given_back_ = 0; }

private:
    std::size_t learned_ = 0;
    std::size_t given_back_ = 0; // in this round, early
};

} // namespace binmalloc::detail

#endif
