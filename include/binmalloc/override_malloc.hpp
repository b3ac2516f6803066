// binmalloc: definitions of malloc and its family.
//
// Layer: front ends. For one source file of a program (or for a library to preload); binmalloc.hpp
// includes it where BINMALLOC_OVERRIDE_MALLOC is defined. All names that hand out or take back memory
// are replaced together: a block of one allocator must never reach the other.
//
// Which names glibc expects of a replacement is in its manual, "Replacing malloc"; the __libc_ names
// are what its own static archive refers to.
#ifndef BINMALLOC_OVERRIDE_MALLOC_HPP
#define BINMALLOC_OVERRIDE_MALLOC_HPP

#include <binmalloc/c_semantics.hpp>

#if defined(_WIN32) || defined(__APPLE__)
#    error "BINMALLOC_OVERRIDE_MALLOC needs an ELF system; BINMALLOC_OVERRIDE_NEW_DELETE works here"
#endif

#include <stdlib.h>
#if __has_include(<malloc.h>)
#    include <malloc.h>
#endif

// glibc declares these functions as not throwing, other C libraries say nothing.
#if defined(__THROW)
#    define BINMALLOC_NOTHROW __THROW
#else
#    define BINMALLOC_NOTHROW
#endif

extern "C" {

BINMALLOC_EXPORT void* malloc(size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::malloc(size);
}
BINMALLOC_EXPORT void free(void* p) BINMALLOC_NOTHROW { binmalloc::deallocate(p); }
BINMALLOC_EXPORT void* calloc(size_t count, size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::calloc(count, size);
}
BINMALLOC_EXPORT void* realloc(void* p, size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::realloc(p, size);
}
BINMALLOC_EXPORT void* reallocarray(void* p, size_t count, size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::reallocarray(p, count, size);
}
BINMALLOC_EXPORT void* aligned_alloc(size_t alignment, size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::aligned_alloc(alignment, size);
}
BINMALLOC_EXPORT void* memalign(size_t alignment, size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::aligned_alloc(alignment, size);
}
BINMALLOC_EXPORT int posix_memalign(void** result, size_t alignment, size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::posix_memalign(result, alignment, size);
}
BINMALLOC_EXPORT void* valloc(size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::valloc(size);
}
BINMALLOC_EXPORT void* pvalloc(size_t size) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::pvalloc(size);
}
BINMALLOC_EXPORT size_t malloc_usable_size(void* p) BINMALLOC_NOTHROW
{
    return binmalloc::usable_size(p);
}
BINMALLOC_EXPORT int malloc_trim(size_t) BINMALLOC_NOTHROW
{
    return binmalloc::detail::c::malloc_trim();
}
BINMALLOC_EXPORT void free_sized(void* p, size_t size) { binmalloc::deallocate(p, size); }
BINMALLOC_EXPORT void free_aligned_sized(void* p, size_t alignment, size_t size)
{
    binmalloc::deallocate(p, size, alignment);
}
BINMALLOC_EXPORT void cfree(void* p) { binmalloc::deallocate(p); }

#if defined(__GLIBC__)
BINMALLOC_EXPORT void* __libc_malloc(size_t size) { return binmalloc::detail::c::malloc(size); }
BINMALLOC_EXPORT void __libc_free(void* p) { binmalloc::deallocate(p); }
BINMALLOC_EXPORT void __libc_cfree(void* p) { binmalloc::deallocate(p); }
BINMALLOC_EXPORT void* __libc_calloc(size_t count, size_t size)
{
    return binmalloc::detail::c::calloc(count, size);
}
BINMALLOC_EXPORT void* __libc_realloc(void* p, size_t size)
{
    return binmalloc::detail::c::realloc(p, size);
}
BINMALLOC_EXPORT void* __libc_reallocarray(void* p, size_t count, size_t size)
{
    return binmalloc::detail::c::reallocarray(p, count, size);
}
BINMALLOC_EXPORT void* __libc_memalign(size_t alignment, size_t size)
{
    return binmalloc::detail::c::aligned_alloc(alignment, size);
}
BINMALLOC_EXPORT void* __libc_valloc(size_t size) { return binmalloc::detail::c::valloc(size); }
BINMALLOC_EXPORT void* __libc_pvalloc(size_t size) { return binmalloc::detail::c::pvalloc(size); }
BINMALLOC_EXPORT int __posix_memalign(void** result, size_t alignment, size_t size)
{
    return binmalloc::detail::c::posix_memalign(result, alignment, size);
}
#endif

} // extern "C"

#endif
