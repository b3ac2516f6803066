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

/// Zero bytes are an open, empty one.
class recent_blocks {
public:
    static constexpr std::uint32_t capacity = 16;

    /// Returns: the block that was kept last; null: there is none.
    BINMALLOC_INLINE block* take() noexcept
    {
        block* const b = first_;
        if (b != nullptr) [[likely]] {
            first_ = next_of(b);
            --count_;
        }
        return b;
    }

    /// Effects: keeps a block. As a fast path does, it leaves the list whole at each step. False: there is
    /// no room, or it is closed, or the block is the last one that was kept.
    BINMALLOC_INLINE bool keep(void* p) noexcept
    {
        auto* const b = static_cast<block*>(p);
        if (count_ >= capacity || b == first_) [[unlikely]]
            return false;
        link(b, first_);
        set_in_order(first_, b);
        ++count_;
        return true;
    }

    /// Effects: takes note that a block was not kept, unless it has been. False: it is time to close.
    BINMALLOC_INLINE bool pass(const void* p) noexcept
    {
        if (p == first_) [[unlikely]]
            os::fatal("double free", p);
        return is_closed() || ++passed_ < most_passed;
    }

    bool is_closed() const noexcept { return count_ == closed; }

    /// Effects: the class has run out of blocks.
    void open() noexcept
    {
        passed_ = 0;
        if (is_closed()) count_ = 0;
    }

    /// Effects: closes it, and gives the blocks to `use`.
    template <class Use>
    void close(Use use) noexcept
    {
        count_ = closed;
        while (block* const b = first_) {
            first_ = next_of(b);
            use(b);
        }
    }

private:
    static constexpr std::uint32_t most_passed = 64;
    static constexpr std::uint32_t closed = ~std::uint32_t{0};

    block* first_;
    std::uint32_t count_;
    std::uint32_t passed_; // since the class ran out of blocks
};

} // namespace binmalloc::detail

#endif
