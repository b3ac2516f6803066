/* A program that knows nothing of binmalloc, run on libbinmalloc.so. */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    /* The malloc that the program gets stands in the library that has bin_malloc. */
    Dl_info standard;
    Dl_info ours;
    void* const bin_malloc = dlsym(RTLD_DEFAULT, "bin_malloc");
    if (bin_malloc == NULL || dladdr(bin_malloc, &ours) == 0) return 1;
    if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &standard) == 0) return 1;
    if (strcmp(standard.dli_fname, ours.dli_fname) != 0) return 1;

    char* const block = (char*)malloc(100000);
    if (block == NULL) return 1;
    memset(block, 1, 100000);
    free(block);
    return 0;
}
