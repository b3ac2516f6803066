/* malloc_pair N: allocates and frees 32 bytes, or BLOCK_SIZE, N times through malloc and free. See budget.sh. */
#include <stdlib.h>

#ifndef BLOCK_SIZE
#    define BLOCK_SIZE 32
#endif

int main(int argc, char** argv)
{
    (void)argc;
    for (long i = atol(argv[1]); i > 0; --i) {
        void* p = malloc(BLOCK_SIZE);
        __asm__ volatile("" : : "r"(p) : "memory"); /* or the compiler removes the pair */
        free(p);
    }
    return 0;
}
