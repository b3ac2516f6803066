// expect: deleted (function|constructor)
// Two arenas cannot own the same blocks.
#include <binmalloc/binmalloc.hpp>

int main()
{
    binmalloc::arena first;
    binmalloc::arena second(first);
}
