// inlined_pair N: allocates and frees one block of 32 bytes N times through the C interface, defined in
// this file so that the calls are inlined, while another block of its size lives. See budget.sh.
#define BINMALLOC_DEFINE_C_API
#include <binmalloc/binmalloc.hpp>

#include <cstdlib>

int main(int, char** argv)
{
    void* other = bin_malloc(32);
    for (long i = std::atol(argv[1]); i > 0; --i) {
        void* p = bin_malloc(32);
        asm volatile("" : : "r"(p) : "memory"); // or the compiler removes the pair
        bin_free(p);
    }
    bin_free(other);
}
