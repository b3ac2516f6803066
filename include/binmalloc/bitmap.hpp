// binmalloc: a fixed bitmap with runs.
//
// Layer: primitives. Not thread safe. A region keeps its free units in one: runs of set bits are the
// free spans, always in address order and coalesced by construction.
#ifndef BINMALLOC_BITMAP_HPP
#define BINMALLOC_BITMAP_HPP

#include <binmalloc/bits.hpp>

namespace binmalloc::detail {

using bitmap_word = std::uint64_t;

/// The `count` bits of a word from `first` on; first + count <= 64.
constexpr bitmap_word word_mask(unsigned first, unsigned count) noexcept
{
    return (count == 64 ? ~bitmap_word{0} : (bitmap_word{1} << count) - 1) << first;
}

/// The first bit at or after `position` that is set in `word(i)`, or `limit` when there is none below
/// it. `Word` gives the i-th 64 bits, so that a search can run over a combination of bitmaps.
template <class Word>
constexpr unsigned find_bit(unsigned position, unsigned limit, Word word) noexcept
{
    if (position >= limit) return limit;
    unsigned i = position / 64;
    bitmap_word w = word(i) & (~bitmap_word{0} << (position % 64));
    while (w == 0) {
        if (++i * 64 >= limit) return limit;
        w = word(i);
    }
    const unsigned found = i * 64 + static_cast<unsigned>(std::countr_zero(w));
    return found < limit ? found : limit;
}

/// Where the run of bits set in `word(i)` that ends before `position` begins, not below `floor`.
template <class Word>
constexpr unsigned find_run_start(unsigned position, unsigned floor, Word word) noexcept
{
    while (position > floor) {
        const unsigned last = position - 1;
        const bitmap_word clear_below = ~word(last / 64) & word_mask(0, last % 64 + 1);
        if (clear_below != 0) {
            const unsigned start =
                last / 64 * 64 + static_cast<unsigned>(std::bit_width(clear_below));
            return start > floor ? start : floor;
        }
        position = last / 64 * 64;
    }
    return floor;
}

/// The bits of `low` at which `count` set bits begin, in `low` or on into `high`; 1 <= count <= 64.
constexpr bitmap_word run_starts(bitmap_word low, bitmap_word high, unsigned count) noexcept
{
    for (unsigned have = 1, step; have < count; have += step) {
        step = have < count - have ? have : count - have;
        low &= low >> step | high << (64 - step);
        high &= high >> step;
    }
    return low;
}

/// As find_bit, for the first of `count` bits in a row; 1 <= count <= 64. Requires: no bit from `limit` on
/// is set. (Word by word: what lies in shorter runs costs nothing more.)
template <class Word>
constexpr unsigned find_run(unsigned position, unsigned limit, unsigned count, Word word) noexcept
{
    if (position >= limit) return limit;
    unsigned i = position / 64;
    for (bitmap_word w = word(i) & (~bitmap_word{0} << (position % 64));;) {
        const bool last = (i + 1) * 64 >= limit;
        const bitmap_word following = last ? 0 : word(i + 1);
        if (const bitmap_word starts = run_starts(w, following, count); starts != 0)
            return i * 64 + static_cast<unsigned>(std::countr_zero(starts));
        if (last) return limit;
        ++i;
        w = following;
    }
}

/// Effects: calls `f(i, mask, n)` for each word that the `count` bits from `first` on touch: n of them
/// are in the i-th word, under the mask.
template <class Function>
constexpr void each_word(unsigned first, unsigned count, Function f) noexcept
{
    while (count != 0) {
        const unsigned in_word = 64 - first % 64;
        const unsigned n = count < in_word ? count : in_word;
        f(first / 64, word_mask(first % 64, n), n);
        first += n;
        count -= n;
    }
}

template <unsigned Bits>
class bitmap {
    static_assert(Bits % 64 == 0);

public:
    constexpr bitmap_word word(unsigned i) const noexcept { return words_[i]; }
    constexpr void set_word(unsigned i, bitmap_word w) noexcept { words_[i] = w; }

    constexpr bool test(unsigned i) const noexcept { return (words_[i / 64] >> (i % 64) & 1) != 0; }

    constexpr void set(unsigned first, unsigned count) noexcept
    {
        each_word(first, count, [this](unsigned i, bitmap_word m, unsigned) { words_[i] |= m; });
    }

    constexpr void clear(unsigned first, unsigned count) noexcept
    {
        each_word(first, count, [this](unsigned i, bitmap_word m, unsigned) { words_[i] &= ~m; });
    }

    /// How many of the `count` bits from `first` on are set.
    constexpr unsigned population(unsigned first, unsigned count) const noexcept
    {
        unsigned n = 0;
        each_word(first, count, [this, &n](unsigned i, bitmap_word m, unsigned all) {
            const bitmap_word w = words_[i] & m;
            n += w == m ? all : static_cast<unsigned>(std::popcount(w));
        });
        return n;
    }

    /// The first set bit in [position, limit), or limit.
    constexpr unsigned next_set(unsigned position, unsigned limit) const noexcept
    {
        return find_bit(position, limit, [this](unsigned i) { return words_[i]; });
    }

    /// The first clear bit in [position, limit), or limit.
    constexpr unsigned next_clear(unsigned position, unsigned limit) const noexcept
    {
        return find_bit(position, limit, [this](unsigned i) { return ~words_[i]; });
    }

private:
    bitmap_word words_[Bits / 64]{};
};

} // namespace binmalloc::detail

#endif
