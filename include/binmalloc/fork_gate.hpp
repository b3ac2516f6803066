// binmalloc: what slow paths and fork agree on.
//
// Layer: primitives. Thread safe.
//
// A fork copies the memory of all threads and only one of the threads. What another one was changing
// at that moment would stay half changed in the child. So slow paths and fork keep out of each
// other's way (the two stores and loads are sequentially consistent: one side sees the other):
//
//   slow path of a leased cache               fork handlers
//     busy; gate open?                          close the gate
//     no: not busy, wait, once more             wait until no leased cache is busy
//     ...                                       take the locks
//     not busy                                  fork; release the locks; open the gate
//
// Fast paths have no part in it: each of their steps leaves the lists whole.
//
// The gate's word is alone on a page that the kernel clears in a forked child. A child that was made
// behind the handlers' back (clone, _Fork) so finds out at its first slow path.
#ifndef BINMALLOC_FORK_GATE_HPP
#define BINMALLOC_FORK_GATE_HPP

#include <binmalloc/platform/os.hpp>

#include <atomic>

namespace binmalloc::detail {

class fork_gate {
    using word = std::atomic<std::uint32_t>;
    enum state : std::uint32_t {
        wiped, ///< a child that no handler prepared
        open,
        closed,
        lost, ///< what is behind it cannot be used in this process
    };

public:
    /// Effects: opens the gate for the first time. Requires: no other thread knows it yet.
    void create() noexcept
    {
        const std::size_t size = os::page_size();
        if (void* page = os::reserve(size, size)) {
            if (os::commit(page, size) && os::clear_on_fork(page, size))
                word_ = static_cast<word*>(page);
            else
                os::release(page, size);
        }
        word_->store(open, std::memory_order_release);
    }

    /// Effects: undoes create().
    void destroy() noexcept
    {
        if (word_ != &inner_) os::release(word_, os::page_size());
    }

    bool is_open() const noexcept { return word_->load(std::memory_order_seq_cst) == open; }
    bool is_wiped() const noexcept { return word_->load(std::memory_order_acquire) == wiped; }
    bool is_lost() const noexcept { return word_->load(std::memory_order_acquire) == lost; }

    bool closed_by_this_thread() const noexcept
    {
        return closer_.load(std::memory_order_relaxed) == os::thread_id();
    }

    /// Effects: closes the gate as soon as it is open.
    void close() noexcept
    {
        while (!change(open)) os::yield();
    }

    /// Effects: closes a gate that was wiped. False: another thread has.
    bool close_wiped() noexcept { return change(wiped); }

    /// Requires: this thread closed it.
    void reopen() noexcept { leave(open); }
    void lose() noexcept { leave(lost); }

private:
    bool change(std::uint32_t from) noexcept
    {
        if (!word_->compare_exchange_strong(from, closed, std::memory_order_seq_cst)) return false;
        closer_.store(os::thread_id(), std::memory_order_relaxed);
        return true;
    }

    void leave(state to) noexcept
    {
        closer_.store(0, std::memory_order_relaxed);
        word_->store(to, std::memory_order_release);
    }

    word inner_{open}; // where there are no such pages
    word* word_ = &inner_;
    std::atomic<std::uintptr_t> closer_{0};
};

/// How long a fork waits for slow paths to end: milliseconds. They take microseconds; one that was
/// stopped by a debugger or a signal must not hold up the fork for ever.
inline constexpr std::uint64_t fork_patience_ms = 1000;

} // namespace binmalloc::detail

#endif
