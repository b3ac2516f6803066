/* binmalloc: the C interface.
 *
 * Thread safe. Contracts are those of the standard functions without the prefix (glibc's where the
 * standard leaves a choice); sizes are bytes. The definitions come from one C++ source file of the
 * program:
 *
 *     #define BINMALLOC_DEFINE_C_API
 *     #include <binmalloc/binmalloc.hpp>
 *
 * or from the CMake target binmalloc::c.
 */
#ifndef BINMALLOC_H
#define BINMALLOC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* At least `size` bytes aligned to 16 (8 for up to 8 bytes), unique also for size 0. Null and ENOMEM
 * without memory. */
void* bin_malloc(size_t size);

/* Frees a block of any function here. Null is ignored. errno is kept. */
void bin_free(void* p);

/* count * size zero bytes. Null and ENOMEM without memory or if the product overflows. */
void* bin_calloc(size_t count, size_t size);

/* Resizes; null `p` allocates; size 0 frees and returns null. On failure null and ENOMEM, and the old
 * block stays. */
void* bin_realloc(void* p, size_t size);
void* bin_reallocarray(void* p, size_t count, size_t size);

/* `alignment` is a power of two, else null and EINVAL. */
void* bin_aligned_alloc(size_t alignment, size_t size);
void* bin_memalign(size_t alignment, size_t size);

/* Returns 0, EINVAL (alignment not a power of two or below sizeof(void*)) or ENOMEM; errno is kept. */
int bin_posix_memalign(void** result, size_t alignment, size_t size);

/* Aligned to an OS page; pvalloc also rounds the size up to whole pages. */
void* bin_valloc(size_t size);
void* bin_pvalloc(size_t size);

/* Bytes that may be used at p; 0 for null. */
size_t bin_malloc_usable_size(const void* p);

/* Bytes that bin_malloc(size) would give, at least. */
size_t bin_malloc_good_size(size_t size);

/* bin_free for callers who know the size, and the alignment, of the allocation (C23). */
void bin_free_sized(void* p, size_t size);
void bin_free_aligned_sized(void* p, size_t alignment, size_t size);
void bin_cfree(void* p);

/* Gives free memory back to the OS now. Returns 1 if there was any, else 0; `pad` is ignored. */
int bin_malloc_trim(size_t pad);

/* From now on the process heap holds at most so many bytes, in use or waiting for reuse; SIZE_MAX: no
 * limit. A request that would pass it first gives free memory back, then fails. */
void bin_set_limit(size_t bytes);
size_t bin_limit(void);

#ifdef __cplusplus
}
#endif

#endif
