// page_blocks N: allocates 4 KiB N times and frees them, 25 blocks at a time: slabs fill and become
// empty in turns. See budget.sh.
#include <binmalloc/binmalloc.hpp>

#include <cstdlib>

int main(int, char** arguments)
{
    void* blocks[25];
    for (long left = std::atol(arguments[1]); left > 0; left -= 25) {
        for (void*& block : blocks) block = binmalloc::allocate(4096);
        for (void* block : blocks) binmalloc::deallocate(block);
    }
    return 0;
}
