// expect: valid_sizes
// Block sizes must ascend.
#include <binmalloc/binmalloc.hpp>

#include <array>
#include <cstdint>

struct descending {
    static constexpr std::array<std::uint32_t, 3> sizes{64, 32, 16};
};

struct policy : binmalloc::default_policy {
    using size_classes = descending;
};

int main()
{
    binmalloc::basic_heap<policy>::deallocate(binmalloc::basic_heap<policy>::allocate(10));
}
