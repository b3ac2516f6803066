// expect: dirty_floor
// A footprint names every limit.
#include <binmalloc/binmalloc.hpp>

#include <cstdint>

struct nameless {
    static constexpr std::uint64_t purge_delay_ms = 100;
};

struct policy : binmalloc::default_policy {
    using footprint = nameless;
};

int main()
{
    binmalloc::basic_heap<policy>::deallocate(binmalloc::basic_heap<policy>::allocate(10));
}
