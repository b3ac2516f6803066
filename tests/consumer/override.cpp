// operator new must be binmalloc's: only for its own blocks is usable_size what good_size promises,
// small and large. A block of another allocator has no header to find.
#include <binmalloc/binmalloc.hpp>

#include <cstddef>
#include <new>
#include <string>

int main()
{
    for (const std::size_t size : {1, 24, 1000, 100000, 1 << 20}) {
        void* const block = ::operator new(size);
        if (binmalloc::usable_size(block) != binmalloc::good_size(size)) return 1;
        ::operator delete(block);
    }
    std::string text(1000, 'x');
    return binmalloc::usable_size(text.data()) >= 1001 ? 0 : 1;
}
