// Half of a program; the command line includes every header into both halves. What one half
// allocates, the other frees: they must share one heap.
#include <binmalloc/binmalloc.hpp>

void* allocated_by_other_unit();
bool deallocated_by_other_unit(void* block);

int main()
{
    void* const theirs = allocated_by_other_unit();
    binmalloc::deallocate(theirs);
    // Last in, first out within one heap; two heaps would give two different blocks.
    void* const ours = binmalloc::allocate(100);
    const bool same_heap = ours == theirs;
    return same_heap && deallocated_by_other_unit(ours) ? 0 : 1;
}
