// binmalloc: how many blocks of other caches a thread may keep.
//
// Layer: cache. Not thread safe: whoever holds the cache.
//
// A block that is freed by another thread than its cache's goes home. Where threads free each other's blocks
// all the time, that moves it from one processor to another once more than it would if the thread that freed
// it were given it next. But not all may stay. A thread that has taken over another's blocks shall soon have
// its own, which are freed on the fast path; neighbours in a cache line shall part; and what a thread only
// frees must not pile up there. So there must be an exchange: for each of its blocks that comes home, a thread
// may keep two of others.
#ifndef BINMALLOC_EXCHANGE_HPP
#define BINMALLOC_EXCHANGE_HPP

#include <binmalloc/config.hpp>

#include <cstdint>

namespace binmalloc::detail {

class exchange {
public:
    static constexpr std::uint32_t kept_for_each = 2;
    static constexpr std::uint32_t most = 4096;

    /// Effects: so many blocks came home, fewer than 2^30.
    void came_home(std::uint32_t blocks) noexcept
    {
        const std::uint32_t more = left_ + kept_for_each * blocks;
        left_ = more < most ? more : most;
    }

    /// Whether one more block may stay.
    bool may_stay() const noexcept { return left_ != 0; }

    /// Effects: it does. Requires: it may.
    void stays() noexcept { --left_; }

    /// Effects: the cache is another thread's, for which what came home before is no reason.
    void begin() noexcept { left_ = 0; }

private:
    std::uint32_t left_ = 0;
};

} // namespace binmalloc::detail

#endif
