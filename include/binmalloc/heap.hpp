// binmalloc: heaps, and the policies that make one.
//
// Layer: heap. Thread safe. basic_heap<Policy> is a whole heap whose members are static; `heap` is
// the one that everything else in the library uses.
#ifndef BINMALLOC_HEAP_HPP
#define BINMALLOC_HEAP_HPP

#include <binmalloc/checked_operations.hpp>
#include <binmalloc/heap_operations.hpp>
#include <binmalloc/leased_heap.hpp>
#include <binmalloc/limit.hpp>
#include <binmalloc/single_cache_heap.hpp>

#include <type_traits>

namespace binmalloc {

/// Threading policy: 4 x ncpu caches, leased by threads. Needs thread_local and an exit hook.
struct leased_caches {
    template <class Policy>
    using core = detail::leased_heap<Policy>;
};

/// Threading policy: one cache behind a spinlock. Needs nothing but the C library.
struct single_cache {
    template <class Policy>
    using core = detail::single_cache_heap<Policy>;
};

/// Every decision of a heap that can be made otherwise. Derive from it and replace what should
/// differ; a heap with another policy is another heap.
struct default_policy {
    using size_classes = default_size_classes;
    using page_source = os_pages;
    using footprint = default_footprint;
#if BINMALLOC_SINGLE_CACHE
    using threading = single_cache;
#else
    using threading = leased_caches;
#endif

    /// Looks for misuse at every call; see checked_operations.hpp.
    static constexpr bool checked = BINMALLOC_CHECKED;

    /// Asked once, when the heap is made: the most that it may hold, in bytes.
    static std::size_t initial_limit() noexcept { return detail::limit_from_environment(); }
};

struct single_cache_policy : default_policy {
    using threading = single_cache;
};

struct checked_policy : default_policy {
    static constexpr bool checked = true;
};

template <class T>
concept threading_policy = std::same_as<T, leased_caches> || std::same_as<T, single_cache>;

template <class P>
concept heap_policy = size_class_policy<typename P::size_classes>
    && page_source<typename P::page_source> && footprint_policy<typename P::footprint>
    && threading_policy<typename P::threading> && requires {
           { P::initial_limit() } noexcept -> std::same_as<std::size_t>;
           { P::checked } -> std::convertible_to<bool>;
       };

/// A heap. All functions are thread safe and return null on failure. A block may be resized and
/// freed by any thread, through the heap type that it came from.
template <heap_policy Policy = default_policy>
class basic_heap {
    using core_type = typename Policy::threading::template core<Policy>;
    using operations =
        std::conditional_t<Policy::checked, detail::checked_operations<core_type>,
                           detail::heap_operations<core_type>>;

public:
    using policy = Policy;
    using core = core_type;

    /// Effects: allocates `size` bytes, aligned to 16 (8 for up to 8 bytes).
    /// Returns: the block, unique also for size 0; null when there is no memory or the size is
    /// absurd.
    [[nodiscard]] BINMALLOC_INLINE static void* allocate(std::size_t size) noexcept
    {
        core_type c;
        return operations::allocate(c, size);
    }

    /// As above, for an alignment that may be less (for objects of a known type: 4 and 24 bytes take
    /// just that) or more than malloc's. Null if it is not a power of two or over 2^40.
    [[nodiscard]] BINMALLOC_INLINE static void* allocate(std::size_t size,
                                                         std::size_t alignment) noexcept
    {
        core_type c;
        return operations::allocate(c, size, alignment);
    }

    /// As above, for constants: the size class is found at compile time.
    template <std::size_t Size, std::size_t Alignment>
    [[nodiscard]] BINMALLOC_INLINE static void* allocate() noexcept
    {
        core_type c;
        return operations::template allocate_constant<Size, Alignment>(c);
    }

    /// As allocate(size), but null where that takes longer.
    [[nodiscard]] BINMALLOC_INLINE static void* take(std::size_t size) noexcept
    {
        core_type c;
        return operations::take(c, size);
    }

    /// As allocate(size), but leaves all that takes longer to `slow(size)`, whose answer is returned.
    template <class Slow>
    [[nodiscard]] BINMALLOC_INLINE static void* allocate_or(std::size_t size, Slow slow)
    {
        core_type c;
        return operations::allocate_or(c, size, slow);
    }

    /// For `slow` to begin with: allocate(size) after allocate_or(size, slow) found nothing.
    [[nodiscard]] BINMALLOC_INLINE static void* allocate_rest(std::size_t size) noexcept
    {
        core_type c;
        return operations::allocate_rest(c, size);
    }

    /// As allocate(), with zero bytes; memory that the OS just gave is not cleared again.
    [[nodiscard]] static void* allocate_zeroed(std::size_t size) noexcept
    {
        return allocate_zeroed(size, detail::natural_alignment_of(size));
    }
    [[nodiscard]] static void* allocate_zeroed(std::size_t size, std::size_t alignment) noexcept
    {
        core_type c;
        return operations::allocate_zeroed(c, size, alignment);
    }

    /// As allocate(); `count` is the number of bytes that may be used.
    [[nodiscard]] static allocation_result<void*> allocate_at_least(std::size_t size) noexcept
    {
        return allocate_at_least(size, detail::natural_alignment_of(size));
    }
    [[nodiscard]] static allocation_result<void*> allocate_at_least(std::size_t size,
                                                                    std::size_t alignment) noexcept
    {
        core_type c;
        return operations::allocate_at_least(c, size, alignment);
    }

    /// Effects: frees a block. Null is ignored. errno is kept. The size and the alignment, where the
    /// caller knows them, must be those of the allocation; a checked heap ends the process if the
    /// size is not.
    BINMALLOC_INLINE static void deallocate(void* p) noexcept
    {
        core_type c;
        operations::deallocate(c, p);
    }
    BINMALLOC_INLINE static void deallocate(void* p, std::size_t size) noexcept
    {
        core_type c;
        operations::deallocate(c, p, size);
    }
    BINMALLOC_INLINE static void deallocate(void* p, std::size_t size, std::size_t) noexcept
    {
        deallocate(p, size);
    }

    /// As above, for constants: the size class is not looked up, so it must be right.
    template <std::size_t Size, std::size_t Alignment>
    BINMALLOC_INLINE static void deallocate(void* p) noexcept
    {
        core_type c;
        operations::template deallocate_constant<Size, Alignment>(c, p);
    }

    /// Effects: resizes a block, in place where possible; null `p` allocates.
    /// Returns: the block's address, content kept up to the smaller size; null on failure, and then
    /// the old block is as it was. A block that has to move gets some slack if it grows by little (up to a
    /// quarter of what it had) or beyond 16 KiB (an eighth), so that one that keeps growing moves seldom.
    [[nodiscard]] static void* reallocate(void* p, std::size_t new_size) noexcept
    {
        return reallocate(p, new_size, 0);
    }
    [[nodiscard]] static void* reallocate(void* p, std::size_t new_size,
                                          std::size_t alignment) noexcept
    {
        core_type c;
        return operations::reallocate(c, p, new_size, alignment);
    }

    /// Returns: true if reallocate(p, new_size) would do nothing but return `p`, which is not null. False
    /// says nothing.
    [[nodiscard]] BINMALLOC_INLINE static bool may_stay(void* p, std::size_t new_size) noexcept
    {
        return operations::may_stay(p, new_size);
    }

    /// Returns: bytes that may be used at `p`; 0 for null.
    static std::size_t usable_size(const void* p) noexcept
    {
        return operations::usable_size_of(p);
    }

    /// Returns: bytes that a block allocated for such a request would have, at least: one over 1 KiB may
    /// have up to a half more, where it was borrowed from a larger size class, and one over 4 MiB up to a
    /// quarter more, when it was in use before.
    static std::size_t good_size(std::size_t size) noexcept
    {
        return good_size(size, detail::natural_alignment_of(size));
    }
    static std::size_t good_size(std::size_t size, std::size_t alignment) noexcept
    {
        return operations::good_size(size, alignment);
    }

    /// Effects: gives memory that no block uses back to the OS, as far as the calling thread may
    /// touch it: its own cache, caches that no thread holds, and all free spans.
    static void purge() noexcept { core_type::purge(); }

    /// Effects: gives back what nobody has needed for the footprint's delay. Other calls do so in
    /// passing; this is for programs that make none for long (see background_purge.hpp).
    static void purge_aged() noexcept { core_type::purge_aged(); }

    /// Effects: from now on the heap holds at most so many bytes of the OS's memory, in use or waiting
    /// for reuse (statistics().live + dirty); SIZE_MAX: no limit. A request that would pass it first
    /// purges, then fails. Less than is in use now is allowed: blocks stay, new memory is refused
    /// until enough was freed.
    static void set_limit(std::size_t bytes) noexcept { core_type::set_limit(bytes); }
    static std::size_t limit() noexcept { return core_type::limit(); }

    /// Returns: the heap's memory, in bytes.
    static page_statistics statistics() noexcept { return core_type::statistics(); }
};

/// The process heap.
using heap = basic_heap<>;

} // namespace binmalloc

#endif
