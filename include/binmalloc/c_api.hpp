// binmalloc: definitions of the C interface (binmalloc.h).
//
// Layer: front ends. For one source file of a program; binmalloc.hpp includes it where
// BINMALLOC_DEFINE_C_API is defined.
#ifndef BINMALLOC_C_API_HPP
#define BINMALLOC_C_API_HPP

#include <binmalloc/binmalloc.h>
#include <binmalloc/c_semantics.hpp>

extern "C" {

BINMALLOC_EXPORT void* bin_malloc(size_t size) { return binmalloc::detail::c::malloc(size); }
BINMALLOC_EXPORT void bin_free(void* p) { binmalloc::deallocate(p); }
BINMALLOC_EXPORT void* bin_calloc(size_t count, size_t size)
{
    return binmalloc::detail::c::calloc(count, size);
}
BINMALLOC_EXPORT void* bin_realloc(void* p, size_t size)
{
    return binmalloc::detail::c::realloc(p, size);
}
BINMALLOC_EXPORT void* bin_reallocarray(void* p, size_t count, size_t size)
{
    return binmalloc::detail::c::reallocarray(p, count, size);
}
BINMALLOC_EXPORT void* bin_aligned_alloc(size_t alignment, size_t size)
{
    return binmalloc::detail::c::aligned_alloc(alignment, size);
}
BINMALLOC_EXPORT void* bin_memalign(size_t alignment, size_t size)
{
    return binmalloc::detail::c::aligned_alloc(alignment, size);
}
BINMALLOC_EXPORT int bin_posix_memalign(void** result, size_t alignment, size_t size)
{
    return binmalloc::detail::c::posix_memalign(result, alignment, size);
}
BINMALLOC_EXPORT void* bin_valloc(size_t size) { return binmalloc::detail::c::valloc(size); }
BINMALLOC_EXPORT void* bin_pvalloc(size_t size) { return binmalloc::detail::c::pvalloc(size); }
BINMALLOC_EXPORT size_t bin_malloc_usable_size(const void* p) { return binmalloc::usable_size(p); }
BINMALLOC_EXPORT size_t bin_malloc_good_size(size_t size) { return binmalloc::good_size(size); }
BINMALLOC_EXPORT void bin_free_sized(void* p, size_t n) { binmalloc::deallocate(p, n); }
BINMALLOC_EXPORT void bin_free_aligned_sized(void* p, size_t alignment, size_t size)
{
    binmalloc::deallocate(p, size, alignment);
}
BINMALLOC_EXPORT void bin_cfree(void* p) { binmalloc::deallocate(p); }
BINMALLOC_EXPORT void bin_set_limit(size_t bytes) { binmalloc::set_limit(bytes); }
BINMALLOC_EXPORT size_t bin_limit(void) { return binmalloc::limit(); }
BINMALLOC_EXPORT int bin_malloc_trim(size_t) { return binmalloc::detail::c::malloc_trim(); }

} // extern "C"

#endif
