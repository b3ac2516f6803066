// binmalloc: a member of a cache pool: a cache, and the outboxes for the others.
//
// Layer: cache pool. Whoever calls holds the cache: its lock, for a call or as a lease. Where it lies in
// memory, and which the others are, its pool knows (cache_pool.hpp).
#ifndef BINMALLOC_POOL_MEMBER_HPP
#define BINMALLOC_POOL_MEMBER_HPP

#include <binmalloc/cache.hpp>

#include <new>

namespace binmalloc::detail {

/// A cache and what it holds back for the others of its pool: one outbox for each, behind it in memory.
template <class Pool, class Table, class Pages, class Footprint>
class pool_member : public cache<Table, Pages> {
public:
    /// Effects: initialises the bins, once; zero bytes, which the OS gave, are right for all
    /// else. Requires: the lock is held.
    void make(Pool& its_pool) noexcept
    {
        if (this->made.load(std::memory_order_relaxed)) [[likely]]
            return;
        this->pool = &its_pool;
        this->gate = &its_pool.gate;
        this->leasable = true;
        this->index = its_pool.index_of(*this);
        this->make_bins();
        this->use(its_pool.pages);
        if (this->index >= its_pool.leasable()) {
            this->made.store(true, std::memory_order_release);
            return;
        }
        // A forked child may make it again, but must not find its stash half known.
        while (!this->try_begin()) os::yield();
        this->stash = new (&stash_) span_stash;
        its_pool.stashes.add(stash_, true);
        this->made.store(true, std::memory_order_release);
        this->end();
    }

    /// Whether it is the block that was posted last of those for that cache; then it was freed twice.
    BINMALLOC_INLINE bool has_posted_last(const cache_base* home, const void* p) noexcept
    {
        return outboxes()[home->index].last_added() == p;
    }

    /// Effects: frees a block of another cache of the pool, sooner or later. As a fast path does,
    /// it leaves the lists whole at each step. Returns: false if it is time for flush_for().
    BINMALLOC_INLINE bool post(const cache_base* home, void* p, std::size_t block_size) noexcept
    {
        outbox& box = outboxes()[home->index];
        box.add(static_cast<block*>(p));
        held_back_ += block_size;
        return box.has_room() && held_back_ <= Footprint::outbox_bytes;
    }

    /// So long a thread is left in peace: longer than it waits for a processor, as a rule, else it would lose
    /// slabs that it is at work in.
    static constexpr std::uint32_t overdue_ms = 8;

    /// Effects: hands over what is held back for a cache, if it is enough, or all if that is much.
    void flush_for(cache_base* home) noexcept
    {
        outbox& box = outboxes()[home->index];
        if (held_back_ > Footprint::outbox_bytes) {
            flush_all();
            return;
        }
        if (!box.knows_enough()) box.set_enough(Footprint::outbox_blocks);
        if (!box.has_room()) flush(box, home->index);
    }

    /// Effects: hands all outboxes over.
    void flush_all() noexcept
    {
        for (std::uint32_t i = 0; i < owner().size_; ++i)
            if (owner().leases_.is_touched(i) && outboxes()[i].count() != 0) flush(outboxes()[i], i);
        held_back_ = 0;
    }

    /// Effects: nobody is in the bin of 4-byte blocks until thaw(). Does not touch a cache that nobody has had.
    void freeze() noexcept
    {
        if (!this->made.load(std::memory_order_relaxed)) return;
        this->tiny.lock().lock();
        frozen_ = true;
    }

    void thaw() noexcept
    {
        if (!frozen_) return;
        frozen_ = false;
        this->tiny.lock().unlock();
    }

    static std::size_t bytes(std::uint32_t pool_size) noexcept
    {
        return align_up(sizeof(pool_member) + pool_size * sizeof(outbox), alignof(pool_member));
    }

private:
    Pool& owner() noexcept { return *static_cast<Pool*>(const_cast<void*>(this->pool)); }
    outbox* outboxes() noexcept { return reinterpret_cast<outbox*>(this + 1); }

    void flush(outbox& box, std::uint32_t to) noexcept
    {
        // Their sizes are not kept; what matters is that the sum cannot stay above its limit.
        const std::size_t bytes = box.count() * std::size_t{slab_of(box.last_added())->block_size};
        held_back_ -= bytes < held_back_ ? bytes : held_back_;
        pool_member& home = owner().at(to);
        // If its thread is away, each takes the slabs of its own blocks first, so that all get their share.
        const std::uint32_t away_ms = absence_of(home);
        if (away_ms < overdue_ms || !owner().steal(*this, home, box)) {
            box.send(home.inbox);
            home.waiting.fetch_add(bytes, std::memory_order_relaxed);
        }
        // Nobody may come by for a long time where no thread holds the cache. Then few blocks are enough
        // to come again: each may be the first of many of a slab that can be adopted.
        const bool is_idle = Pool::with_idle(home, [this, &home, to] {
            if (to < owner().leasable())
                this->adopt_from(home);
            else
                home.collect();
        });
        if (!is_idle && away_ms >= 2 * overdue_ms && has_overdue(home)) owner().steal(*this, home);
        const bool adopts = is_idle && to < owner().leasable();
        box.set_enough(adopts ? enough_to_adopt : Footprint::outbox_blocks);
    }

    friend Pool;

    static constexpr std::uint32_t enough_to_adopt =
        Footprint::outbox_blocks < 8 ? Footprint::outbox_blocks : 8;

    // Returns: since when much waits for a thread that does not come by, in ms.
    static std::uint32_t absence_of(cache_base& home) noexcept
    {
        const std::uint32_t since = home.overdue_since.load(std::memory_order_relaxed);
        if (since == 0 && !has_overdue(home)) return 0;
        const auto now = static_cast<std::uint32_t>(os::now_ms() | 1);
        if (since != 0) return now - since;
        home.overdue_since.store(now, std::memory_order_relaxed);
        return 0;
    }

    static bool has_overdue(const cache_base& home) noexcept
    {
        return home.waiting.load(std::memory_order_relaxed) >= overdue_bytes;
    }

    static constexpr std::size_t overdue_bytes = std::size_t{512} << 10;

    std::size_t held_back_ = 0; // bytes in outboxes, approximately
    span_stash stash_;
    bool interrupted_ = false; // busy at the fork, not only about to find the gate closed
    bool frozen_ = false;
    bool rested_ = false; // no thread has had it since the pool's last round
};

} // namespace binmalloc::detail

#endif
