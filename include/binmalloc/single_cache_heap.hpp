// binmalloc: the heap with a single cache.
//
// Layer: heap. Thread safe: every call takes the cache's spinlock. No thread_local, no exit hook, no
// C++ runtime library; what it needs of the C library is mmap and a few like it.
#ifndef BINMALLOC_SINGLE_CACHE_HEAP_HPP
#define BINMALLOC_SINGLE_CACHE_HEAP_HPP

#include <binmalloc/cache.hpp>
#include <binmalloc/page_allocator.hpp>

namespace binmalloc::detail {

/// The same interface as leased_heap. All members are static.
template <class Policy>
class single_cache_heap {
public:
    using table = size_class_table<typename Policy::size_classes>;
    using pages_type =
        basic_page_allocator<typename Policy::page_source, typename Policy::footprint>;

    static void* allocate_block(bin_index bin) noexcept
    {
        state* s = get();
        if (s == nullptr) return nullptr;
        lock_guard held(s->bins.lock);
        return s->bins.allocate(bin);
    }

    static void deallocate(void* p) noexcept
    {
        if (p == nullptr) return;
        unit_header* h = first_header(header_of(p));
        const os::keep_errno keep;
        if (h->kind == unit_kind::slab)
            deallocate_block(p, static_cast<slab*>(h));
        else
            free_span<pages_type>(p, h);
    }

    static span* allocate_span(std::size_t size, std::size_t alignment, bool* zeroed) noexcept
    {
        pages_type* p = pages();
        return p != nullptr ? p->allocate_span(size, alignment, zeroed) : nullptr;
    }

    static void purge() noexcept
    {
        state* s = get();
        if (s == nullptr) return;
        {
            lock_guard held(s->bins.lock);
            s->bins.release_free_slabs();
        }
        s->pages.purge();
    }

    static page_statistics statistics() noexcept
    {
        state* s = get();
        return s != nullptr ? s->pages.statistics() : page_statistics{};
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
    };

    static void deallocate_block(void* p, slab* s) noexcept
    {
        if (tiny_bin::serves(s->block_size)) {
            s->home->tiny.deallocate(s, p, pages_of<pages_type>(s));
        } else if (state* own = get(); own != nullptr && s->home == &own->bins) {
            lock_guard held(own->bins.lock);
            own->bins.deallocate(s, p);
        } else {
            auto* b = static_cast<block*>(p);
            s->home->send(b, b);
        }
    }

    static state* get() noexcept
    {
        state* s = state_.load(std::memory_order_acquire);
        return s != nullptr ? s : make();
    }

    BINMALLOC_SLOW static state* make() noexcept
    {
        state* s = nullptr;
        {
            lock_guard held(making_);
            if (s = state_.load(std::memory_order_relaxed); s != nullptr) return s;
            using source = typename Policy::page_source;
            const os::keep_errno keep;
            const std::size_t bytes = align_up(sizeof(state), source::page_size());
            void* memory = source::reserve(bytes, source::page_size());
            if (memory == nullptr) return nullptr;
            if (!source::commit(memory, bytes)) {
                source::release(memory, bytes);
                return nullptr;
            }
            s = new (memory) state{};
            s->bins.use(s->pages);
            state_.store(s, std::memory_order_release);
        }
        // Registering may allocate, which works by now.
        os::on_fork(freeze, thaw, thaw);
        return s;
    }

    static void freeze() noexcept
    {
        state* s = state_.load(std::memory_order_acquire);
        s->bins.lock.lock();
        s->bins.tiny.lock().lock();
        s->pages.lock().lock();
    }

    static void thaw() noexcept
    {
        state* s = state_.load(std::memory_order_acquire);
        s->pages.lock().unlock();
        s->bins.tiny.lock().unlock();
        s->bins.lock.unlock();
    }

    static inline constinit std::atomic<state*> state_{nullptr};
    static inline constinit spinlock making_{};
};

} // namespace binmalloc::detail

#endif
