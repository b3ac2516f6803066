// binmalloc: the process heap as plain functions; contracts as for basic_heap (heap.hpp).
//
// Layer: front ends. Thread safe.
#ifndef BINMALLOC_FUNCTIONS_HPP
#define BINMALLOC_FUNCTIONS_HPP

#include <binmalloc/heap.hpp>

namespace binmalloc {

[[nodiscard]] BINMALLOC_INLINE void* allocate(std::size_t size) noexcept
{
    return heap::allocate(size);
}
[[nodiscard]] BINMALLOC_INLINE void* allocate(std::size_t size, std::size_t alignment) noexcept
{
    return heap::allocate(size, alignment);
}
[[nodiscard]] inline void* allocate_zeroed(std::size_t size) noexcept
{
    return heap::allocate_zeroed(size);
}
[[nodiscard]] inline void* allocate_zeroed(std::size_t size, std::size_t alignment) noexcept
{
    return heap::allocate_zeroed(size, alignment);
}
[[nodiscard]] inline allocation_result<void*> allocate_at_least(std::size_t size) noexcept
{
    return heap::allocate_at_least(size);
}
[[nodiscard]] inline allocation_result<void*> allocate_at_least(std::size_t size,
                                                                std::size_t alignment) noexcept
{
    return heap::allocate_at_least(size, alignment);
}
BINMALLOC_INLINE void deallocate(void* p) noexcept { heap::deallocate(p); }
BINMALLOC_INLINE void deallocate(void* p, std::size_t size) noexcept { heap::deallocate(p, size); }
BINMALLOC_INLINE void deallocate(void* p, std::size_t size, std::size_t alignment) noexcept
{
    heap::deallocate(p, size, alignment);
}
[[nodiscard]] inline void* reallocate(void* p, std::size_t new_size) noexcept
{
    return heap::reallocate(p, new_size);
}
[[nodiscard]] inline void* reallocate(void* p, std::size_t new_size, std::size_t alignment) noexcept
{
    return heap::reallocate(p, new_size, alignment);
}
inline std::size_t usable_size(const void* p) noexcept { return heap::usable_size(p); }
inline std::size_t good_size(std::size_t size) noexcept { return heap::good_size(size); }
inline std::size_t good_size(std::size_t size, std::size_t alignment) noexcept
{
    return heap::good_size(size, alignment);
}
inline void purge() noexcept { heap::purge(); }
inline void purge_aged() noexcept { heap::purge_aged(); }
inline void set_limit(std::size_t bytes) noexcept { heap::set_limit(bytes); }
inline std::size_t limit() noexcept { return heap::limit(); }
inline page_statistics statistics() noexcept { return heap::statistics(); }

} // namespace binmalloc

#endif
