// binmalloc: how much freed memory may wait for reuse.
//
// Layer: page allocator. Not thread safe: the page allocator's lock is held.
//
// That is learned, between the footprint's bounds: what was given back because there was too much, and
// is needed again at once, raises the allowance; what nobody needs for the delay lowers it. It begins with
// a few MiB, as if these had been needed again. So a program that works through large amounts again and
// again soon makes no system calls, and one that frees all it has, has given it back then, but for these.
#ifndef BINMALLOC_ALLOWANCE_HPP
#define BINMALLOC_ALLOWANCE_HPP

#include <binmalloc/page_source.hpp>

namespace binmalloc::detail {

/// All amounts are bytes; `live` is what is handed out at the moment.
template <footprint_policy Footprint>
class allowance {
public:
    /// So much may wait at the very most: what lives may be more again soon, so the most that lived in this
    /// round and the last counts.
    std::size_t ceiling(std::size_t live) const noexcept
    {
        const std::size_t most_live = largest(live, most_live_, most_live_before_);
        return largest(most_live / Footprint::dirty_divisor, Footprint::dirty_ceiling);
    }

    /// So much may wait.
    std::size_t limit(std::size_t live) const noexcept
    {
        const std::size_t most = ceiling(live);
        const std::size_t wanted = largest(learned_, live / 8, Footprint::dirty_floor);
        return wanted < most ? wanted : most;
    }

    /// So much is left where there was more than the limit: less than that, or each further free would be
    /// a system call.
    std::size_t target(std::size_t live) const noexcept
    {
        const std::size_t most = limit(live);
        return most > Footprint::dirty_floor * 4 ? most - most / 8 : most / 2;
    }

    /// Effects: takes note that so much comes from the system, and is live now. If as much was given back
    /// just now, that was too early.
    void note_need(std::size_t bytes, std::size_t live) noexcept
    {
        if (live > most_live_) most_live_ = live;
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
    void begin_round() noexcept
    {
        given_back_ = 0;
        most_live_before_ = most_live_;
        most_live_ = 0;
    }

private:
    template <class... Rest>
    static constexpr std::size_t largest(std::size_t first, Rest... rest) noexcept
    {
        ((first = rest > first ? rest : first), ...);
        return first;
    }

    std::size_t most_live_ = 0;        // in this round, as seen by who needed something
    std::size_t most_live_before_ = 0; // in the last
    std::size_t learned_ = Footprint::dirty_start;
    std::size_t given_back_ = 0; // in this round, early
};

} // namespace binmalloc::detail

#endif
