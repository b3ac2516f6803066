// binmalloc: large blocks that a thread has freed last.
//
// Layer: cache. Not thread safe: the thread that leases the cache.
//
// A slab of large blocks has few of them. So a program that replaces such blocks at random makes slabs
// full and available all the time, and what it is given next was freed long ago. Here a few blocks of a
// class wait for its next requests, last in, first out, still warm; their slabs do not know of it.
//
//   open      keeps what is freed; when it is full, further blocks pass it on their way to their slabs
//   closed    many have passed it: what it kept has gone to the slabs, too, and all that is freed goes
//             there until the class runs out of blocks. So a thread that only frees leaves nothing here
#ifndef BINMALLOC_RECENT_BLOCKS_HPP
#define BINMALLOC_RECENT_BLOCKS_HPP

#include <binmalloc/slab.hpp>

namespace binmalloc::detail {

/// What the fast path takes from. Zero bytes are one that is not in use.
class recent_blocks : public free_list {
public:
    static constexpr std::uint32_t capacity = 24;

    constexpr recent_blocks() noexcept : free_list(nullptr) {}

    /// Effects: it is in use, open and empty. Requires: it was not.
    void make() noexcept
    {
        free = end.next = &end;
        most_ = capacity;
    }

    /// Effects: keeps a block. As a fast path does, it leaves the list whole at each step. False: there is
    /// no room, or it is closed, or the block is the last one that was kept.
    BINMALLOC_INLINE bool keep(void* p) noexcept
    {
        auto* const b = static_cast<kept*>(p);
        block* const top = free;
        const std::size_t below = top == &end ? 0 : count_of(top);
        if (below >= most_ || b == top) [[unlikely]]
            return false;
        set_count(b, below + 1);
        link(b, top);
        set_in_order(free, b);
        return true;
    }

    /// Effects: takes note that a block was not kept, unless it has been. False: it is time to close.
    BINMALLOC_INLINE bool pass(const void* p) noexcept
    {
        if (p == free) [[unlikely]]
            os::fatal("double free", p);
        return is_closed() || ++passed_ < most_passed;
    }

    bool is_closed() const noexcept { return most_ == 0; }

    /// Effects: the class has run out of blocks.
    void open() noexcept
    {
        passed_ = 0;
        most_ = capacity;
    }

    /// Effects: closes it, and gives the blocks to `use`.
    template <class Use>
    void close(Use use) noexcept
    {
        most_ = 0;
        if (free == nullptr) return;
        while (block* const b = pop(this)) use(b);
    }

private:
    static constexpr std::uint32_t most_passed = 64;

    // A large block has room for more than a link.
    struct kept : block {
        std::size_t count; // of this one and those below
    };

    BINMALLOC_LINK static std::size_t count_of(const block* b) noexcept
    {
        return static_cast<const kept*>(b)->count;
    }
    BINMALLOC_LINK static void set_count(kept* b, std::size_t count) noexcept { b->count = count; }

    std::uint32_t most_ = 0;
    std::uint32_t passed_ = 0; // since the class ran out of blocks
};

} // namespace binmalloc::detail

#endif
