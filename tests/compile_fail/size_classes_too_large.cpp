// expect: valid_sizes
// No block is larger than a unit.
#include <binmalloc/binmalloc.hpp>

#include <array>
#include <cstdint>

struct too_large {
    static constexpr std::array<std::uint32_t, 2> sizes{16, 32768};
};

struct policy : binmalloc::default_policy {
    using size_classes = too_large;
};

int main()
{
    binmalloc::basic_heap<policy>::deallocate(binmalloc::basic_heap<policy>::allocate(10));
}
