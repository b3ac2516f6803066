// binmalloc: the cache, a full set of bins.
//
// Layer: cache. Whoever calls holds the cache's lock (per call, or for a thread's life: a lease).
// Others touch only `inbox`, `lock`, `waiting` and the tiny bin; and a thief (steal_from) the slabs that
// are not active.
//
// A bin has a list of free blocks, from which allocations take (class_lists.hpp), one active slab, whose
// free blocks are the next to become the list, and a list of available slabs, which have free blocks, too.
// Slabs that are full are in no list. What the list of blocks has of a slab, that slab takes for live. A
// slab's `countdown` says after how many frees the slow path must look at it:
//
//   active      never, practically: it starts at active_countdown and is set again when it ends
//   full        after an eighth of its blocks were freed, then it becomes available
//   available   when its last live block is freed, then its units go back to the page allocator; but
//               the last slab of a bin's list stays, or a loop over one block would make and unmake it.
//               While it is idle it has no owner: who frees a block of it a second time is seen
//
//   allocate   list -> active slab -> inbox -> carve -> next available slab -> loan (lending.hpp)
//              -> new slab
//   free       list, where a thread leases the cache and there is room
//                -> slab's list -> countdown over? -> available or released
//   free of another's
//              list, in exchange for one that came home (exchange.hpp) -> home (pool_member.hpp)
#ifndef BINMALLOC_CACHE_HPP
#define BINMALLOC_CACHE_HPP

#include <binmalloc/cache_base.hpp>
#include <binmalloc/exchange.hpp>
#include <binmalloc/lending.hpp>
#include <binmalloc/memory_checkers.hpp>
#include <binmalloc/slab.hpp>
#include <binmalloc/slab_supply.hpp>

#include <atomic>
#include <type_traits>

namespace binmalloc::detail {

/// `Tracked`: keeps full slabs listed too, so that all can be released at once (an arena).
template <class Table, class Pages, bool Tracked = false>
class cache : public cache_front<Table> {
public:
    /// When there is as much in the inbox, the thread empties it even if it has no need of it: bytes.
    static constexpr std::size_t much_waiting = std::size_t{256} << 10;

    static constexpr std::uint32_t active_countdown = std::uint32_t{1} << 31;

    exchange exchanged;

    constexpr cache() noexcept { make_bins(); }

    Pages& pages() noexcept { return supply_.pages(); }

    /// Effects: the cache takes its slabs from there. To be called once, before the first refill.
    void use(Pages& pages) noexcept { supply_.use(pages); }

    /// Effects: initialises the bins of a cache that was made of zero bytes.
    constexpr void make_bins() noexcept
    {
        this->lists.make();
        for (slab*& s : active_) s = &empty_slab;
    }

    /// Returns: a block, if the active slab has one, or if it is carved one by one and not at its end; else
    /// null. As a fast path does, it leaves the lists whole at each step: the cache need not be busy.
    BINMALLOC_INLINE block* refill_quickly(bin_index bin) noexcept
    {
        if (!this->lists.is_empty(bin)) return nullptr;
        slab* const s = active_[bin];
        if (block* const b = pop(s)) [[likely]] {
            this->lists.fill(bin, take_all(s));
            // Such blocks have often left the processor's cache: the next one's link is on its way.
            prefetch(this->lists.list(bin).free);
            return b;
        }
        const bool one_by_one = Table::sizes[bin] > largest_small;
        if (one_by_one && at_end(s) && s->carved != s->capacity) return carve_blocks(s);
        return nullptr;
    }

    BINMALLOC_INLINE void* allocate(bin_index bin) noexcept
    {
        if (block* b = this->lists.take(bin)) [[likely]]
            return b;
        return refill(bin);
    }

    /// For slow paths, which see what the fast path has no time for. Requires: the slab's home is
    /// this cache, and it is not tiny.
    void deallocate(slab* s, void* p) noexcept
    {
        if (p == s->free) [[unlikely]]
            os::fatal("double free", p);
        if (s->countdown == 0) [[unlikely]]
            no_block_lives(s, p);
        push(*s, p);
        if (--s->countdown == 0) [[unlikely]]
            countdown_ended(s);
    }

    /// As deallocate(), but if another cache has adopted the slab, the block is sent there. (Which can
    /// happen to what a list keeps, too: in a forked child, where its thread is gone.)
    void deallocate_if_own(slab* s, block* b) noexcept
    {
        if (cache_base* home = s->home; home == this) [[likely]]
            deallocate(s, b);
        else
            home->inbox.send(b);
    }

    /// Effects: allocates when the class's list is empty, also tiny blocks.
    BINMALLOC_OUTLINE void* refill(bin_index bin) noexcept
    {
        const std::size_t block_size = Table::sizes[bin];
        if (tiny_bin::serves(block_size)) return this->tiny.allocate(bin, block_size, this, pages());

        // It was leased just now, and its last thread is not there since a fork.
        if (!this->lists.is_empty(bin)) return this->lists.take(bin);
        collect();
        loans_.count_refill();
        slab* s = active_[bin];
        block* b = nullptr;
        if (at_end(s)) {
            if (s->carved == s->capacity) {
                if (block* const lent = borrow(bin)) return lent;
                if ((s = next_slab(bin)) == nullptr) return nullptr;
            }
            if (at_end(s)) b = carve_blocks(s);
        }
        if (b == nullptr) b = pop(s);
        this->lists.fill(bin, take_all(s));
        return b;
    }

    /// Effects: frees the blocks in the inbox.
    void collect() noexcept
    {
        inbox::content taken;
        if (this->overdue_since.load(std::memory_order_relaxed) != 0) [[unlikely]]
            this->overdue_since.store(0, std::memory_order_relaxed);
        if (take_inbox(taken)) [[unlikely]]
            deallocate_all(taken);
    }

    /// Effects: frees the blocks in another cache's inbox. Their slabs are this cache's from now on, unless
    /// they are active there, and so are all blocks in them that live. Requires: both are held.
    void adopt_from(cache& other) noexcept
    {
        inbox::content taken;
        if (!other.take_inbox(taken)) return;
        inbox::each(taken, [this, &other](block* b) {
            slab* s = slab_of(b);
            if (s->home == &other) {
                if (other.is_active(s)) {
                    other.deallocate(s, b);
                    return;
                }
                adopt(s, other);
            }
            deallocate_if_own(s, b);
        });
    }

    /// Effects: the same with a cache whose thread may be on its fast paths. The slow paths wait, as it is
    /// busy. A free that finds no room in its list leaves that in `room`, then sees whether the slab is still
    /// its own; who takes that away first and then looks can be sure, after a barrier on all threads. Active
    /// slabs stay, and so do all while the thread does not get past its list. Requires: both are busy.
    void steal_from(cache& other) noexcept
    {
        inbox::content taken;
        if (other.take_inbox(taken)) steal_from(other, taken);
    }

    /// The same for blocks on their way to its inbox.
    void steal_from(cache& other, inbox::content& taken) noexcept
    {
        inbox::look(taken, [&other](const block* b) {
            if (slab* s = slab_of(b); s->home == &other && !other.is_active(s)) set_owner(s, nullptr);
        });
        const bool safe = os::barrier_on_all_threads() && other.lets_pass();
        outbox back;
        inbox::each(taken, [&](block* b) {
            slab* s = slab_of(b);
            if (s->home == &other) {
                // Where its countdown is over, its thread is on its way to the slow path.
                if (!safe || other.is_active(s) || s->countdown == 0) {
                    if (!other.is_active(s)) set_owner(s, &other);
                    back.add(b);
                    return;
                }
                adopt(s, other);
            }
            deallocate_if_own(s, b);
        });
        back.send(other.inbox);
        if (!safe) other.overdue_since.store(0, std::memory_order_relaxed); // another time
    }

    /// Effects: keeps a small block of another cache in the list, as if it were of this one. False: it must go
    /// home. As a fast path does, it leaves the lists whole at each step.
    BINMALLOC_INLINE bool keep_in_exchange(bin_index bin, std::size_t block_size, void* p) noexcept
    {
        if (!exchanged.may_stay() || block_size > largest_small) return false;
        exchanged.stays();
        if (this->lists.keep(bin, p)) [[likely]]
            return true;
        this->lists.pass(bin);
        return false;
    }

    /// Effects: as collect(), if there is much.
    void collect_much() noexcept
    {
        if (this->waiting.load(std::memory_order_relaxed) >= much_waiting) collect();
    }

    /// Effects: what happens when a slab's countdown has come to zero.
    BINMALLOC_OUTLINE void countdown_ended(slab* s) noexcept
    {
        if (is_active(s)) {
            s->countdown = active_countdown;
            return;
        }
        unit_list& list = available_[s->bin];
        if (!s->available) {
            if constexpr (Tracked) full_.remove(s);
            s->available = true;
            s->countdown = s->capacity - relist_after(s);
            // Behind those that wait longer: these have more free blocks by now.
            list.push_back(s);
            this->lists.count_passed(s->bin, relist_after(s));
        } else if (!list.is_only(s)) {
            list.remove(s);
            check_free_list(s);
            this->lists.count_passed(s->bin, s->capacity);
            supply_.give(s, this->stash);
        } else {
            set_owner(s, nullptr);
        }
    }

    /// Effects: closes a class's list if many blocks have passed it.
    void close_if_passed(unsigned bin) noexcept
    {
        if (this->lists.is_time_to_close(bin)) close_list(bin);
    }

    /// Effects: what the lists keep is in the slabs.
    void close_lists() noexcept
    {
        for (unsigned bin = 0; bin < Table::count; ++bin) close_list(bin);
    }

    /// Effects: returns slabs without a live block to the page allocator.
    void release_free_slabs() noexcept
    {
        close_lists();
        collect();
        release_idle_slabs();
        for (unsigned bin = 0; bin < Table::count; ++bin) {
            slab* s = active_[bin];
            if (s == &empty_slab || free_blocks(s) != s->carved) continue;
            active_[bin] = &empty_slab;
            supply_.release(s);
        }
        this->tiny.release_slabs(false, [this](slab* s) { supply_.release(s); });
    }

    /// Effects: the same for those that are idle; nothing but these is touched.
    void release_idle_slabs() noexcept
    {
        for (unit_list& list : available_) {
            for (unit_header *h = list.front(), *next; h != nullptr; h = next) {
                next = h->next;
                if (h->owner != nullptr) continue;
                list.remove(h);
                supply_.release(static_cast<slab*>(h));
            }
        }
    }

    /// Effects: returns all slabs, with whatever lives in them.
    void release_all_slabs() noexcept
    {
        static_assert(Tracked, "nobody else knows where the full slabs are");
        this->inbox.forget();
        this->lists.forget();
        for (unsigned bin = 0; bin < Table::count; ++bin) {
            release_list(available_[bin]);
            if (active_[bin] != &empty_slab) supply_.release(active_[bin]);
            active_[bin] = &empty_slab;
        }
        release_list(full_);
        this->tiny.release_slabs(true, [this](slab* s) { supply_.release(s); });
    }

private:
    bool is_active(const slab* s) const noexcept { return s == active_[s->bin]; }

    bool take_inbox(inbox::content& taken) noexcept
    {
        if (!this->inbox.take(taken)) [[likely]]
            return false;
        this->waiting.store(0, std::memory_order_relaxed);
        return true;
    }

    // Effects: another cache's slab, which is not active there, is this one's.
    void adopt(slab* s, cache& other) noexcept
    {
        if (s->available) other.available_[s->bin].remove(s);
        set_home(s, this, this);
        if (s->available) available_[s->bin].push_back(s);
    }

    // Effects: waits for a free on its way to a slab. False: it does not come there; it may have been stopped.
    bool lets_pass() const noexcept
    {
        constexpr unsigned patience = 128;
        for (unsigned step = 0; this->lists.are_being_passed(); ++step) {
            if (step == patience) return false;
            os::pause();
        }
        return true;
    }

    BINMALLOC_OUTLINE void deallocate_all(inbox::content& taken) noexcept
    {
        std::uint32_t blocks = 0;
        inbox::each(taken, [this, &blocks](block* b) {
            ++blocks;
            deallocate_if_own(slab_of(b), b);
        });
        exchanged.came_home(blocks);
    }

    // Effects: ends the process, unless a fork came between a fast path and its slow path.
    BINMALLOC_SLOW void no_block_lives(slab* s, const void* p) noexcept
    {
        if (s->available) os::fatal("double free", p);
        countdown_ended(s);
    }

    void close_list(unsigned bin) noexcept
    {
        this->lists.close(bin, [this](block* b) { deallocate_if_own(slab_of(b), b); });
    }

    // A full slab waits for a visit again when so many of its blocks are free, and with luck more of them
    // when its turn comes: an eighth of a few, a sixteenth of many.
    static std::uint32_t relist_after(const slab* s) noexcept
    {
        const std::uint32_t of_few = s->capacity < 32 ? s->capacity / 8u : 4;
        const std::uint32_t of_many = s->capacity / 16u;
        return of_many > of_few ? of_many : of_few > 0 ? of_few : 1;
    }

    static unsigned free_blocks(const slab* s) noexcept
    {
        // Not more than there are, also if the program has damaged the list.
        unsigned n = 0;
        for (const block* b = s->free; b != &list_end && n <= s->carved; b = next_of(b)) ++n;
        return n;
    }

    // Effects: ends the process if the list of a slab that is about to go shows a double free; the
    // top of it, as no more is warm.
    static void check_free_list(const slab* s) noexcept
    {
        unsigned left = 4;
        for (const block* b = s->free; b != &list_end && left > 0; --left) {
            const block* next = next_of(b);
            if (next == b) os::fatal("double free", b);
            b = next;
        }
    }

    // Returns: a free block of another class, before a slab is made; null: none is at hand.
    block* borrow(bin_index bin) noexcept
    {
        if (!available_[bin].empty()) return nullptr;
        return loans_.borrow(bin, [this](unsigned lender) {
            return this->lists.is_empty(lender) ? pop(active_[lender]) : this->lists.take(lender);
        });
    }

    // Effects: retires the active slab, which is full, and makes another one active. Null: no memory.
    slab* next_slab(bin_index bin) noexcept
    {
        if (slab* full = active_[bin]; full != &empty_slab) {
            full->countdown = relist_after(full);
            if constexpr (Tracked) full_.push_front(full);
            active_[bin] = &empty_slab;
        }
        unit_list& list = available_[bin];
        auto* s = static_cast<slab*>(list.front());
        if (s != nullptr) {
            list.remove(s);
            s->available = false;
            // Only after it was idle: who frees a block of it reads this.
            if (s->owner != this) set_owner(s, this);
        } else {
            const unsigned units = Table::slab_units(bin);
            bool zeroed;
            unit_header* first = supply_.take(units, this->stash, zeroed);
            if (first == nullptr) return nullptr;
            s = make_slab(first, units, bin, Table::sizes[bin], this, this, !zeroed);
            forbid(unit_memory(s), units * unit_size);
            if constexpr (Tracked) memcheck::make_accessible(unit_memory(s), units * unit_size);
        }
        s->countdown = active_countdown;
        active_[bin] = s;
        return s;
    }

    void release_list(unit_list& list) noexcept
    {
        while (unit_header* h = list.front()) {
            list.remove(h);
            supply_.release(static_cast<slab*>(h));
        }
    }

    struct no_list {};

    lending<Table> loans_;
    slab_supply<Pages> supply_;
    unit_list available_[Table::count];
    slab* active_[Table::count];
    [[no_unique_address]] std::conditional_t<Tracked, unit_list, no_list> full_;
};

} // namespace binmalloc::detail

#endif
