// binmalloc: how a cache is entered whose thread does not come by.
//
// Layer: cache pool. Thread safe. The thread pays nothing for it where the thief has a barrier on all threads
// (membarrier): either the thread sees that its cache was entered, or the thief that the thread is in it.
#ifndef BINMALLOC_THIEVES_HPP
#define BINMALLOC_THIEVES_HPP

#include <binmalloc/cache_base.hpp>
#include <binmalloc/spinlock.hpp>

#include <atomic>
#include <cstdint>

namespace binmalloc::detail {

/// There is one thief at a time. Who would have to wait goes without.
class thieves {
public:
    /// Effects: calls `use` while the thread that has the cache is kept from its slow paths. False: it did not,
    /// as the thread is in one, somebody else is a thief, or there are none: the system has no barrier on all
    /// threads, or one that would make each free into a slab dearer.
    template <class Use>
    bool enter(cache_base& leased, Use use) noexcept
    {
        if (!os::local_barrier_is_free || barrier_.load(std::memory_order_relaxed) == trial::failed)
            return false;
        if (!lock_.try_lock()) return false;
        if (barrier_ == trial::none) barrier_ = os::barrier_on_all_threads() ? trial::passed : trial::failed;
        const bool entered = barrier_ == trial::passed && leased.try_begin_theft();
        if (entered) {
            use();
            leased.end();
        }
        lock_.unlock();
        return entered;
    }

    /// Held by the one thief. For fork.
    spinlock& lock() noexcept { return lock_; }

private:
    enum class trial : std::uint8_t { none, passed, failed };

    spinlock lock_;
    std::atomic<trial> barrier_{trial::none};
};

} // namespace binmalloc::detail

#endif
