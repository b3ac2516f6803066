/* The C API by itself, beside the system's malloc. */
#include <binmalloc/binmalloc.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    char* const theirs = (char*)malloc(100);
    char* ours = (char*)bin_calloc(10, 10);
    if (theirs == NULL || ours == NULL || ours[99] != 0) return 1;
    ours = (char*)bin_realloc(ours, 100000);
    if (ours == NULL || bin_malloc_usable_size(ours) < 100000) return 1;
    memset(ours, 1, 100000);
    bin_free(ours);
    free(theirs);
    return 0;
}
