/* span_pair N: allocates and frees 20 KiB N times through malloc and free. See budget.sh. */
#include <stdlib.h>

int main(int argc, char** argv)
{
    (void)argc;
    for (long i = atol(argv[1]); i > 0; --i) {
        void* p = malloc(20480);
        __asm__ volatile("" : : "r"(p) : "memory"); /* or the compiler removes the pair */
        free(p);
    }
    return 0;
}
