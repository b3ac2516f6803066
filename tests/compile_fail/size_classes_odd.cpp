// expect: valid_sizes
// Block sizes must be 4 or multiples of 8.
#include <binmalloc/binmalloc.hpp>

#include <array>
#include <cstdint>

struct odd {
    static constexpr std::array<std::uint32_t, 3> sizes{8, 17, 32};
};

struct policy : binmalloc::default_policy {
    using size_classes = odd;
};

int main()
{
    binmalloc::basic_heap<policy>::deallocate(binmalloc::basic_heap<policy>::allocate(10));
}
