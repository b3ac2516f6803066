// binmalloc: the guest, what a thread has that found no cache to lease.
//
// Layer: cache pool. Belongs to its thread; `refill` and the flushes need the lock of a shared cache,
// which also keeps forks away. The fast path's steps, `keep` among them, leave the lists whole.
//
// Without it each call would lock a shared cache, and a thread that loses its processor in the middle
// would keep the others waiting. A guest takes blocks of a size class in bundles and gives them back in
// bundles, to and from the shared cache's depot, or its slabs. Of each class it has two:
//
//   allocate   loaded list -> empty? load the bundle that was freed -> depot -> slabs
//   free       freed bundle -> full? load it if nothing is loaded -> depot -> slabs
//
// What it may hold is little, so that many threads stay cheap: see the limits below.
#ifndef BINMALLOC_GUEST_HPP
#define BINMALLOC_GUEST_HPP

#include <binmalloc/cache.hpp>
#include <binmalloc/depot.hpp>

#include <array>

namespace binmalloc::detail {

template <class Table>
class guest : public cache_front<Table> {
public:
    /// A bundle has so many bytes, and at most so many blocks.
    static constexpr std::size_t bundle_bytes = 4096;
    static constexpr std::size_t bundle_blocks = 64;

    /// What a guest's lists hold at most, beside the bundle that came last: bytes.
    static constexpr std::size_t most_held_bytes = 131072;

    guest(const void* its_pool, fork_gate& its_gate) noexcept
    {
        this->pool = its_pool;
        this->gate = &its_gate;
        this->stash = &own_stash;
    }

    /// Blocks in a bundle; fewer than two are not worth one.
    static constexpr std::size_t bundle_size(bin_index bin) noexcept { return bundle_sizes_[bin]; }
    static constexpr bool serves(bin_index bin) noexcept { return bundle_size(bin) >= 2; }

    /// Effects: if nothing is loaded, what was freed is loaded now. False: nothing has changed.
    bool reload(bin_index bin) noexcept
    {
        if (freed_[bin].first == nullptr || !at_end(&this->lists.list(bin))) return false;
        const bundle b = freed_[bin];
        set_in_order(freed_[bin].first, nullptr); // a child that is forked now loses them
        freed_[bin].count = 0;
        held_bytes_ -= bytes_of(bin, b.count); // load() counts them once more
        load(bin, b);
        return true;
    }

    /// If not, it is time to flush before the class's next bundle comes.
    bool has_room_for(bin_index bin) noexcept
    {
        const std::size_t most_before = most_held_bytes - bytes_of(bin, bundle_size(bin));
        if (held_bytes_ > most_before) recount_all();
        return held_bytes_ <= most_before;
    }

    /// Effects: takes a bundle from a locked cache or its depot. Returns: one of its blocks, or null.
    template <class Cache>
    void* refill(Cache& from, depot<Table>& ready, bin_index bin) noexcept
    {
        if (!serves(bin) || !at_end(&this->lists.list(bin))) return from.allocate(bin);
        if (const bundle b = ready.take(bin); b.count != 0) {
            load(bin, b);
            return pop(&this->lists.list(bin));
        }
        void* p = from.allocate(bin);
        if (p != nullptr) load(bin, take(from.lists.list(bin), bundle_size(bin) - 1));
        return p;
    }

    /// Effects: keeps a block for a later allocation. False: it does, but it is time to reload or to
    /// flush. Requires: serves(bin).
    BINMALLOC_INLINE bool keep(bin_index bin, void* p) noexcept
    {
        bundle& to = freed_[bin];
        auto* const b = static_cast<block*>(p);
        if (b == to.first) [[unlikely]]
            os::fatal("double free", p);
        link(b, to.first);
        if (to.first == nullptr) set_in_order(to.last, b);
        set_in_order(to.first, b);
        held_bytes_ += Table::sizes[bin];
        return ++to.count < bundle_size(bin) && held_bytes_ < most_held_bytes;
    }

    /// It is high time.
    bool must_flush(bin_index bin) const noexcept
    {
        return freed_[bin].count >= 3 * bundle_size(bin) || held_bytes_ >= most_held_bytes;
    }

    /// Effects: gives away the blocks of a bin that were freed; if too much is held, those of all bins,
    /// and what is loaded, too. To the depot, or to `release(block)`.
    template <class Release>
    void flush(bin_index bin, depot<Table>& ready, Release release) noexcept
    {
        hand_over(bin, ready, release);
        if (held_bytes_ < most_held_bytes / 4 * 3) return;
        for (std::size_t i = 0; i < Table::count; ++i)
            hand_over(static_cast<bin_index>(i), ready, release);
        recount_all();
        if (held_bytes_ >= most_held_bytes / 4 * 3) flush_all(release);
    }

    template <class Release>
    void flush_all(Release release) noexcept
    {
        for (std::size_t i = 0; i < Table::count; ++i) {
            const auto bin = static_cast<bin_index>(i);
            if (const bundle b = take_freed(bin); b.first != nullptr) release_all(b, release);
            while (block* b = pop(&this->lists.list(bin))) release(b);
            recount(bin);
        }
    }

    // The pool's list of guests.
    guest* next = nullptr;
    guest* previous = nullptr;

    span_stash own_stash;

private:
    static constexpr auto count_bundle_sizes()
    {
        std::array<std::uint8_t, Table::count> blocks{};
        for (std::size_t bin = 0; bin < Table::count; ++bin) {
            const std::size_t size = Table::sizes[bin];
            const std::size_t most = tiny_bin::serves(size) ? 1 : bundle_bytes / size;
            blocks[bin] = static_cast<std::uint8_t>(most < bundle_blocks ? most : bundle_blocks);
        }
        return blocks;
    }
    static constexpr auto bundle_sizes_ = count_bundle_sizes();

    static constexpr std::size_t bytes_of(bin_index bin, std::size_t blocks) noexcept
    {
        return blocks * Table::sizes[bin];
    }

    // Returns: up to `most` blocks from the front of a list, in their order.
    static bundle take(free_list& from, std::size_t most) noexcept
    {
        bundle b{from.free, nullptr, 0};
        for (block* at = b.first; b.count < most && next_of(at) != at; at = next_of(at)) {
            b.last = at;
            ++b.count;
        }
        if (b.count != 0) from.free = next_of(b.last);
        return b;
    }

    // Effects: the blocks serve the next allocations. Requires: nothing is loaded.
    void load(bin_index bin, const bundle& b) noexcept
    {
        recount(bin);
        if (b.count == 0) return;
        link(b.last, &list_end);
        this->lists.fill(bin, b.first);
        most_loaded_[bin] = b.count;
        held_bytes_ += bytes_of(bin, b.count);
    }

    // Effects: what the fast path has taken from the loaded list counts no longer.
    void recount(bin_index bin) noexcept
    {
        const std::uint32_t before = most_loaded_[bin];
        std::uint32_t n = 0;
        for (const block* b = this->lists.list(bin).free; n < before && next_of(b) != b; b = next_of(b)) ++n;
        most_loaded_[bin] = n;
        held_bytes_ -= bytes_of(bin, before - n);
    }

    void recount_all() noexcept
    {
        for (std::size_t i = 0; i < Table::count; ++i) recount(static_cast<bin_index>(i));
    }

    // In a forked child the count may lag behind.
    bundle take_freed(bin_index bin) noexcept
    {
        const bundle b = freed_[bin];
        freed_[bin] = {};
        held_bytes_ -= bytes_of(bin, b.count);
        return b;
    }

    template <class Release>
    void hand_over(bin_index bin, depot<Table>& ready, Release& release) noexcept
    {
        const bundle b = take_freed(bin);
        if (b.first != nullptr && !ready.put(bin, b)) release_all(b, release);
    }

    bundle freed_[Table::count];
    std::size_t held_bytes_ = 0;               // at most
    std::uint32_t most_loaded_[Table::count]{}; // blocks
};

} // namespace binmalloc::detail

#endif
