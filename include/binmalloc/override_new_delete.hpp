// binmalloc: definitions of operator new and delete, all twenty replaceable forms.
//
// Layer: front ends. For one source file of a program; binmalloc.hpp includes it where
// BINMALLOC_OVERRIDE_NEW_DELETE is defined. The forms are replaced together: a block of one allocator
// must never reach the other.
#ifndef BINMALLOC_OVERRIDE_NEW_DELETE_HPP
#define BINMALLOC_OVERRIDE_NEW_DELETE_HPP

#include <binmalloc/failure.hpp>
#include <binmalloc/functions.hpp>

#include <new>

namespace binmalloc::detail {

/// `alignment` 0 stands for malloc's rule, and no form gives less than that.
BINMALLOC_INLINE void* try_new(std::size_t size, std::size_t alignment) noexcept
{
    heap::core::settle();
    if (alignment <= natural_alignment_of(size)) return allocate(size);
    return allocate(size, alignment);
}

/// The new-handler loop of [new.delete.single]: a handler may free something, throw, or leave.
[[nodiscard]] BINMALLOC_SLOW inline void* new_without_memory(std::size_t size, std::size_t alignment)
{
#if BINMALLOC_HAS_EXCEPTIONS || !BINMALLOC_SINGLE_CACHE
    while (const std::new_handler handler = std::get_new_handler()) {
        handler();
        if (void* p = try_new(size, alignment)) return p;
    }
#else
    (void)size;
    (void)alignment; // handlers live in the C++ runtime library, which is not there
#endif
    throw_bad_alloc();
}

[[nodiscard]] BINMALLOC_OUTLINE inline void* new_slow(std::size_t size)
{
    heap::core::settle();
    void* p = heap::allocate_rest(size);
    return p != nullptr ? p : new_without_memory(size, 0);
}

BINMALLOC_INLINE void* new_or_throw(std::size_t size) { return heap::allocate_or(size, new_slow); }

BINMALLOC_INLINE void* new_or_throw(std::size_t size, std::size_t alignment)
{
    void* p = try_new(size, alignment);
    if (p == nullptr) [[unlikely]]
        p = new_without_memory(size, alignment);
    return p;
}

BINMALLOC_INLINE void* new_or_null(std::size_t size, std::size_t alignment = 0) noexcept
{
    void* p = try_new(size, alignment);
#if BINMALLOC_HAS_EXCEPTIONS
    if (p == nullptr) [[unlikely]] {
        try {
            p = new_without_memory(size, alignment);
        } catch (...) { // what a handler throws says no more than null does
        }
    }
#endif
    return p;
}

} // namespace binmalloc::detail

BINMALLOC_EXPORT void* operator new(std::size_t n) { return binmalloc::detail::new_or_throw(n); }
BINMALLOC_EXPORT void* operator new[](std::size_t n) { return binmalloc::detail::new_or_throw(n); }
BINMALLOC_EXPORT void* operator new(std::size_t n, const std::nothrow_t&) noexcept
{
    return binmalloc::detail::new_or_null(n);
}
BINMALLOC_EXPORT void* operator new[](std::size_t n, const std::nothrow_t&) noexcept
{
    return binmalloc::detail::new_or_null(n);
}
BINMALLOC_EXPORT void* operator new(std::size_t n, std::align_val_t a)
{
    return binmalloc::detail::new_or_throw(n, static_cast<std::size_t>(a));
}
BINMALLOC_EXPORT void* operator new[](std::size_t n, std::align_val_t a)
{
    return binmalloc::detail::new_or_throw(n, static_cast<std::size_t>(a));
}
BINMALLOC_EXPORT void* operator new(std::size_t n, std::align_val_t a,
                                    const std::nothrow_t&) noexcept
{
    return binmalloc::detail::new_or_null(n, static_cast<std::size_t>(a));
}
BINMALLOC_EXPORT void* operator new[](std::size_t n, std::align_val_t a,
                                      const std::nothrow_t&) noexcept
{
    return binmalloc::detail::new_or_null(n, static_cast<std::size_t>(a));
}

BINMALLOC_EXPORT void operator delete(void* p) noexcept { binmalloc::deallocate(p); }
BINMALLOC_EXPORT void operator delete[](void* p) noexcept { binmalloc::deallocate(p); }
BINMALLOC_EXPORT void operator delete(void* p, std::size_t n) noexcept { binmalloc::deallocate(p, n); }
BINMALLOC_EXPORT void operator delete[](void* p, std::size_t n) noexcept
{
    binmalloc::deallocate(p, n);
}
BINMALLOC_EXPORT void operator delete(void* p, const std::nothrow_t&) noexcept
{
    binmalloc::deallocate(p);
}
BINMALLOC_EXPORT void operator delete[](void* p, const std::nothrow_t&) noexcept
{
    binmalloc::deallocate(p);
}
BINMALLOC_EXPORT void operator delete(void* p, std::align_val_t) noexcept
{
    binmalloc::deallocate(p);
}
BINMALLOC_EXPORT void operator delete[](void* p, std::align_val_t) noexcept
{
    binmalloc::deallocate(p);
}
BINMALLOC_EXPORT void operator delete(void* p, std::size_t n, std::align_val_t a) noexcept
{
    binmalloc::deallocate(p, n, static_cast<std::size_t>(a));
}
BINMALLOC_EXPORT void operator delete[](void* p, std::size_t n, std::align_val_t a) noexcept
{
    binmalloc::deallocate(p, n, static_cast<std::size_t>(a));
}
BINMALLOC_EXPORT void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept
{
    binmalloc::deallocate(p);
}
BINMALLOC_EXPORT void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept
{
    binmalloc::deallocate(p);
}

#endif
