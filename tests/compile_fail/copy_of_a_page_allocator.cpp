// expect: deleted (function|constructor)
// Two page allocators cannot own the same pages.
#include <binmalloc/binmalloc.hpp>

int main()
{
    binmalloc::page_allocator first;
    binmalloc::page_allocator second(first);
}
