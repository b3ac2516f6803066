/* malloc and bin_malloc must be one allocator: what one allocates, the other measures and frees. */
#include <binmalloc/binmalloc.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    static const size_t sizes[] = {1, 24, 1000, 100000, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
        char* block = (char*)malloc(sizes[i]);
        if (block == NULL || bin_malloc_usable_size(block) != bin_malloc_good_size(sizes[i])) {
            return 1;
        }
        memset(block, 1, sizes[i]);
        bin_free(block);
    }
    char* const copy = strdup("allocated inside the C library");
    const int failed = copy == NULL || bin_malloc_usable_size(copy) != bin_malloc_good_size(31);
    free(copy);
    return failed;
}
