// binmalloc: when a size class takes a block of a larger one, and of which.
//
// Layer: cache. Not thread safe: whoever holds the cache.
//
// How many blocks of a class live goes up and down. If each class kept slabs for its own maximum, these would be
// a third larger together than with loans, where sizes are random. A borrowed block stays one of its slab's class,
// and goes back there when it is freed. But a loan takes the slow path, so there is a leaky bucket for each class:
// what is allocated and freed in a loop must not be borrowed each time.
#ifndef BINMALLOC_LENDING_HPP
#define BINMALLOC_LENDING_HPP

#include <binmalloc/region.hpp>
#include <binmalloc/size_classes.hpp>

namespace binmalloc::detail {

template <class Table>
class lending {
public:
    /// One of so many refills may be a loan, in the long run,
    static constexpr std::int32_t refills_per_loan = 8;
    /// and so many loans of a class may come in a row.
    static constexpr std::int32_t loans_in_a_row = 50;

    /// Effects: counts a slow path.
    void count_refill() noexcept { ++refills_; }

    /// Returns: for a class of large blocks, what `take` has of one that is larger by no more than a half, and
    /// aligned as well; null: nothing, or it is not time for a loan. `take`: from a class to a block or null.
    template <class Take>
    block* borrow(bin_index bin, Take take) noexcept
    {
        const std::uint32_t size = Table::sizes[bin];
        if (size <= largest_small) return nullptr;
        std::uint32_t& due = next_loan_[bin];
        const auto ahead = static_cast<std::int32_t>(due - refills_);
        if (ahead > (loans_in_a_row - 1) * refills_per_loan) return nullptr;
        for (unsigned lender = bin + 1u; lender < Table::count; ++lender) {
            if (Table::sizes[lender] > size + size / 2) break;
            if (Table::sizes[lender] % lowest_bit(size) != 0) continue;
            block* const b = take(lender);
            if (b == nullptr) continue;
            due = (ahead > 0 ? due : refills_) + refills_per_loan;
            return b;
        }
        return nullptr;
    }

private:
    std::uint32_t refills_ = 0;
    std::uint32_t next_loan_[Table::count]{}; // the refill at which a class has waited for all its loans
};

} // namespace binmalloc::detail

#endif
