// binmalloc: the free blocks that the fast paths take and keep, a list for each size class.
//
// Layer: cache. Not thread safe, whoever holds the cache; but any thread may ask whether a block is passing.
//
// Before its slabs a cache has, for each class, a list of blocks of any of them, last in, first out. An
// allocation takes its top. When it is empty, all that is free in one slab becomes the list. A thread that
// leases the cache also frees into it: so what it is given next was freed lately and is still warm, and
// where it replaces blocks of many slabs at random, both ways are short and the same each time. (Like the
// magazines of Bonwick, Adams: Magazines and Vmem, USENIX 2001.) Slabs take its blocks for live ones.
//
//   open      keeps what is freed, as long as there is room; further blocks pass it on their way to their slabs
//   closed    many have passed it: what it kept has gone to the slabs, too, and all that is freed goes there
//             until the list is filled from a slab. So a thread that only frees leaves nothing here
#ifndef BINMALLOC_CLASS_LISTS_HPP
#define BINMALLOC_CLASS_LISTS_HPP

#include <binmalloc/relaxed.hpp>
#include <binmalloc/size_classes.hpp>
#include <binmalloc/slab.hpp>

#include <array>

namespace binmalloc::detail {

template <class Table>
class class_lists {
public:
    /// So much of a class is kept, but not fewer blocks than `fewest`, nor more than `most`.
    static constexpr std::size_t kept_bytes = 4096;
    static constexpr std::size_t fewest = 24;
    static constexpr std::size_t most = 64;

    /// Blocks of a class that are kept at most, beside those that came from a slab.
    static constexpr std::int32_t capacity(std::size_t bin) noexcept { return capacities_[bin]; }

    /// Effects: initialises lists that are zero bytes.
    constexpr void make() noexcept
    {
        for (free_list& list : lists_) list.free = &list_end;
    }

    /// Returns: the block on top, or null. As a fast path does, it leaves the list whole at each step.
    BINMALLOC_INLINE block* take(std::size_t bin) noexcept
    {
        block* const b = pop(&lists_[bin]);
        if (b != nullptr) [[likely]]
            room_[bin].increment();
        return b;
    }

    /// Effects: keeps a block. Likewise. False: there is no room, or it is closed; pass() must follow.
    BINMALLOC_INLINE bool keep(std::size_t bin, void* p) noexcept
    {
        if (room_[bin].below_zero_after_decrement()) [[unlikely]]
            return false;
        push(lists_[bin], p);
        return true;
    }

    /// Ends the process if a block was freed twice.
    bool is_empty(unsigned bin) const noexcept { return at_end(&lists_[bin]); }

    /// Effects: these blocks become the list, and it is open. Requires: it is empty.
    void fill(unsigned bin, block* first) noexcept
    {
        set_in_order(lists_[bin].free, first);
        room_[bin].set(capacities_[bin]);
        passed_[bin] = 0;
    }

    /// Effects: the block that was not kept is in its slab.
    BINMALLOC_INLINE void pass(unsigned bin) noexcept { room_[bin].publish(0); }

    /// Returns: if a block is on its way to its slab, neither kept nor passed.
    bool are_being_passed() const noexcept
    {
        for (const relaxed_count& room : room_)
            if (room.observe() < 0) return true;
        return false;
    }

    /// Effects: forgets that one is, in a forked child: whoever had it is not there.
    void forget_passing() noexcept
    {
        for (relaxed_count& room : room_)
            if (room.get() < 0) room.set(0);
    }

    /// Effects: takes note that blocks of a slab may have passed.
    void count_passed(unsigned bin, std::uint32_t blocks) noexcept
    {
        if (room_[bin].get() <= 0) passed_[bin] += blocks;
    }

    bool is_time_to_close(unsigned bin) const noexcept
    {
        return passed_[bin] >= most_passed && lists_[bin].free != &list_end;
    }

    /// Effects: closes it, and gives the blocks to `use`.
    template <class Use>
    void close(unsigned bin, Use use) noexcept
    {
        room_[bin].set(0);
        while (block* const b = pop(&lists_[bin])) use(b);
        at_end(&lists_[bin]);
    }

    /// Effects: closes them, and forgets the blocks.
    void forget() noexcept
    {
        make();
        for (relaxed_count& room : room_) room.set(0);
    }

    /// The list by itself, for who knows how many blocks it has.
    free_list& list(unsigned bin) noexcept { return lists_[bin]; }

private:
    static constexpr std::uint32_t most_passed = 64;

    static constexpr auto compute_capacities()
    {
        std::array<std::int32_t, Table::count> blocks{};
        for (std::size_t i = 0; i < Table::count; ++i) {
            const std::size_t wanted = kept_bytes / Table::sizes[i];
            blocks[i] = static_cast<std::int32_t>(wanted < fewest ? fewest : wanted > most ? most : wanted);
        }
        return blocks;
    }
    static constexpr auto capacities_ = compute_capacities();

    free_list lists_[Table::count];
    relaxed_count room_[Table::count];     // blocks that may be kept before the next pass; -1: one is passing
    std::uint32_t passed_[Table::count]{}; // since it was filled; counted when a slab is looked at
};

} // namespace binmalloc::detail

#endif
