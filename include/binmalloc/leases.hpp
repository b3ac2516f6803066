// binmalloc: which cache a thread has: its lease, its guest, or none.
//
// Layer: heap. Thread safe, also before main, after exit, and in a thread whose exit hook has run.
//
// The pool is made at first use. A thread leases a cache of it, or else has a guest, from its first
// slow path to its exit hook; every slow path begins with a slow_call or a gate_scope, which pass the
// fork gate. What forks and unloading do to the heap is here, too.
#ifndef BINMALLOC_LEASES_HPP
#define BINMALLOC_LEASES_HPP

#include <binmalloc/cache_pool.hpp>
#include <binmalloc/page_allocator.hpp>
#include <binmalloc/process_hooks.hpp>

namespace binmalloc::detail {

/// A thread's standing with the pool, beside its current cache. Only the slow paths look at it.
struct lease_standing {
    bool exited = false;           ///< the exit hook has run: no lease any more
    std::uint32_t until_retry = 0; ///< calls to go before the next try for a lease
    std::uint32_t hint = 0;        ///< which shared cache to lock first
    std::uint32_t refills = 0;     ///< counts them, to look at the clock now and then
};

/// All members are static: there is one such set per policy and process (or per library, where symbols
/// are hidden; their blocks may be freed through any of them).
template <class Policy>
class leases {
public:
    using table = size_class_table<typename Policy::size_classes>;
    using pages_type =
        basic_page_allocator<typename Policy::page_source, typename Policy::footprint>;

    /// Effects: the thread can allocate, also before the loader has initialised its thread_locals: a
    /// program's resolvers (IFUNC) run that early. The loader undoes it later; lease() copes.
    static void settle() noexcept
    {
        if (current_ == nullptr) [[unlikely]]
            current_ = &no_cache_;
    }

    /// Held by calloc, settled. glibc calls it when a thread gives its first value to one of 32 keys
    /// that were made late. If the heap's own is among them and got a value within that call, glibc
    /// would forget the value. So there a thread does not become a lessee or a guest in calloc.
    class calloc_scope {
    public:
        calloc_scope() noexcept
        {
            settle();
            if (is_none(current_)) [[unlikely]]
                hold_back();
        }
        ~calloc_scope()
        {
            if (holds_back_) [[unlikely]]
                standing_.exited = false;
        }
        calloc_scope(const calloc_scope&) = delete;
        calloc_scope& operator=(const calloc_scope&) = delete;

    private:
        BINMALLOC_SLOW void hold_back() noexcept
        {
            const pool_type* p = pool();
            holds_back_ = p != nullptr && p->exit_key.may_call_calloc() && !has_exited();
            if (holds_back_) standing_.exited = true;
        }

        bool holds_back_ = false;
    };

    /// The process is under memcheck.
    static bool is_watched() noexcept
    {
        const pool_type* p = existing_pool();
        return p != nullptr && p->is_watched;
    }

protected:
    using pool_type = cache_pool<table, pages_type, typename Policy::page_source,
                                 typename Policy::footprint>;
    using member = typename pool_type::member;
    using guest_type = typename pool_type::guest_type;
    using front = typename pool_type::front_type;

public:
    /// Held by whatever takes a lock of the heap: the fork gate is passed. Where this thread itself
    /// has closed it (a fork handler of the program's allocates), the heap is thawed for so long.
    class gate_scope {
    public:
        gate_scope() noexcept
        {
            for (pool_type* p = existing_pool(); p != nullptr && !passes(*p);) p = existing_pool();
        }
        ~gate_scope()
        {
            if (thawed_ != nullptr) [[unlikely]]
                thawed_->freeze();
        }
        gate_scope(const gate_scope&) = delete;
        gate_scope& operator=(const gate_scope&) = delete;

    protected:
        struct not_yet {};
        explicit gate_scope(not_yet) noexcept {}

        bool passes(pool_type& p) noexcept { return p.gate.is_open() || passes_closed(p); }

    private:
        BINMALLOC_SLOW bool passes_closed(pool_type& p) noexcept
        {
            if (p.gate.closed_by_this_thread()) {
                p.thaw();
                thawed_ = &p;
                return true;
            }
            if (p.gate.is_wiped())
                recover(p);
            else
                os::yield();
            return false;
        }

        pool_type* thawed_ = nullptr;
    };

protected:
    /// The same, and the thread's lease is busy; a thread that has none tries to get one.
    class slow_call : public gate_scope {
    public:
        slow_call() noexcept : gate_scope(typename gate_scope::not_yet{}), mine_(leased())
        {
            if (mine_ == nullptr || !mine_->try_begin()) [[unlikely]]
                begin();
        }
        ~slow_call()
        {
            if (mine_ != nullptr) mine_->end();
        }

        /// Null: no lease, so the pool's locks are needed. The pool exists, or there is no memory.
        member* mine() const noexcept { return mine_; }

    private:
        BINMALLOC_OUTLINE void begin() noexcept
        {
            for (;;) {
                pool_type* p = leases::pool();
                mine_ = nullptr;
                if (p == nullptr) return;
                if (!this->passes(*p)) continue;
                mine_ = lease(*p);
                if (mine_ == nullptr || mine_->try_begin()) return;
            }
        }

        member* mine_;
    };

    static constexpr std::uint32_t retry_interval = 64;

    static member* leased() noexcept
    {
        front* c = current_;
        return c->leasable ? static_cast<member*>(c) : nullptr;
    }

    static guest_type* own_guest() noexcept
    {
        front* c = current_;
        return !c->leasable && !is_none(c) ? static_cast<guest_type*>(c) : nullptr;
    }

    // Effects: allocates through a shared cache, for a thread without a lease.
    static void* allocate_shared(pool_type& p, bin_index bin) noexcept
    {
        const memcheck::unseen internal(p.is_watched);
        const bool is_new = own_guest() == nullptr;
        if (!is_new && own_guest()->reload(bin)) return current_->lists.take(bin);
        member& m = p.lock_shared(standing_.hint);
        guest_type* g = guest_through(p, m);
        void* b = g != nullptr ? p.refill(*g, bin, m) : m.allocate(bin);
        m.lock.unlock();
        if (is_new) arm_exit(p);
        return b;
    }

    // Effects: a thread without a lease is a guest from now on, if it can be one.
    static void become_guest(pool_type& p) noexcept
    {
        if (own_guest() != nullptr) return;
        member& m = p.lock_shared(standing_.hint);
        guest_through(p, m);
        m.lock.unlock();
        arm_exit(p);
    }

    // Effects: a new guest ends with its thread. Requires: no lock is held, because it may allocate.
    static void arm_exit(pool_type& p) noexcept
    {
        guest_type* g = own_guest();
        if (g == nullptr || p.exit_key.arm(static_cast<front*>(g))) return;
        leave_guest(p);
        standing_.exited = true;
    }

    // Returns: the thread's guest, made now if need be; null: it shall have none, or no memory.
    static guest_type* guest_through(pool_type& p, member& m) noexcept
    {
        if constexpr (pool_type::guest_bin == table::none) return nullptr;
        if (guest_type* g = own_guest()) return g;
        if (has_exited() || p.is_watched) return nullptr;
        guest_type* g = p.make_guest(m);
        if (g != nullptr) current_ = g;
        return g;
    }

    // Effects: the thread has no guest any more.
    static void leave_guest(pool_type& p) noexcept
    {
        guest_type* g = own_guest();
        if (g == nullptr) return;
        current_ = &no_cache_;
        end_guest(p, g);
    }

    static void end_guest(pool_type& p, guest_type* g) noexcept
    {
        member& m = p.lock_shared(0);
        p.end_guest(g, m);
        m.lock.unlock();
    }

    // Acquire: another thread may have made it, also where it is known to exist (fork handlers).
    static pool_type* existing_pool() noexcept { return pool_.load(std::memory_order_acquire); }

    static pool_type* pool() noexcept
    {
        pool_type* p = existing_pool();
        return p != nullptr ? p : make_pool();
    }

    static inline constinit front no_cache_{};
#if BINMALLOC_EMULATED_TLS
    static inline constinit os::thread_pointer<front, no_cache_> current_{};
#else
    static inline constinit thread_local front* current_ BINMALLOC_TLS_MODEL = &no_cache_;
#endif
    static inline constinit thread_local lease_standing standing_ BINMALLOC_TLS_MODEL{};

private:
    // The same, of a thread whose exit hook has run, where its standing is gone by then.
    static inline constinit front gone_{};

    static bool is_none(const front* c) noexcept
    {
        return c == &no_cache_ || (!os::thread_locals_outlive_exit && c == &gone_);
    }

    static bool has_exited() noexcept
    {
        return standing_.exited || (!os::thread_locals_outlive_exit && current_ == &gone_);
    }

    // Several threads may make one at the same time, the first is it. A lock here would stay locked in
    // a child that is forked meanwhile.
    BINMALLOC_SLOW static pool_type* make_pool() noexcept
    {
        const os::keep_errno keep;
        pool_type* p = pool_type::create();
        if (p == nullptr) return existing_pool();
        p->pages.set_limit(Policy::initial_limit());
        p->stashes.allow(p->pages.limit() == SIZE_MAX);
        p->exit_key.template create<&exit_callback_>();
        add_process_hook(hook_); // may allocate, and so publish another one
        wait_for_forks();
        pool_type* first = nullptr;
        if (!pool_.compare_exchange_strong(first, p, std::memory_order_acq_rel)) {
            p->destroy();
            return first;
        }
        return p;
    }

    // Returns: the calling thread's cache, leased now if need be; null: none to be had.
    static member* lease(pool_type& p) noexcept
    {
        if (current_->pool != &p && !is_none(current_)) {
            // Its pool was lost in a fork.
            current_ = &no_cache_;
            standing_ = {};
        }
        if (member* m = leased()) return m;
        if (has_exited() || p.is_watched || standing_.until_retry-- != 0) return nullptr;
        standing_.until_retry = retry_interval;
        if (auto* c = static_cast<front*>(p.exit_key.armed());
            c != nullptr && c->leasable && c->pool == &p) {
            // Leased before the loader initialised this thread's thread_locals.
            current_ = c;
            return leased();
        }
        member* m = p.acquire_lease();
        if (m == nullptr) {
            if (standing_.hint == 0)
                standing_.hint = next_hint_.fetch_add(1, std::memory_order_relaxed);
            return nullptr;
        }
        leave_guest(p);
        current_ = m;
        // Only now, because it may allocate.
        if (!p.exit_key.arm(static_cast<front*>(m))) {
            current_ = &no_cache_;
            p.end_lease(m);
            standing_.exited = true;
            return nullptr;
        }
        return m;
    }

    static void thread_exit(void* argument) noexcept
    {
        auto* c = static_cast<front*>(argument);
        if constexpr (os::thread_locals_outlive_exit) {
            current_ = &no_cache_;
            standing_.exited = true;
        }
#if BINMALLOC_EMULATED_TLS
        current_.set_last(&gone_);
#endif
        const gate_scope scope;
        pool_type* p = existing_pool();
        if (c->pool != p) return; // lost in a fork
        if (!c->leasable) {
            end_guest(*p, static_cast<guest_type*>(c));
            return;
        }
        while (!c->try_begin()) os::yield();
        p->end_lease(static_cast<member*>(c));
    }

    // Effects: what a library does before it is unloaded with its code and statics. Its memory may
    // go on being used by others.
    static void unload() noexcept
    {
        current_ = &no_cache_;
        standing_.exited = true;
        if (pool_type* p = existing_pool(); p != nullptr && p->retire())
            pool_.store(nullptr, std::memory_order_release);
    }

    // Effects: in a forked child that no handler prepared: the heap is usable again, or another one
    // will be made.
    BINMALLOC_SLOW static void recover(pool_type& p) noexcept
    {
        if (!p.gate.close_wiped()) return; // another thread does
        // The lease that lives on is this thread's, or else that of nobody knows whom.
        const bool known = current_->pool == &p || os::single_threaded();
        if (p.recover(known, current_)) {
            p.gate.reopen();
        } else {
            pool_.store(nullptr, std::memory_order_release);
            p.gate.lose();
        }
    }

    static void before_fork() noexcept
    {
        const gate_scope scope; // a child without handlers may fork again, with them
        if (pool_type* p = pool()) p->freeze();
    }
    static void after_fork_in_parent() noexcept
    {
        if (pool_type* p = frozen_pool()) p->thaw();
    }
    static void after_fork_in_child() noexcept
    {
        pool_type* p = frozen_pool();
        if (p == nullptr) return;
        p->thaw();
        p->inherit(current_);
    }

    // Null also for a pool that another thread has made since this one began to fork.
    static pool_type* frozen_pool() noexcept
    {
        pool_type* p = existing_pool();
        return p != nullptr && p->gate.closed_by_this_thread() ? p : nullptr;
    }

    static inline constinit std::atomic<pool_type*> pool_{nullptr};
    static inline constinit std::atomic<std::uint32_t> next_hint_{1};
    using exit_callback = void(void*);
    static inline constinit exit_callback* exit_callback_ = thread_exit;
    static inline constinit process_hook hook_{before_fork, after_fork_in_parent,
                                               after_fork_in_child, unload};
};

} // namespace binmalloc::detail

#endif
