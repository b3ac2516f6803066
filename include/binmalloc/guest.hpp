// binmalloc: the guest, what a thread has that found no cache to lease.
//
// Layer: cache pool. Belongs to its thread; `refill` and the flushes need the lock of a shared cache,
// which also keeps forks away. The fast path's steps, `keep` among them, leave the lists whole.
//
// Without it each call would lock a shared cache, and a thread that loses its processor in the middle
// would keep the others waiting. A guest takes blocks of a size class in bundles and gives them back
// in bundles; between them its lists serve the fast path like a cache's slabs. What it may hold is
// little, so that many threads stay cheap: see the limits below.
#ifndef BINMALLOC_GUEST_HPP
#define BINMALLOC_GUEST_HPP

#include <binmalloc/cache.hpp>

#include <array>

namespace binmalloc::detail {

template <class Table>
class guest : public cache_front<Table> {
public:
    /// A bundle has so many bytes, and at most so many blocks.
    static constexpr std::size_t bundle_bytes = 4096;
    static constexpr std::size_t bundle_blocks = 64;

    /// What a guest's lists hold at most, beside one bundle: bytes.
    static constexpr std::size_t most_held_bytes = 131072;

    guest(const void* its_pool, fork_gate& its_gate) noexcept
    {
        this->pool = its_pool;
        this->gate = &its_gate;
        this->stash = &own_stash;
        for (std::size_t bin = 0; bin < Table::count; ++bin) this->active[bin] = &lists_[bin];
    }

    /// Blocks in a bundle; fewer than two are not worth one.
    static constexpr std::size_t bundle(bin_index bin) noexcept { return bundles_[bin]; }
    static constexpr bool serves(bin_index bin) noexcept { return bundle(bin) >= 2; }

    /// Effects: takes a bundle from a locked cache. Returns: one of its blocks, or null.
    template <class Cache>
    void* refill(Cache& from, bin_index bin) noexcept
    {
        void* b = from.allocate(bin);
        if (b == nullptr || !serves(bin)) return b;
        free_list& list = lists_[bin];
        if (at_end(&list)) {
            recount(bin);
            kept_[bin] = static_cast<std::uint8_t>(take(*from.active[bin], list, bundle(bin) - 1));
            held_bytes_ += kept_[bin] * std::size_t{Table::sizes[bin]};
        }
        return b;
    }

    /// It is high time.
    bool must_flush(bin_index bin) const noexcept
    {
        return kept_[bin] >= 3 * bundle(bin) || held_bytes_ >= most_held_bytes;
    }

    /// Effects: keeps a block for the next allocation. Returns: false if it is time to flush.
    /// Requires: serves(bin).
    bool keep(bin_index bin, void* p) noexcept
    {
        if (p == lists_[bin].free) [[unlikely]]
            os::fatal("double free", p);
        push(lists_[bin], p);
        held_bytes_ += Table::sizes[bin];
        // Both numbers count what came, not what went: that is the fast path's business.
        if (++kept_[bin] >= 2 * bundle(bin) || held_bytes_ >= most_held_bytes) [[unlikely]]
            return has_room(bin);
        return true;
    }

    /// Effects: gives the blocks of a bin that were freed first to `release(block)`, all but a bundle;
    /// or all blocks, if too much is held.
    template <class Release>
    void flush(bin_index bin, Release release) noexcept
    {
        if (held_bytes_ >= most_held_bytes / 4 * 3)
            flush_all(release);
        else
            flush_bin(bin, bundle(bin), release);
    }

    template <class Release>
    void flush_all(Release release) noexcept
    {
        for (std::size_t bin = 0; bin < Table::count; ++bin)
            flush_bin(static_cast<bin_index>(bin), 0, release);
    }

    // The pool's list of guests.
    guest* next = nullptr;
    guest* previous = nullptr;

    span_stash own_stash;

private:
    static constexpr auto count_bundles()
    {
        std::array<std::uint8_t, Table::count> blocks{};
        for (std::size_t bin = 0; bin < Table::count; ++bin) {
            const std::size_t size = Table::sizes[bin];
            const std::size_t most = tiny_bin::serves(size) ? 1 : bundle_bytes / size;
            blocks[bin] = static_cast<std::uint8_t>(most < bundle_blocks ? most : bundle_blocks);
        }
        return blocks;
    }
    static constexpr auto bundles_ = count_bundles();

    // Effects: moves up to `most` blocks from the front of one list to an empty one, in their order.
    // Returns: how many.
    static std::size_t take(free_list& from, free_list& to, std::size_t most) noexcept
    {
        block* first = from.free;
        block* last = nullptr;
        std::size_t n = 0;
        for (block* b = first; n < most && next_of(b) != b; b = next_of(b)) {
            last = b;
            ++n;
        }
        if (last == nullptr) return 0;
        from.free = next_of(last);
        link(last, &to.end);
        to.free = first;
        return n;
    }

    BINMALLOC_OUTLINE bool has_room(bin_index bin) noexcept
    {
        recount(bin);
        if (kept_[bin] >= bundle(bin) * 3 / 2) return false;
        if (held_bytes_ < most_held_bytes) return true;
        for (std::size_t i = 0; i < Table::count; ++i) recount(static_cast<bin_index>(i));
        return held_bytes_ < most_held_bytes / 4 * 3;
    }

    void recount(bin_index bin) noexcept
    {
        const std::uint8_t before = kept_[bin];
        std::uint8_t n = 0;
        for (const block* b = lists_[bin].free; n < before && next_of(b) != b; b = next_of(b)) ++n;
        kept_[bin] = n;
        held_bytes_ -= (before - n) * std::size_t{Table::sizes[bin]};
    }

    template <class Release>
    void flush_bin(bin_index bin, std::size_t remaining, Release release) noexcept
    {
        recount(bin);
        free_list& list = lists_[bin];
        free_list rest;
        const std::size_t kept = take(list, rest, remaining);
        held_bytes_ -= (kept_[bin] - kept) * std::size_t{Table::sizes[bin]};
        kept_[bin] = static_cast<std::uint8_t>(kept);
        while (block* b = pop(&list)) release(b);
        if (at_end(&list)) take(rest, list, remaining);
    }

    free_list lists_[Table::count];
    std::size_t held_bytes_ = 0;        // at most
    std::uint8_t kept_[Table::count]{}; // blocks, at most
};

} // namespace binmalloc::detail

#endif
