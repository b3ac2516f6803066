// binmalloc: the spinlock, and the lock that is none.
//
// Layer: primitives. A cache's spinlock is either held per call or leased by a thread for its whole
// life, so waiting may be long: after some steps the waiter gives its processor away.
#ifndef BINMALLOC_SPINLOCK_HPP
#define BINMALLOC_SPINLOCK_HPP

#include <binmalloc/platform/os.hpp>

#include <atomic>

namespace binmalloc::detail {

/// Test-and-test-and-set with a yield. Not recursive, not fair. Zero-initialised is unlocked.
class spinlock {
public:
    bool try_lock() noexcept
    {
        return held_.load(std::memory_order_relaxed) == 0
            && held_.exchange(1, std::memory_order_acquire) == 0;
    }

    void lock() noexcept
    {
        if (!try_lock()) [[unlikely]]
            wait();
    }

    void unlock() noexcept { held_.store(0, std::memory_order_release); }

    /// Effects: waits a little, as a try for the `step`-th time had no success: a holder that runs is
    /// done in a moment; one that does not needs this thread's processor, at each `patience`-th time.
    static void wait_step(unsigned step, unsigned patience = 256) noexcept
    {
        if (step % patience != patience - 1)
            os::pause();
        else
            os::rest();
    }

    bool is_held() const noexcept { return held_.load(std::memory_order_relaxed) != 0; }

private:
    BINMALLOC_SLOW void wait() noexcept
    {
        for (unsigned step = 0; !try_lock(); ++step) wait_step(step);
    }

    std::atomic<std::uint32_t> held_{0};
};

/// For a heap that one thread uses.
class no_lock {
public:
    bool try_lock() noexcept { return true; }
    void lock() noexcept {}
    void unlock() noexcept {}
};

/// Holds a lock for a scope. (std::lock_guard is in <mutex>, which brings half of <chrono> along.)
template <class Lock>
class lock_guard {
public:
    explicit lock_guard(Lock& lock) noexcept : lock_(lock) { lock_.lock(); }
    ~lock_guard() { lock_.unlock(); }
    lock_guard(const lock_guard&) = delete;
    lock_guard& operator=(const lock_guard&) = delete;

private:
    Lock& lock_;
};

} // namespace binmalloc::detail

#endif
