// binmalloc: blocks of several caches on their way home.
//
// Layer: cache pool. Not thread safe: whoever calls holds one of the caches.
#ifndef BINMALLOC_HOMEWARD_HPP
#define BINMALLOC_HOMEWARD_HPP

#include <binmalloc/cache.hpp>

namespace binmalloc::detail {

/// Frees blocks of the cache that is held, and sends those of others to their inboxes, in chains as long
/// as can be had in one pass.
template <class Cache>
class homeward {
public:
    explicit homeward(Cache& held) noexcept : held_(held) {}
    ~homeward()
    {
        for (const chain& c : chains_) send(c);
    }
    homeward(const homeward&) = delete;
    homeward& operator=(const homeward&) = delete;

    void add(block* b) noexcept
    {
        slab* s = slab_of(b);
        cache_base* home = s->home; // may change, unless it is held
        if (home == &held_) {
            held_.deallocate(s, b);
            return;
        }
        chain& c = chains_[home->index % chain_count];
        if (c.home != home) {
            send(c);
            c = {home, nullptr, b, 0};
        }
        link(b, c.first);
        c.bytes += s->block_size;
        c.first = b;
    }

private:
    static constexpr unsigned chain_count = 8;

    struct chain {
        cache_base* home = nullptr;
        block* first = nullptr;
        block* last = nullptr;
        std::size_t bytes = 0;
    };

    static void send(const chain& c) noexcept
    {
        if (c.home == nullptr) return;
        c.home->inbox.send(c.first, c.last);
        c.home->waiting.fetch_add(c.bytes, std::memory_order_relaxed);
    }

    Cache& held_;
    chain chains_[chain_count];
};

} // namespace binmalloc::detail

#endif
