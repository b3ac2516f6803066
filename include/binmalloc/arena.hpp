// binmalloc: the arena, a heap that frees everything at once.
//
// Layer: front ends. `arena` is for one thread at a time, `locked_arena` for many.
//
// An arena has bins of its own and takes its slabs and spans from the process heap's page allocator,
// so making one costs about as much as a function call with a large frame, and its memory is warm.
// When it goes, or at clear(), its slabs and spans go back whole; no block is visited.
#ifndef BINMALLOC_ARENA_HPP
#define BINMALLOC_ARENA_HPP

#include <binmalloc/failure.hpp>
#include <binmalloc/heap.hpp>
#include <binmalloc/memory_resource.hpp>

#include <type_traits>

namespace binmalloc {

/// Blocks of an arena may also be given to the functions of the process heap (reallocate keeps them
/// in the arena only while they are resized in place); they are dead once the arena is.
template <class Heap, class Lock>
class basic_arena {
    using heap_core = typename Heap::core;

public:
    using table = typename heap_core::table;
    using pages_type = typename heap_core::pages_type;

    /// Never fails and allocates nothing. Without memory the first allocation answers null.
    basic_arena() noexcept = default;
    basic_arena(const basic_arena&) = delete;
    basic_arena& operator=(const basic_arena&) = delete;
    ~basic_arena() { clear(); }

    /// As basic_heap::allocate().
    [[nodiscard]] BINMALLOC_INLINE void* allocate(std::size_t size) noexcept
    {
        return operations::allocate(*this, size);
    }
    [[nodiscard]] BINMALLOC_INLINE void* allocate(std::size_t size, std::size_t alignment) noexcept
    {
        return operations::allocate(*this, size, alignment);
    }
    template <std::size_t Size, std::size_t Alignment>
    [[nodiscard]] BINMALLOC_INLINE void* allocate() noexcept
    {
        return operations::template allocate_constant<Size, Alignment>(*this);
    }
    [[nodiscard]] void* allocate_zeroed(std::size_t size) noexcept
    {
        return operations::allocate_zeroed(*this, size, detail::natural_alignment_of(size));
    }

    /// Effects: frees one block of this arena. Null is ignored. Blocks need not be freed one by one.
    void deallocate(void* p) noexcept { operations::deallocate(*this, p); }

    /// As basic_heap::reallocate().
    [[nodiscard]] void* reallocate(void* p, std::size_t new_size) noexcept
    {
        return operations::reallocate(*this, p, new_size, 0);
    }

    static std::size_t usable_size(const void* p) noexcept
    {
        return operations::usable_size_of(p);
    }

    /// Effects: frees every block. Requires: no other thread uses the arena or its blocks.
    void clear() noexcept
    {
        if (!open_) return;
        const gate_scope scope;
        guard held(lock_);
        bins_.release_all_slabs();
        while (detail::unit_header* h = bins_.spans.front()) {
            auto* s = static_cast<detail::span*>(h);
            bins_.detach(s);
            bins_.pages().deallocate_span(s);
        }
    }

    // What heap_operations asks of a core.

    using gate_scope = typename heap_core::gate_scope;

    /// Memcheck is not told of an arena's blocks.
    static constexpr bool is_watched() noexcept { return false; }

    BINMALLOC_INLINE void* allocate_block(detail::bin_index bin, std::size_t) noexcept
    {
        guard held(lock_);
        if (detail::block* b = bins_.lists.take(bin)) [[likely]]
            return b;
        return refill(bin);
    }

    void free_block(void* p) noexcept
    {
        if (p == nullptr) return;
        detail::unit_header* h = detail::first_header(detail::header_of(p));
        const os::keep_errno keep;
        const gate_scope scope;
        if (h->kind != detail::unit_kind::slab) {
            detail::free_span<pages_type>(p, h);
            return;
        }
        auto* s = static_cast<detail::slab*>(h);
        check_block(s, p, "free of a pointer inside a block");
        if (detail::tiny_bin::serves(s->block_size)) {
            s->home->tiny.deallocate(s, p, detail::pages_of<pages_type>(s));
            return;
        }
        if (s->home != &bins_) os::fatal("free of a block of another heap through an arena", p);
        guard held(lock_);
        bins_.deallocate(s, p);
    }

    void* allocate_span(std::size_t size, std::size_t alignment, bool* zeroed) noexcept
    {
        const gate_scope scope;
        guard held(lock_);
        if (!open()) return nullptr;
        const std::size_t bytes = detail::with_room(size, alignment);
        detail::span* s = bins_.pages().allocate_span(bytes, alignment, zeroed);
        if (s == nullptr) return nullptr;
        void* b = pages_type::block_in(s, size, alignment);
        detail::memcheck::make_accessible(b, detail::usable_bytes_of(s));
        bins_.attach(s);
        return b;
    }

private:
    using operations =
        std::conditional_t<Heap::policy::checked, detail::checked_operations<basic_arena>,
                           detail::heap_operations<basic_arena>>;
    using guard = detail::lock_guard<Lock>;

    BINMALLOC_OUTLINE void* refill(detail::bin_index bin) noexcept
    {
        const gate_scope scope;
        return open() ? bins_.refill(bin) : nullptr;
    }

    // The process heap is made at its first use, which may be this one and may fail.
    bool open() noexcept
    {
        if (open_) return true;
        pages_type* pages = heap_core::pages();
        if (pages == nullptr) return false;
        bins_.use(*pages);
        open_ = true;
        return true;
    }

    detail::cache<table, pages_type, true> bins_;
    [[no_unique_address]] Lock lock_;
    bool open_ = false;
};

/// A heap of one's own for one thread at a time.
using arena = basic_arena<heap, detail::no_lock>;

/// The same for any number of threads at once.
using locked_arena = basic_arena<heap, detail::spinlock>;

/// A container's allocator on an arena, which must outlive the container.
template <class T, class Arena = arena>
class arena_allocator {
public:
    using value_type = T;
    using is_always_equal = std::false_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;

    template <class U>
    struct rebind {
        using other = arena_allocator<U, Arena>;
    };

    arena_allocator(Arena& source) noexcept : arena_(&source) {} // implicit: containers convert
    template <class U>
    arena_allocator(const arena_allocator<U, Arena>& other) noexcept : arena_(other.source())
    {
    }

    /// As heap_allocator::allocate().
    [[nodiscard]] BINMALLOC_INLINE T* allocate(std::size_t n)
    {
        void* p;
        if (n == 1) {
            p = arena_->template allocate<sizeof(T), alignof(T)>();
        } else {
            if (n > SIZE_MAX / sizeof(T)) [[unlikely]]
                detail::throw_bad_array_new_length();
            p = arena_->allocate(n * sizeof(T), alignof(T));
        }
        if (p == nullptr) [[unlikely]]
            detail::throw_bad_alloc();
        return static_cast<T*>(p);
    }

    void deallocate(T* p, std::size_t) noexcept { arena_->deallocate(p); }

    Arena* source() const noexcept { return arena_; }

    template <class U>
    friend bool operator==(const arena_allocator& a, const arena_allocator<U, Arena>& b) noexcept
    {
        return a.source() == b.source();
    }

private:
    Arena* arena_;
};

#if BINMALLOC_HAS_MEMORY_RESOURCE
/// A std::pmr resource on an arena, which must outlive it. Resources on one arena are equal.
template <class Arena = arena>
class arena_resource : public std::pmr::memory_resource {
public:
    explicit arena_resource(Arena& source) noexcept : arena_(&source) {}

private:
    void* do_allocate(std::size_t size, std::size_t alignment) override
    {
        void* p = arena_->allocate(size, alignment);
        if (p == nullptr) detail::throw_bad_alloc();
        return p;
    }

    void do_deallocate(void* p, std::size_t, std::size_t) override { arena_->deallocate(p); }

    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override
    {
        if (this == &other) return true;
#    if defined(__cpp_rtti)
        const auto* same = dynamic_cast<const arena_resource*>(&other);
        return same != nullptr && same->arena_ == arena_;
#    else
        return false;
#    endif
    }

    Arena* arena_;
};
#endif

} // namespace binmalloc

#endif
