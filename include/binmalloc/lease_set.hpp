// binmalloc: which caches of a pool are to be had by lease, and which any thread has had.
//
// Layer: cache pool. Thread safe.
#ifndef BINMALLOC_LEASE_SET_HPP
#define BINMALLOC_LEASE_SET_HPP

#include <binmalloc/bits.hpp>

#include <atomic>
#include <bit>

namespace binmalloc::detail {

/// Of at most `Most` caches, by their numbers; those for lease are the first.
template <std::uint32_t Most>
class lease_set {
public:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    explicit lease_set(std::uint32_t leasable) noexcept : leasable_(leasable)
    {
        for (std::uint32_t i = 0; i < leasable; ++i) end(i);
    }

    /// Returns: the lowest number of a cache that nobody else has until end(), so that few are in use at all;
    /// `none` if all are taken.
    std::uint32_t acquire() noexcept
    {
        for (std::uint32_t i = 0; i < divide_up(leasable_, 64); ++i) {
            while (const std::uint64_t free = free_[i].load(std::memory_order_relaxed)) {
                const std::uint64_t lowest = lowest_bit(free);
                if ((free_[i].fetch_and(~lowest, std::memory_order_acquire) & lowest) == 0) continue;
                const std::uint32_t number = i * 64 + static_cast<std::uint32_t>(std::countr_zero(lowest));
                touch(number);
                return number;
            }
        }
        return none;
    }

    /// The same for one that is known by its number. False: somebody has it.
    bool try_acquire(std::uint32_t i) noexcept
    {
        return (free_[i / 64].fetch_and(~bit(i), std::memory_order_acquire) & bit(i)) != 0;
    }

    /// Effects: it is free for the next thread.
    void end(std::uint32_t i) noexcept { free_[i / 64].fetch_or(bit(i), std::memory_order_release); }

    /// Effects: it never is.
    void set_aside(std::uint32_t i) noexcept
    {
        free_[i / 64].fetch_and(~bit(i), std::memory_order_relaxed);
    }

    /// Nobody had it, nor has a thread that a fork lost on its way to it. Requires: it is one for lease.
    bool nobody_had(std::uint32_t i) const noexcept
    {
        return !is_touched(i) && (free_[i / 64].load(std::memory_order_relaxed) & bit(i)) != 0;
    }

    /// The memory of a cache that no thread has had is not even read: not every system has a page of zeros
    /// to show for it. Who touches one after the first look of a fork sees that the gate is closed.
    bool is_touched(std::uint32_t i) const noexcept
    {
        return (touched_[i / 64].load(std::memory_order_seq_cst) & bit(i)) != 0;
    }

    void touch(std::uint32_t i) noexcept
    {
        if (!is_touched(i)) touched_[i / 64].fetch_or(bit(i), std::memory_order_seq_cst);
    }

private:
    static constexpr std::uint32_t words = (Most + 63) / 64;

    static constexpr std::uint64_t bit(std::uint32_t i) noexcept { return std::uint64_t{1} << i % 64; }

    std::uint32_t leasable_;
    std::atomic<std::uint64_t> free_[words]{};
    std::atomic<std::uint64_t> touched_[words]{};
};

} // namespace binmalloc::detail

#endif
