// binmalloc: the cache pool and its leases.
//
// Layer: cache pool. Thread safe. A pool is made once per heap, in memory of its own that is never
// given back: it must outlive every static object and every library that allocated from it.
//
// 4 x ncpu caches, never more; fewer processors than Footprint::least_cpus count as so many, since programs
// have no fewer threads there. Three quarters are for lease: a thread takes one, keeps its lock and
// uses it without atomic instructions until it exits; the next thread inherits it warm. The last
// quarter is shared: a thread that finds no lease locks one of them for each call.
//
//   blocks freed by a thread      go to                           and become available
//   of its own cache              the slab                        at once
//   of another cache of the pool  its own list, if enough         at once
//                                 came home (exchange.hpp)
//                                 or an outbox, in bundles the    when the owner's bin runs dry, or at
//                                 other's inbox                   once if nobody holds that cache, or
//                                                                 where many wait already
//   of another pool or an arena   the owner's inbox               when the owner's bin runs dry
//
// Where nobody holds the other cache, as its thread has ended, the freeing thread's cache adopts the slabs
// of these blocks; and so it does where its thread does not come by, as it sleeps or waits for a processor.
// Then it frees the others of them as its own, and can use what is free there. Who knew them by the old home
// sends its blocks there, and they are sent on.
#ifndef BINMALLOC_CACHE_POOL_HPP
#define BINMALLOC_CACHE_POOL_HPP

#include <binmalloc/guest.hpp>
#include <binmalloc/homeward.hpp>
#include <binmalloc/lease_set.hpp>
#include <binmalloc/memory_checkers.hpp>
#include <binmalloc/page_source.hpp>
#include <binmalloc/pool_member.hpp>
#include <binmalloc/stash_set.hpp>
#include <binmalloc/thieves.hpp>

namespace binmalloc::detail {

template <class Table, class Pages, page_source Source, footprint_policy Footprint>
class cache_pool {
public:
    using member = pool_member<cache_pool, Table, Pages, Footprint>;
    using front_type = cache_front<Table>;
    using guest_type = guest<Table>;
    using stash_set_type = stash_set<Pages, Footprint>;

    static constexpr bin_index guest_bin = Table::search(sizeof(guest_type), alignof(guest_type));

    /// Returns: a new pool, or null.
    static cache_pool* create() noexcept
    {
        const std::uint32_t size = size_for(os::cpu_count());
        const std::size_t total = bytes_of(size);
        void* memory = Source::reserve(total, Source::page_size());
        if (memory == nullptr) return nullptr;
        if (!Source::commit(memory, total)) {
            Source::release(memory, total);
            return nullptr;
        }
        return new (memory) cache_pool(size);
    }

    /// Returns: a cache that is the calling thread's until it gives it to end_lease(), if possible one
    /// that was in use before; null if all are taken.
    member* acquire_lease() noexcept
    {
        const std::uint32_t i = leases_.acquire();
        if (i == leases_.none) return nullptr;
        member& m = at(i);
        m.lock.lock();
        m.make(*this);
        m.rested_ = false;
        m.exchanged.begin();
        return &m;
    }

    /// Effects: the cache is free for the next thread; blocks held back for others are handed over.
    /// Requires: it is busy, or new.
    void end_lease(member* m) noexcept
    {
        m->flush_all();
        m->close_lists();
        m->collect();
        stashes.release(*m->stash);
        m->end();
        m->lock.unlock();
        leases_.end(m->index);
    }

    /// Effects: calls `use`, if nobody holds the cache and no fork is on its way. False: it did not.
    template <class Use>
    static bool with_idle(member& m, Use use) noexcept
    {
        if (!m.made.load(std::memory_order_relaxed) || !m.lock.try_lock()) return false;
        const bool usable = m.try_begin();
        if (usable) {
            use();
            m.end();
        }
        m.lock.unlock();
        return usable;
    }

    /// Returns: a shared cache, locked: number `hint`, or the next one that nobody holds.
    member& lock_shared(std::uint32_t hint) noexcept
    {
        for (unsigned step = 0;; ++step) {
            if (member* m = try_lock_shared(hint)) return *m;
            spinlock::wait_step(step, 32); // more threads than processors: holders do not run
        }
    }

    /// As lock_shared(), but null if all are held.
    member* try_lock_shared(std::uint32_t hint) noexcept
    {
        const std::uint32_t count = size_ - leasable();
        for (std::uint32_t i = 0; i < count; ++i) {
            const std::uint32_t place = leasable() + (hint + i) % count;
            leases_.touch(place);
            member& m = at(place);
            if (!m.lock.try_lock()) continue;
            m.make(*this);
            return &m;
        }
        return nullptr;
    }

    /// Returns: a guest, its memory a block of the locked cache; null: no memory.
    guest_type* make_guest(member& from) noexcept
    {
        void* memory = from.allocate(guest_bin);
        if (memory == nullptr) return nullptr;
        permit(memory, Table::sizes[guest_bin]);
        auto* g = new (memory) guest_type(this, gate);
        stashes.add(g->own_stash, false);
        lock_guard held(guests_lock_);
        guests_.push_front(g);
        return g;
    }

    /// Effects: ends a guest; what it holds and its memory go home. Requires: the cache is locked.
    void end_guest(guest_type* g, member& through) noexcept
    {
        flush(*g, through);
        {
            lock_guard held(guests_lock_);
            guests_.remove(g);
        }
        stashes.remove(g->own_stash);
        forbid(g, Table::sizes[guest_bin]);
        homeward<member>(through).add(static_cast<block*>(static_cast<void*>(g)));
    }

    void flush(guest_type& g, member& through) noexcept
    {
        homeward<member> blocks(through);
        g.flush_all([&blocks](block* b) { blocks.add(b); });
    }

    void flush(guest_type& g, bin_index bin, member& through) noexcept
    {
        homeward<member> blocks(through);
        g.flush(bin, depot_of(through), [&blocks](block* b) { blocks.add(b); });
    }

    /// Returns: a block for a guest, from a locked shared cache; null: no memory.
    void* refill(guest_type& g, bin_index bin, member& from) noexcept
    {
        if (guest_type::serves(bin) && !g.has_room_for(bin)) flush(g, bin, from);
        return g.refill(from, depot_of(from), bin);
    }

    /// Effects: takes the slabs of those blocks in an outbox that are a leased cache's; the outbox is empty then.
    /// False: nothing changed, see with_leased(). Requires: the thief is busy.
    bool steal(member& thief, member& from, outbox& freed) noexcept
    {
        return with_leased(from, [&] {
            inbox::content taken = freed.take();
            thief.steal_from(from, taken);
        });
    }

    /// The same for the blocks in its inbox.
    void steal(member& thief, member& from) noexcept
    {
        with_leased(from, [&] { thief.steal_from(from); });
    }

    /// The same with all whose threads have been away for so long, and gives back their slabs that no block
    /// uses. (Not with others: they would have to wait, should the thief be stopped.)
    void steal_all(member& thief, std::uint32_t away_ms = member::overdue_ms) noexcept
    {
        for (std::uint32_t i = 0; i < leasable(); ++i) {
            if (!leases_.is_touched(i)) continue;
            member& from = at(i);
            if (&from == &thief || !from.made.load(std::memory_order_acquire)) continue;
            if (member::absence_of(from) < away_ms) continue;
            with_leased(from, [&] {
                thief.steal_from(from);
                from.release_idle_slabs();
            });
        }
    }

    /// Effects: gives back what no block uses of each cache that nobody holds.
    void release_idle() noexcept
    {
        // What is on its way to another cache must be there first.
        each_touched([this](member& m) { with_idle(m, [this, &m] { send_home(m); }); });
        each_touched([](member& m) { with_idle(m, [&m] { m.release_free_slabs(); }); });
    }

    /// Effects: from time to time, gives back what threads' stashes, and caches that no thread has, had no use
    /// for since the last time. Slow paths call it.
    void tick() noexcept
    {
        if (stashes.tick()) [[unlikely]]
            release_rested();
    }

    /// Effects: no thread's exit is waited for any more. Gives back what no block uses, of all caches,
    /// and the pool's own memory too if no block lives. Requires: no thread is in the code that uses
    /// the pool, or will be. True: it is gone.
    bool retire() noexcept
    {
        exit_key.destroy();
        each_touched([this](member& m) {
            if (is_at_rest(m)) send_home(m);
        });
        each_touched([](member& m) {
            if (is_at_rest(m)) m.release_free_slabs();
        });
        stashes.release_all();
        pages.purge();
        // Another copy of the heap may just be done with the last block of ours.
        if (pages.statistics().live != 0 || !os::single_threaded()) return false;
        destroy();
        return true;
    }

    /// Effects: undoes create(). Requires: nobody uses the pool.
    void destroy() noexcept
    {
        const std::size_t bytes = bytes_of(size_);
        exit_key.destroy();
        gate.destroy();
        this->~cache_pool();
        Source::release(this, bytes);
    }

    /// Effects: waits until nothing of the heap changes, and keeps it so. For fork.
    void freeze() noexcept
    {
        gate.close();
        thieves_.lock().lock();
        const std::uint64_t deadline = os::now_ms() + fork_patience_ms;
        while (look_for_busy() && os::now_ms() < deadline) os::yield();
        for (std::uint32_t i = leasable(); i < size_; ++i) at(i).lock.lock();
        each_touched([](member& m) { m.freeze(); });
        stashes.freeze();
        pages.freeze(deadline);
    }

    void thaw() noexcept
    {
        pages.thaw();
        stashes.thaw();
        each_touched([](member& m) { m.thaw(); });
        for (std::uint32_t i = leasable(); i < size_; ++i) at(i).lock.unlock();
        thieves_.lock().unlock();
        gate.reopen();
    }

    /// Effects: in a forked child, whose one thread has `own`, frees the leases of the threads that are
    /// not there, and their guests. A cache that was interrupted is set aside for ever.
    void inherit(const cache_base* own) noexcept
    {
        pages.inherit();
        for (std::uint32_t i = 0; i < leasable(); ++i) {
            member& m = at(i);
            if (&m == own || leases_.nobody_had(i)) continue;
            if (m.stash != nullptr) m.stash->inherit();
            m.end();
            m.lists.forget_passing();
            if (m.interrupted_) {
                leases_.set_aside(i);
                continue;
            }
            // What its thread was about to do when it met the gate.
            if (slab* s = m.ended.exchange(nullptr, std::memory_order_relaxed))
                m.countdown_ended(s);
            m.lock.unlock();
            leases_.end(i);
        }
        if (guests_.empty()) return;
        member& through = lock_shared(0);
        for (guest_type *g = guests_.front(), *next; g != nullptr; g = next) {
            next = g->next;
            if (g == own) continue;
            g->own_stash.inherit();
            end_guest(g, through);
        }
        through.lock.unlock();
    }

    /// Effects: in a child that no fork handler prepared, and where `own` is what lives on, if that is
    /// known: makes the pool usable. False: it is not known, or a thread that is not there was
    /// changing the pool; it is lost.
    bool recover(bool known, const cache_base* own) noexcept
    {
        bool quiet = known && !pages.lock().is_held() && !guests_lock_.is_held()
            && !stashes.lock().is_held() && !thieves_.lock().is_held();
        look_for_busy();
        each_touched([this, &quiet](member& m) {
            if (index_of(m) >= leasable() && m.lock.is_held()) quiet = false;
            if (m.tiny.lock().is_held()) quiet = false;
        });
        if (quiet)
            inherit(own);
        else
            pages.abandon();
        return quiet;
    }

    // Read in each slow path, so apart from what is written in many.
    fork_gate gate;
    os::thread_exit_key exit_key;
    const bool is_watched = memcheck::is_running(); ///< then there are no leases
    alignas(64) Pages pages;
    alignas(64) stash_set_type stashes;

private:
    friend member;

    static constexpr std::uint32_t caches_per_cpu = 4;
    static constexpr unsigned max_cpus = 1024;

    // The OS gives zero bytes, which is the initial state of a member's lock and inbox: they work
    // before the rest is made, which happens under the lock when the member is first used.
    explicit cache_pool(std::uint32_t size) noexcept
        : stashes(pages, leasable_of(size)), size_(size), leases_(leasable_of(size))
    {
        gate.create();
    }

    static std::uint32_t size_for(unsigned cpus) noexcept
    {
        cpus = cpus < Footprint::least_cpus ? Footprint::least_cpus : cpus;
        return caches_per_cpu * (cpus < max_cpus ? cpus : max_cpus);
    }

    static bool is_at_rest(const member& m) noexcept { return m.made.load() && !m.busy.load(); }

    // As for a lease: a thread that comes meanwhile takes another one, and does not wait.
    void release_rested() noexcept
    {
        for (std::uint32_t i = 0; i < leasable(); ++i) {
            if (!leases_.is_touched(i) || !leases_.try_acquire(i)) continue;
            member& m = at(i);
            with_idle(m, [&m] {
                if (m.rested_) m.release_free_slabs();
                m.rested_ = true;
            });
            leases_.end(i);
        }
    }

    // Effects: calls `use` with each cache that any thread has had.
    template <class Use>
    void each_touched(Use use) noexcept
    {
        for (std::uint32_t i = 0; i < size_; ++i)
            if (leases_.is_touched(i)) use(at(i));
    }

    // Returns: whether a cache is interrupted if the fork comes now. One look at all: whoever becomes
    // busy later sees that the gate is closed, and changes nothing.
    bool look_for_busy() noexcept
    {
        bool any = false;
        for (std::uint32_t i = 0; i < leasable(); ++i) {
            if (!leases_.is_touched(i)) continue;
            member& m = at(i);
            const bool is_busy = m.busy.load(std::memory_order_seq_cst);
            m.interrupted_ = is_busy;
            any = any || is_busy;
        }
        return any;
    }

    static std::size_t head() noexcept { return align_up(sizeof(cache_pool), alignof(member)); }

    // The pool, the caches, and the depots of the shared ones.
    static std::size_t bytes_of(std::uint32_t size) noexcept
    {
        const std::size_t depots = (size - leasable_of(size)) * sizeof(depot<Table>);
        return align_up(head() + size * member::bytes(size) + depots, Source::page_size());
    }

    static std::uint32_t leasable_of(std::uint32_t size) noexcept
    {
        return size / caches_per_cpu * (caches_per_cpu - 1);
    }
    std::uint32_t leasable() const noexcept { return leasable_of(size_); }

    member& at(std::uint32_t i) noexcept
    {
        return *offset<member>(this, head() + i * member::bytes(size_));
    }

    depot<Table>& depot_of(const member& shared) noexcept
    {
        return offset<depot<Table>>(&at(size_), 0)[shared.index - leasable()];
    }

    // Effects: what the cache holds of others' blocks is in their inboxes.
    void send_home(member& m) noexcept
    {
        m.flush_all();
        m.collect(); // some may have to be sent on
        if (m.index < leasable()) return;
        homeward<member> blocks(m);
        depot_of(m).empty([&blocks](block* b) { blocks.add(b); });
    }

    // As thieves::enter(). A shared cache is nobody's to be away from.
    template <class Use>
    bool with_leased(member& m, Use use) noexcept
    {
        return m.index < leasable() && thieves_.enter(m, use);
    }

    std::uint32_t index_of(const member& m) const noexcept
    {
        return static_cast<std::uint32_t>((address_of(&m) - address_of(this) - head())
                                          / member::bytes(size_));
    }

    std::uint32_t size_;
    spinlock guests_lock_;
    thieves thieves_;
    linked_list<guest_type, &guest_type::next, &guest_type::previous> guests_;
    lease_set<max_cpus * caches_per_cpu> leases_;
};

} // namespace binmalloc::detail

#endif
