/* A malloc with one fault, for LD_PRELOAD: FAULT says which. Blocks of 5000 bytes have it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* block);

enum { faulty_size = 5000 };
static char twice[2 * faulty_size];

static int has(const char* fault, size_t size)
{
    const char* const asked = getenv("FAULT");
    return size == faulty_size && asked != NULL && strcmp(asked, fault) == 0;
}

void* malloc(size_t size)
{
    if (has("twice", size)) return twice;
    return has("none", size) ? NULL : __libc_malloc(size);
}

void* calloc(size_t count, size_t size)
{
    void* const block = __libc_calloc(count, size);
    if (has("not_zero", count * size)) memset(block, 1, count * size);
    return block;
}

void* realloc(void* block, size_t size)
{
    char* const moved = __libc_realloc(block, size);
    if (has("not_kept", size)) memset(moved, 0, size);
    return moved;
}

int posix_memalign(void** block, size_t alignment, size_t size)
{
    *block = __libc_memalign(alignment, size + 16);
    if (has("not_aligned", size)) *block = (char*)*block + 16;
    return *block == NULL ? ENOMEM : 0;
}

void free(void* block)
{
    if (block != twice) __libc_free(block);
}
