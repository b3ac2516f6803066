// binmalloc: free spans by their lengths.
//
// Layer: cache. Not thread safe.
//
// A list for each of the short lengths and one for all others, last in, first out. Programs ask for few
// short lengths again and again, so a request mostly finds its own. If not, it gets the front of the
// tightest span; but a short one leaves those alone that are longer by so little that the rest would be
// of no use. Neighbours are joined only where that is asked for.
#ifndef BINMALLOC_SPAN_LISTS_HPP
#define BINMALLOC_SPAN_LISTS_HPP

#include <binmalloc/region.hpp>

#include <bit>

namespace binmalloc::detail {

/// The units that a span has, also one that is free.
BINMALLOC_INLINE std::uint32_t units_of(const unit_header* s) noexcept
{
    return static_cast<std::uint32_t>(static_cast<const span*>(s)->bytes / unit_size);
}

/// Spans whose kind says that they are free. All lengths are in units, and greater than 0.
class span_lists {
public:
    /// Up to here a length counts as short: 64 KiB.
    static constexpr std::uint32_t few_units = 4;

    BINMALLOC_INLINE void put(span* s, std::size_t units) noexcept
    {
        const std::size_t i = list_of(units);
        s->kind = unit_kind::none;
        s->next = lists_[i];
        lists_[i] = s;
        filled_ |= std::uint32_t{1} << i;
    }

    /// Returns: the last one that was put here, if it is just so long; null: it is not, or there are only
    /// longer and shorter ones.
    BINMALLOC_INLINE span* take_last(std::size_t units) noexcept
    {
        unit_header*& list = lists_[list_of(units)];
        unit_header* const first = list;
        if (first == nullptr || units_of(first) != units) [[unlikely]]
            return nullptr;
        list = first->next;
        return live(first);
    }

    /// Returns: the front of the tightest one that is long enough; null: there is none.
    span* take_tightest(std::uint32_t units) noexcept
    {
        unit_header** place = units < list_count ? tightest_short(units) : nullptr;
        if (place == nullptr) place = tightest_long(units);
        if (place == nullptr) return nullptr;
        unit_header* const first = *place;
        *place = first->next;
        const std::uint32_t length = units_of(first);
        if (length != units) {
            put(describe(offset<unit_header>(first, units * header_size), length - units), length - units);
            describe(first, units);
        }
        return live(first);
    }

    /// Effects: neighbours are one, as far as a batch has them. False: there are none.
    BINMALLOC_OUTLINE bool join() noexcept
    {
        batch all;
        fill(all, filled_);
        all.sort();
        unsigned last = 0;
        for (unsigned i = 1; i < all.count; ++i) {
            if (offset<unit_header>(all.first[last], all.units[last] * header_size) == all.first[i])
                all.units[last] += all.units[i];
            else
                all.move(i, ++last);
        }
        for (unsigned i = 0; i <= last && i < all.count; ++i)
            put(describe(all.first[i], all.units[i]), all.units[i]);
        return last + 1 < all.count;
    }

    /// Effects: takes all out; calls `use` with the headers, the lengths and the number of the spans, once
    /// or several times.
    template <class Use>
    void empty(Use use) noexcept
    {
        use_up(~std::uint32_t{0}, use);
    }

    /// Effects: the same with those of the length that has most units. Returns: so many units.
    template <class Use>
    std::uint32_t empty_largest(Use use) noexcept
    {
        std::uint32_t most = 0;
        std::uint32_t largest = 0;
        for (std::uint32_t left = filled_; left != 0; left &= left - 1) {
            std::uint32_t units = 0;
            for (const unit_header* s = lists_[std::countr_zero(left)]; s != nullptr; s = s->next)
                units += units_of(s);
            if (units <= most) continue;
            most = units;
            largest = lowest_bit(left);
        }
        use_up(largest, use);
        return most;
    }

    /// Effects: forgets all of them.
    void clear() noexcept { *this = {}; }

private:
    static constexpr unsigned list_count = 32; // bits of a word; lists_[0] has all that are longer

    // Longer by less is not worth cutting.
    static constexpr std::uint32_t least_rest = 4;

    struct batch {
        static constexpr unsigned capacity = 32;

        void move(unsigned from, unsigned to) noexcept
        {
            first[to] = first[from];
            units[to] = units[from];
        }

        // By address.
        void sort() noexcept
        {
            for (unsigned i = 1; i < count; ++i) {
                unit_header* const s = first[i];
                const std::uint32_t length = units[i];
                unsigned k = i;
                for (; k > 0 && first[k - 1] > s; --k) move(k - 1, k);
                first[k] = s;
                units[k] = length;
            }
        }

        unit_header* first[capacity];
        std::uint32_t units[capacity];
        unsigned count = 0;
    };

    static constexpr std::size_t list_of(std::size_t units) noexcept
    {
        return units < list_count ? units : 0;
    }

    static span* live(unit_header* h) noexcept
    {
        h->kind = unit_kind::span;
        return static_cast<span*>(h);
    }

    static span* describe(unit_header* first, std::uint32_t units) noexcept
    {
        return make_span(first, unit_kind::none, units * unit_size);
    }

    unit_header** tightest_short(std::uint32_t units) noexcept
    {
        constexpr std::uint32_t too_tight = (std::uint32_t{1} << least_rest) - 2; // by 1 and more
        std::uint32_t enough = ~std::uint32_t{0} << units;
        if (units <= few_units) enough &= ~(too_tight << units);
        while (const std::uint32_t left = enough & filled_) {
            unit_header*& list = lists_[std::countr_zero(left)];
            if (list != nullptr) return &list;
            filled_ &= ~lowest_bit(left);
        }
        return nullptr;
    }

    unit_header** tightest_long(std::uint32_t units) noexcept
    {
        unit_header** best = nullptr;
        std::uint32_t best_length = ~std::uint32_t{0};
        for (unit_header** place = &lists_[0]; *place != nullptr; place = &(*place)->next) {
            const std::uint32_t length = units_of(*place);
            if (length < units || length >= best_length) continue;
            best = place;
            best_length = length;
        }
        return best;
    }

    // Effects: moves spans from some of the lists to the batch, until it is full.
    void fill(batch& to, std::uint32_t which) noexcept
    {
        for (std::uint32_t left = filled_ & which; left != 0; left &= left - 1) {
            unit_header*& list = lists_[std::countr_zero(left)];
            for (; list != nullptr; list = list->next) {
                if (to.count == batch::capacity) return;
                to.first[to.count] = list;
                to.units[to.count++] = units_of(list);
            }
            filled_ &= ~lowest_bit(left);
        }
    }

    template <class Use>
    void use_up(std::uint32_t which, Use use) noexcept
    {
        for (;;) {
            batch some;
            fill(some, which);
            if (some.count == 0) return;
            use(some.first, some.units, some.count);
        }
    }

    std::uint32_t filled_ = 0; // bit i: lists_[i] may have something
    unit_header* lists_[list_count]{};
};

} // namespace binmalloc::detail

#endif
