// binmalloc: the heap with a single cache.
//
// Layer: heap. Thread safe: every call takes the cache's spinlock. No thread_local, no exit hook, no
// C++ runtime library; what it needs of the C library is mmap and a few like it.
#ifndef BINMALLOC_SINGLE_CACHE_HEAP_HPP
#define BINMALLOC_SINGLE_CACHE_HEAP_HPP

#include <binmalloc/cache.hpp>
#include <binmalloc/page_allocator.hpp>
#include <binmalloc/process_hooks.hpp>

namespace binmalloc::detail {

/// The same interface as leased_heap. All members are static.
template <class Policy>
class single_cache_heap {
public:
    using table = size_class_table<typename Policy::size_classes>;
    using pages_type =
        basic_page_allocator<typename Policy::page_source, typename Policy::footprint>;

    static void* allocate_block(bin_index bin, std::size_t size) noexcept
    {
        for (const bool last_try : {false, true}) {
            {
                const gate_scope scope;
                state* s = get();
                if (s == nullptr) return nullptr;
                const memcheck::unseen internal(s->is_watched);
                lock_guard held(s->bins.lock);
                if (void* b = s->bins.allocate(bin)) [[likely]] {
                    if (s->is_watched) [[unlikely]]
                        memcheck::allocated(b, size, table::sizes[bin]);
                    return b;
                }
            }
            if (!last_try) purge();
        }
        return nullptr;
    }

    static void* take_block(bin_index) noexcept { return nullptr; }
    static void settle() noexcept {}
    struct calloc_scope {};

    static void free_block(void* p) noexcept
    {
        if (p == nullptr) return;
        if (region_of(p)->magic != region_magic) [[unlikely]]
            os::fatal("free of a pointer that is not from this heap", p);
        unit_header* h = first_header(header_of(p));
        const os::keep_errno keep;
        const gate_scope scope;
        const bool watched = is_watched();
        const memcheck::unseen internal(watched);
        if (watched) [[unlikely]]
            memcheck::freed(p, usable_bytes(h));
        if (h->kind == unit_kind::slab)
            deallocate_block(p, static_cast<slab*>(h));
        else
            free_span<pages_type>(p, h);
    }

    static void* allocate_span(std::size_t size, std::size_t alignment, bool* zeroed) noexcept
    {
        for (const bool last_try : {false, true}) {
            {
                const gate_scope scope;
                state* s = get();
                if (s == nullptr) return nullptr;
                if (span* found = s->pages.allocate_span(with_room(size, alignment), alignment, zeroed)) {
                    void* b = pages_type::block_in(found, size, alignment);
                    if (s->is_watched) [[unlikely]]
                        memcheck::allocated(b, size, usable_bytes_of(found), lead_of(found));
                    return b;
                }
            }
            if (!last_try) purge();
        }
        return nullptr;
    }

    static void purge() noexcept
    {
        const gate_scope scope;
        state* s = existing();
        if (s == nullptr) return;
        {
            const memcheck::unseen internal(s->is_watched);
            lock_guard held(s->bins.lock);
            s->bins.release_free_slabs();
        }
        s->pages.purge();
    }

    static void purge_aged() noexcept
    {
        const gate_scope scope;
        if (state* s = existing()) s->pages.purge_aged();
    }

    static page_statistics statistics() noexcept
    {
        const gate_scope scope;
        state* s = existing();
        return s != nullptr ? s->pages.statistics() : page_statistics{};
    }

    static void set_limit(std::size_t bytes) noexcept
    {
        state* s = get();
        if (s == nullptr) return;
        s->pages.set_limit(bytes);
        const page_statistics now = statistics();
        if (now.live + now.dirty > bytes) purge();
    }

    static std::size_t limit() noexcept
    {
        state* s = get();
        return s != nullptr ? s->pages.limit() : SIZE_MAX;
    }

    static bool is_watched() noexcept
    {
        const state* s = existing();
        return s != nullptr && s->is_watched;
    }

    static pages_type* pages() noexcept
    {
        state* s = get();
        return s != nullptr ? &s->pages : nullptr;
    }

private:
    struct state {
        pages_type pages;
        cache<table, pages_type> bins;
        fork_gate gate;
        const bool is_watched = memcheck::is_running();
    };

public:
    /// As leased_heap's.
    class gate_scope {
    public:
        gate_scope() noexcept
        {
            for (state* s = existing(); s != nullptr && !passes(*s);) s = existing();
        }
        ~gate_scope()
        {
            if (thawed_) [[unlikely]]
                before_fork();
        }
        gate_scope(const gate_scope&) = delete;
        gate_scope& operator=(const gate_scope&) = delete;

    private:
        bool passes(state& s) noexcept
        {
            if (s.gate.is_open()) [[likely]]
                return true;
            if (s.gate.closed_by_this_thread()) {
                thaw();
                return thawed_ = true;
            }
            if (s.gate.is_wiped())
                recover(s);
            else
                os::yield();
            return false;
        }

        bool thawed_ = false;
    };

private:
    static void deallocate_block(void* p, slab* s) noexcept
    {
        check_block(s, p, "free of a pointer inside a block");
        if (s->home->gate != nullptr && s->home->gate->is_lost()) return;
        if (tiny_bin::serves(s->block_size)) {
            s->home->tiny.deallocate(s, p, pages_of<pages_type>(s));
        } else if (state* own = existing(); own != nullptr && s->home == &own->bins) {
            lock_guard held(own->bins.lock);
            own->bins.deallocate(s, p);
        } else {
            auto* b = static_cast<block*>(p);
            s->home->inbox.send(b);
        }
    }

    static state* existing() noexcept { return state_.load(std::memory_order_acquire); }

    static state* get() noexcept
    {
        state* s = existing();
        return s != nullptr ? s : make();
    }

    // As leases::make_pool().
    BINMALLOC_SLOW static state* make() noexcept
    {
        using source = typename Policy::page_source;
        const os::keep_errno keep;
        void* memory = source::reserve(state_bytes(), source::page_size());
        if (memory != nullptr && !source::commit(memory, state_bytes())) {
            source::release(memory, state_bytes());
            memory = nullptr;
        }
        if (memory == nullptr) return existing();
        auto* s = new (memory) state{};
        s->gate.create();
        s->pages.set_limit(Policy::initial_limit());
        s->bins.use(s->pages);
        s->bins.gate = &s->gate;
        add_process_hook(hook_); // may allocate, and so publish another one
        wait_for_forks();
        state* first = nullptr;
        if (!state_.compare_exchange_strong(first, s, std::memory_order_acq_rel)) {
            destroy(s);
            return first;
        }
        return s;
    }

    static void destroy(state* s) noexcept
    {
        s->gate.destroy();
        s->~state();
        Policy::page_source::release(s, state_bytes());
    }

    static std::size_t state_bytes() noexcept
    {
        return align_up(sizeof(state), Policy::page_source::page_size());
    }

    static void before_fork() noexcept
    {
        const gate_scope scope;
        state* s = get();
        if (s == nullptr) return;
        s->gate.close();
        s->bins.lock.lock();
        s->bins.tiny.lock().lock();
        s->pages.freeze(os::now_ms() + fork_patience_ms);
    }

    static void thaw() noexcept
    {
        state* s = existing();
        // Another thread may have made it since this one began to fork.
        if (s == nullptr || !s->gate.closed_by_this_thread()) return;
        s->pages.thaw();
        s->bins.tiny.lock().unlock();
        s->bins.lock.unlock();
        s->gate.reopen();
    }

    static void after_fork_in_child() noexcept
    {
        thaw();
        if (state* s = existing()) s->pages.inherit();
    }

    // Effects: in a forked child that no handler prepared: the heap is usable again, or another one
    // will be made.
    BINMALLOC_SLOW static void recover(state& s) noexcept
    {
        if (!s.gate.close_wiped()) return; // another thread does
        if (!s.bins.lock.is_held() && !s.bins.tiny.lock().is_held() && !s.pages.lock().is_held()) {
            s.pages.inherit();
            s.gate.reopen();
        } else {
            s.pages.abandon();
            state_.store(nullptr, std::memory_order_release);
            s.gate.lose();
        }
    }

    // Effects: what a library does before it is unloaded with its code and statics.
    static void unload() noexcept
    {
        purge();
        state* s = existing();
        if (s == nullptr || s->pages.statistics().live != 0 || !os::single_threaded()) return;
        state_.store(nullptr, std::memory_order_release);
        destroy(s);
    }

    static inline constinit std::atomic<state*> state_{nullptr};
    static inline constinit process_hook hook_{before_fork, thaw, after_fork_in_child, unload};
};

} // namespace binmalloc::detail

#endif
