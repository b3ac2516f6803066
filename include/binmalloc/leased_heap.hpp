// binmalloc: the heap whose threads lease their caches.
//
// Layer: heap. Thread safe, also before main, after exit, and in a thread whose exit hook has run.
//
// allocate_block(bin)                      deallocate(p)
//   current cache's active slab              header of p
//     its free list -> block                   owner is the current cache -> slab's free list
//     empty -> allocate_slow                     countdown over -> countdown_ended
//       a cache is leased -> refill            else -> deallocate_slow
//       none yet -> lease one -> refill          span -> page allocator
//       none to be had -> lock a shared          slab of another cache -> outbox, or its inbox, or
//       cache for this call                      that cache itself where it can be locked
//
// A thread without a cache has a static empty one, whose slabs are all the static empty slab: its
// first allocation finds an empty list, its first free another owner, and both arrive in the slow
// path without a test of their own.
#ifndef BINMALLOC_LEASED_HEAP_HPP
#define BINMALLOC_LEASED_HEAP_HPP

#include <binmalloc/cache_pool.hpp>
#include <binmalloc/page_allocator.hpp>

namespace binmalloc::detail {

/// A thread's standing with the pool, beside its current cache. Only the slow paths look at it.
struct lease_standing {
    bool exited = false;           ///< the exit hook has run: no lease any more
    std::uint32_t until_retry = 0; ///< calls to go before the next try for a lease
    std::uint32_t hint = 0;        ///< which shared cache to lock first
};

/// All members are static: there is one such heap per policy and process (or per library, where
/// symbols are hidden; their blocks may be freed through any of them).
template <class Policy>
class leased_heap {
public:
    using table = size_class_table<typename Policy::size_classes>;
    using pages_type =
        basic_page_allocator<typename Policy::page_source, typename Policy::footprint>;

    BINMALLOC_INLINE static void* allocate_block(bin_index bin) noexcept
    {
        slab* s = current_->active[bin];
        if (block* b = s->free) [[likely]] {
            s->free = b->next;
            return b;
        }
        return allocate_slow(bin);
    }

    BINMALLOC_INLINE static void deallocate(void* p) noexcept
    {
        if (p == nullptr) return;
        unit_header* h = header_of(p);
        if (h->owner != current_) [[unlikely]] {
            deallocate_slow(p, h);
            return;
        }
        auto* s = static_cast<slab*>(h);
        auto* b = static_cast<block*>(p);
        b->next = s->free;
        s->free = b;
        if (--s->countdown == 0) [[unlikely]]
            countdown_ended(s);
    }

    static span* allocate_span(std::size_t size, std::size_t alignment, bool* zeroed) noexcept
    {
        // A thread that only allocates spans must collect what others freed of its blocks, too.
        if (member* m = leased()) m->collect();
        pages_type* p = pages();
        return p != nullptr ? p->allocate_span(size, alignment, zeroed) : nullptr;
    }

    static void purge() noexcept
    {
        pool_type* p = existing_pool();
        if (p == nullptr) return;
        if (member* m = leased()) {
            m->flush_all();
            m->release_free_slabs();
        }
        p->each_idle_cache([](member& m) { m.release_free_slabs(); });
        p->pages.purge();
    }

    static page_statistics statistics() noexcept
    {
        pool_type* p = existing_pool();
        return p != nullptr ? p->pages.statistics() : page_statistics{};
    }

    /// The page allocator of the heap, for an arena in it. Null: no memory.
    static pages_type* pages() noexcept
    {
        pool_type* p = pool();
        return p != nullptr ? &p->pages : nullptr;
    }

private:
    using pool_type = cache_pool<table, pages_type, typename Policy::page_source,
                                 typename Policy::footprint>;
    using member = typename pool_type::member;
    using front = typename pool_type::front_type;

    static constexpr std::uint32_t retry_interval = 64;

    static member* leased() noexcept
    {
        front* c = current_;
        return c != &no_cache_ ? static_cast<member*>(c) : nullptr;
    }

    BINMALLOC_OUTLINE static void* allocate_slow(bin_index bin) noexcept
    {
        if (member* m = lease()) [[likely]]
            return m->refill(bin);
        pool_type* p = pool();
        if (p == nullptr) return nullptr;
        member& m = p->lock_shared(standing_.hint);
        void* b = nullptr;
        {
            const slow_path_scope busy(m);
            b = m.allocate(bin);
        }
        m.lock.unlock();
        return b;
    }

    BINMALLOC_OUTLINE static void countdown_ended(slab* s) noexcept
    {
        static_cast<member*>(current_)->countdown_ended(s);
    }

    BINMALLOC_OUTLINE static void deallocate_slow(void* p, unit_header* h) noexcept
    {
        h = first_header(h);
        const os::keep_errno keep;
        if (h->kind == unit_kind::slab) [[likely]]
            deallocate_block(p, static_cast<slab*>(h));
        else
            free_span<pages_type>(p, h);
    }

    static void deallocate_block(void* p, slab* s) noexcept
    {
        if (tiny_bin::serves(s->block_size)) {
            s->home->tiny.deallocate(s, p, pages_of<pages_type>(s));
            return;
        }
        member* mine = lease();
        if (s->home == mine) {
            mine->deallocate(s, p);
        } else if (s->home->pool != pool_.load(std::memory_order_relaxed)) {
            auto* b = static_cast<block*>(p);
            s->home->send(b, b);
        } else if (mine != nullptr) {
            const slow_path_scope busy(*mine);
            mine->post(s->home, p, s->block_size);
        } else {
            auto& home = static_cast<member&>(*s->home);
            if (home.lock.try_lock()) {
                {
                    const slow_path_scope busy(home);
                    home.deallocate(s, p);
                }
                home.lock.unlock();
            } else {
                auto* b = static_cast<block*>(p);
                home.send(b, b);
            }
        }
    }

    // Returns: the calling thread's cache, leased now if need be; null: none to be had.
    static member* lease() noexcept
    {
        if (member* m = leased()) [[likely]]
            return m;
        if (standing_.exited || standing_.until_retry-- != 0) return nullptr;
        standing_.until_retry = retry_interval;
        pool_type* p = pool();
        if (p == nullptr) return nullptr;
        member* m = p->acquire_lease();
        if (m == nullptr) {
            if (standing_.hint == 0) standing_.hint = next_hint_.fetch_add(1, std::memory_order_relaxed);
            return nullptr;
        }
        current_ = m;
        // Only now, because it may allocate.
        if (!exit_key_.arm(m)) {
            current_ = &no_cache_;
            p->end_lease(m);
            standing_.exited = true;
            return nullptr;
        }
        return m;
    }

    static void thread_exit(void* argument) noexcept
    {
        auto* m = static_cast<member*>(argument);
        if constexpr (os::thread_locals_outlive_exit) {
            current_ = &no_cache_;
            standing_.exited = true;
        }
        static_cast<pool_type*>(const_cast<void*>(m->pool))->end_lease(m);
    }

    static pool_type* pool() noexcept
    {
        pool_type* p = existing_pool();
        return p != nullptr ? p : make_pool();
    }

    BINMALLOC_SLOW static pool_type* make_pool() noexcept
    {
        pool_type* p = nullptr;
        {
            lock_guard held(making_);
            if (p = pool_.load(std::memory_order_relaxed); p != nullptr) return p;
            const os::keep_errno keep;
            p = pool_type::create();
            if (p == nullptr) return nullptr;
            exit_key_.template create<thread_exit>();
            pool_.store(p, std::memory_order_release);
        }
        // Registering may allocate, which works by now.
        os::on_fork(before_fork, after_fork_in_parent, after_fork_in_child);
        return p;
    }

    // Acquire: another thread may have made it, also where it is known to exist (fork handlers).
    static pool_type* existing_pool() noexcept { return pool_.load(std::memory_order_acquire); }

    static void before_fork() noexcept { existing_pool()->freeze(); }
    static void after_fork_in_parent() noexcept { existing_pool()->thaw(); }
    static void after_fork_in_child() noexcept
    {
        pool_type* p = existing_pool();
        p->thaw();
        p->inherit(leased());
    }

    static inline constinit front no_cache_{};
    static inline constinit thread_local front* current_ BINMALLOC_TLS_MODEL = &no_cache_;
    static inline constinit thread_local lease_standing standing_ BINMALLOC_TLS_MODEL{};
    static inline constinit std::atomic<pool_type*> pool_{nullptr};
    static inline constinit std::atomic<std::uint32_t> next_hint_{1};
    static inline constinit spinlock making_{};
    static inline constinit os::thread_exit_key exit_key_{};
};

} // namespace binmalloc::detail

#endif
