#include <binmalloc/binmalloc.hpp>

void* allocated_by_other_unit() { return binmalloc::allocate(100); }

bool deallocated_by_other_unit(void* block)
{
    binmalloc::deallocate(block);
    void* const again = binmalloc::allocate(100);
    binmalloc::deallocate(again);
    return again == block;
}
