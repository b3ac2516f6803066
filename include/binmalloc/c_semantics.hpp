// binmalloc: the process heap by the rules of C: errno, zero sizes, overflow, invalid alignments.
//
// Layer: front ends. Thread safe, also in a process that is still being loaded. Both the bin_*
// functions and the overridden standard names are one call of these.
#ifndef BINMALLOC_C_SEMANTICS_HPP
#define BINMALLOC_C_SEMANTICS_HPP

#include <binmalloc/functions.hpp>

#include <cerrno>
#include <cstring>

namespace binmalloc::detail::c {

BINMALLOC_SLOW inline void* fail(int error) noexcept
{
    errno = error;
    return nullptr;
}

BINMALLOC_INLINE void* or_enomem(void* p) noexcept
{
    return p != nullptr ? p : fail(ENOMEM);
}

/// Returns: if a * b is more than any object's size. Effects: sets `product` otherwise.
inline bool overflows(std::size_t a, std::size_t b, std::size_t& product) noexcept
{
#if defined(__GNUC__)
    return __builtin_mul_overflow(a, b, &product);
#else
    product = a * b;
    return b != 0 && a > SIZE_MAX / b;
#endif
}

/// No C function gives less than malloc's alignment.
inline void* allocate_aligned(std::size_t alignment, std::size_t size) noexcept
{
    heap::core::settle();
    if (alignment <= natural_alignment_of(size)) return binmalloc::allocate(size);
    return binmalloc::allocate(size, alignment);
}

BINMALLOC_OUTLINE inline void* malloc_slow(std::size_t size) noexcept
{
    heap::core::settle();
    return or_enomem(heap::allocate_rest(size));
}

BINMALLOC_INLINE void* malloc(std::size_t size) noexcept
{
    return heap::allocate_or(size, malloc_slow);
}

BINMALLOC_OUTLINE inline void* calloc_slow(std::size_t size) noexcept
{
    [[maybe_unused]] const heap::core::calloc_scope scope;
    return or_enomem(binmalloc::allocate_zeroed(size));
}

BINMALLOC_INLINE void* calloc(std::size_t count, std::size_t size) noexcept
{
    std::size_t bytes;
    if (overflows(count, size, bytes)) return fail(ENOMEM);
    void* p = heap::take(bytes);
    return p != nullptr ? std::memset(p, 0, bytes) : calloc_slow(bytes);
}

BINMALLOC_OUTLINE inline void* realloc_slow(void* p, std::size_t size) noexcept
{
    if (size == 0) {
        binmalloc::deallocate(p);
        return nullptr;
    }
    heap::core::settle();
    return or_enomem(binmalloc::reallocate(p, size));
}

/// As glibc: size 0 frees and gives null (a null `p` always allocates).
BINMALLOC_INLINE void* realloc(void* p, std::size_t size) noexcept
{
    if (p == nullptr) return c::malloc(size);
    return heap::may_stay(p, size) ? p : realloc_slow(p, size); // no block stays for size 0
}

inline void* reallocarray(void* p, std::size_t count, std::size_t size) noexcept
{
    std::size_t bytes;
    if (overflows(count, size, bytes)) return fail(ENOMEM);
    return c::realloc(p, bytes);
}

/// Also memalign. The size need not be a multiple of the alignment.
inline void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept
{
    if (!is_power_of_two(alignment)) return fail(EINVAL);
    return or_enomem(allocate_aligned(alignment, size));
}

/// Returns the error and leaves errno and, on failure, `*result` alone.
inline int posix_memalign(void** result, std::size_t alignment, std::size_t size) noexcept
{
    if (!is_power_of_two(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
    const os::keep_errno keep;
    void* p = allocate_aligned(alignment, size);
    if (p == nullptr) return ENOMEM;
    *result = p;
    return 0;
}

inline void* valloc(std::size_t size) noexcept
{
    return or_enomem(allocate_aligned(os::page_size(), size));
}

/// As valloc, the size rounded up to whole OS pages, at least one.
inline void* pvalloc(std::size_t size) noexcept
{
    const std::size_t page = os::page_size();
    if (size > max_request) return fail(ENOMEM);
    return or_enomem(allocate_aligned(page, align_up(size == 0 ? 1 : size, page)));
}

/// Returns 1 if memory was given back, else 0. There is no top of the heap, so no pad.
inline int malloc_trim() noexcept
{
    const os::keep_errno keep;
    const std::size_t before = binmalloc::statistics().dirty;
    binmalloc::purge();
    return binmalloc::statistics().dirty < before ? 1 : 0;
}

} // namespace binmalloc::detail::c

#endif
