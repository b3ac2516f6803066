// binmalloc: what units have in their headers, lists of units, and runs of them by length.
//
// Layer: page allocator. Not thread safe.
#ifndef BINMALLOC_UNITS_HPP
#define BINMALLOC_UNITS_HPP

#include <binmalloc/bits.hpp>
#include <binmalloc/relaxed.hpp>

#include <type_traits>

namespace binmalloc::detail {

struct cache_base;

enum class unit_kind : std::uint8_t {
    none,     ///< not the start of anything that was handed out
    slab,     ///< first unit of a slab
    interior, ///< further unit of a slab; `distance` units after its first
    span,     ///< first unit of a span in a region
    huge,     ///< a span with a mapping of its own
};

/// What a slab's and a span's header have in common. Written by whoever holds the unit when it is
/// handed out and taken back, constant while a block in it lives: so any thread may read it then. But a
/// slab's `owner` and `home` change when another cache adopts it: not to a cache that somebody else holds, and
/// from one only while that is busy, so a thread that is in a slow path, and finds its own there, can rest on it.
struct unit_header {
    /// The cache whose thread may free here without further questions, compared on every free. Null,
    /// which no thread's cache is, for all that needs a closer look: spans, 4-byte blocks, slabs
    /// without a live block.
    relaxed_pointer<const cache_base> owner;
    /// The cache that the slab, all units of it, or (in an arena) the span belongs to; null for other spans.
    published_pointer<cache_base> home;
    unit_header* next;
    unit_header* previous;
    unit_kind kind;
    std::uint8_t distance;    ///< interior units; a span's: see coloring.hpp, as the next one
    std::uint8_t bin;         ///< slab, all units of it
    bool available : 1;       ///< slab: in its home's list of slabs with free blocks
    bool resident : 1;        ///< slab: its memory was in use before, so it costs none to write to it
    std::uint32_t block_size; ///< slab: bytes; spans: 0
};

/// The header of a unit that begins or ends a run of free units, see unit_runs.hpp.
struct free_unit : unit_header {
    free_unit* next_run;
    free_unit* previous_run;
    std::uint32_t free_length;     ///< of the run of free units
    std::uint32_t reusable_length; ///< of the run of those that are dirty, too
};

/// A doubly linked list through these members, in which the first one's `previous` is the last.
template <class T, T* T::*Next, T* T::*Previous>
class linked_list {
public:
    T* front() const noexcept { return first_; }
    static T* next_of(const T* x) noexcept { return x->*Next; }
    bool empty() const noexcept { return first_ == nullptr; }

    /// Nobody but `x` is here. Requires: it is.
    bool is_only(const T* x) const noexcept { return x == first_ && x->*Next == nullptr; }

    void push_front(T* x) noexcept
    {
        x->*Next = first_;
        x->*Previous = first_ != nullptr ? first_->*Previous : x;
        if (first_ != nullptr) first_->*Previous = x;
        first_ = x;
    }

    void push_back(T* x) noexcept
    {
        x->*Next = nullptr;
        x->*Previous = first_ != nullptr ? first_->*Previous : x;
        (first_ != nullptr ? (x->*Previous)->*Next : first_) = x;
        first_->*Previous = x;
    }

    void remove(T* x) noexcept
    {
        T* const next = x->*Next;
        (x != first_ ? (x->*Previous)->*Next : first_) = next;
        if (next != nullptr)
            next->*Previous = x->*Previous;
        else if (first_ != nullptr)
            first_->*Previous = x->*Previous;
    }

private:
    T* first_ = nullptr;
};

using unit_list = linked_list<unit_header, &unit_header::next, &unit_header::previous>;
using free_unit_list = linked_list<free_unit, &free_unit::next_run, &free_unit::previous_run>;

/// From this length on the lists of an index hold runs of several lengths.
inline constexpr unsigned first_inexact = 56;

/// Runs of units, each by the header of its first, by their lengths: a list for each of the short ones, and
/// one for each power of two above. (Segregated fits, as in Wilson, Johnstone, Neely, Boles: Dynamic Storage
/// Allocation, 1995.) Requires: no run is as long as 2^14 units.
template <class List, std::uint32_t free_unit::*Length>
class run_index {
public:
    void add(unit_header* first, unsigned length) noexcept
    {
        const unsigned i = list_of(length);
        List& list = lists_[i];
        auto* const run = static_cast<node*>(first);
        if (list.empty() || run < list.front())
            list.push_front(run);
        else
            list.push_back(run);
        length_at(first) = length;
        filled_ |= std::uint64_t{1} << i;
    }

    /// Requires: it has been added, with that length.
    void remove(unit_header* first, unsigned length) noexcept
    {
        const unsigned i = list_of(length);
        lists_[i].remove(static_cast<node*>(first));
        if (lists_[i].empty()) filled_ &= ~(std::uint64_t{1} << i);
    }

    /// The length of a run, in the header of its first unit. (And in that of its last, if who adds a run
    /// sees to it.)
    static std::uint32_t& length_at(unit_header* h) noexcept { return static_cast<free_unit*>(h)->*Length; }

    /// Whether a run is that long. Requires: the length is less than first_inexact, or a power of two.
    bool has(unsigned length) const noexcept { return enough_for(length) != 0; }

    /// Returns: one of the shortest runs that are long enough; null: there is none. Of equals, one with a low
    /// address, that memory may stay compact: it came below all others, or waits longest.
    unit_header* tightest(unsigned length) const noexcept
    {
        std::uint64_t enough = enough_for(length);
        if (length >= first_inexact && (enough >> list_of(length) & 1) != 0) {
            if (unit_header* const run = tightest_in(lists_[list_of(length)], length)) return run;
            enough &= enough - 1;
        }
        return enough != 0 ? lists_[std::countr_zero(enough)].front() : nullptr;
    }

    /// Effects: calls `use(first, its length)` for each run that is long enough.
    template <class Use>
    void each(unsigned length, Use use) const noexcept
    {
        for (std::uint64_t left = enough_for(length); left != 0; left &= left - 1)
            for (node* run = lists_[std::countr_zero(left)].front(); run != nullptr; run = List::next_of(run))
                if (const unsigned its = length_at(run); its >= length) use(run, its);
    }

private:
    using node = std::remove_pointer_t<decltype(List().front())>;

    static constexpr unsigned list_count = 64;    // bits of a word
    static constexpr unsigned most_compared = 32; // runs

    static constexpr unsigned list_of(unsigned length) noexcept
    {
        constexpr unsigned first_list = first_inexact - 1; // of several lengths
        static_assert(first_list + 13 - floor_log2(first_inexact) == list_count - 1);
        return length < first_inexact ? length - 1
                                      : first_list + floor_log2(length) - floor_log2(first_inexact);
    }

    // The lists that may have such a run: all but the first of them have no other.
    std::uint64_t enough_for(unsigned length) const noexcept
    {
        return filled_ & ~std::uint64_t{0} << list_of(length);
    }

    // Returns: the tightest of the first runs that fit; null: none does.
    static unit_header* tightest_in(const List& list, unsigned length) noexcept
    {
        unit_header* best = nullptr;
        unsigned best_length = ~0u;
        unsigned fitting = 0;
        for (node* run = list.front(); run != nullptr && fitting < most_compared; run = List::next_of(run)) {
            const unsigned its = length_at(run);
            if (its < length) continue;
            ++fitting;
            if (its >= best_length) continue;
            best = run;
            best_length = its;
        }
        return best;
    }

    std::uint64_t filled_ = 0; // bit i: lists_[i] is not empty
    List lists_[list_count];
};

} // namespace binmalloc::detail

#endif
