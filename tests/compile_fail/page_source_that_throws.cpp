// expect: S::reserve
// A page source reports failure by null: its functions are noexcept.
#include <binmalloc/binmalloc.hpp>

#include <cstddef>

struct thrower : binmalloc::os_pages {
    static void* reserve(std::size_t size, std::size_t alignment)
    {
        if (size > 100) throw size;
        return binmalloc::os_pages::reserve(size, alignment);
    }
};

struct policy : binmalloc::default_policy {
    using page_source = thrower;
};

int main()
{
    binmalloc::basic_heap<policy>::deallocate(binmalloc::basic_heap<policy>::allocate(10));
}
