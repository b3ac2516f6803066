// expect: S::release
// A page source must be able to give pages back.
#include <binmalloc/binmalloc.hpp>

#include <cstddef>

struct hoarder {
    static std::size_t page_size() noexcept { return 4096; }
    static void* reserve(std::size_t, std::size_t) noexcept { return nullptr; }
    static bool commit(void*, std::size_t) noexcept { return true; }
    static bool decommit(const binmalloc::os::memory_range*, std::size_t) noexcept { return true; }
    static bool discard(void*, std::size_t) noexcept { return true; }
    static bool extend(void*, std::size_t, std::size_t) noexcept { return false; }
    static bool move(void*, std::size_t, void*, std::size_t) noexcept { return false; }
    static bool move_out(void*, std::size_t, void*) noexcept { return false; }
    static void use_huge_pages(void*, std::size_t, bool) noexcept {}
};

struct policy : binmalloc::default_policy {
    using page_source = hoarder;
};

int main()
{
    binmalloc::basic_heap<policy>::deallocate(binmalloc::basic_heap<policy>::allocate(10));
}
