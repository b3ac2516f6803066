// binmalloc: the allocator for standard containers.
//
// Layer: front ends. Stateless, thread safe. It knows the type: one node of 24 bytes with 8-byte
// alignment takes 24 bytes, its size class is a constant, and the call is a few instructions inline.
#ifndef BINMALLOC_ALLOCATOR_HPP
#define BINMALLOC_ALLOCATOR_HPP

#include <binmalloc/failure.hpp>
#include <binmalloc/heap.hpp>

#include <type_traits>

namespace binmalloc {

/// Meets Cpp17Allocator, for any heap type; over-aligned T works.
template <class T, class Heap>
class heap_allocator {
public:
    using value_type = T;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using propagate_on_container_move_assignment = std::true_type;
    using is_always_equal = std::true_type;

    template <class U>
    struct rebind {
        using other = heap_allocator<U, Heap>;
    };

    constexpr heap_allocator() noexcept = default;
    template <class U>
    constexpr heap_allocator(const heap_allocator<U, Heap>&) noexcept
    {
    }

    /// Returns: uninitialised memory for `n` objects.
    /// Throws: std::bad_array_new_length if n * sizeof(T) overflows, std::bad_alloc without memory.
    [[nodiscard]] BINMALLOC_INLINE T* allocate(std::size_t n)
    {
        void* p;
        if (n == 1) {
            p = Heap::template allocate<sizeof(T), alignof(T)>();
        } else {
            if (n > SIZE_MAX / sizeof(T)) [[unlikely]]
                detail::throw_bad_array_new_length();
            p = Heap::allocate(n * sizeof(T), alignof(T));
        }
        if (p == nullptr) [[unlikely]]
            detail::throw_bad_alloc();
        return static_cast<T*>(p);
    }

    /// As allocate(); `count` is for how many objects there is room.
    [[nodiscard]] allocation_result<T*> allocate_at_least(std::size_t n)
    {
        if (n > SIZE_MAX / sizeof(T)) [[unlikely]]
            detail::throw_bad_array_new_length();
        const auto result = Heap::allocate_at_least(n * sizeof(T), alignof(T));
        if (result.ptr == nullptr) [[unlikely]]
            detail::throw_bad_alloc();
        return {static_cast<T*>(result.ptr), result.count / sizeof(T)};
    }

    /// Requires: p came from allocate(n), or from allocate_at_least with n up to its count.
    BINMALLOC_INLINE void deallocate(T* p, std::size_t n) noexcept
    {
#if defined(__GNUC__)
        if (p == nullptr) __builtin_unreachable();
        if (__builtin_constant_p(n) && n == 1) {
            Heap::template deallocate<sizeof(T), alignof(T)>(p);
            return;
        }
#endif
        Heap::deallocate(p, n * sizeof(T), alignof(T));
    }

    template <class U>
    friend constexpr bool operator==(const heap_allocator&,
                                     const heap_allocator<U, Heap>&) noexcept
    {
        return true;
    }
};

/// The process heap for containers: std::list<int, binmalloc::allocator<int>>.
template <class T>
using allocator = heap_allocator<T, heap>;

} // namespace binmalloc

#endif
