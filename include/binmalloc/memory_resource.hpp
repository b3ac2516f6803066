// binmalloc: the process heap as a std::pmr::memory_resource.
//
// Layer: front ends. Thread safe. Empty where the standard library has no <memory_resource>
// (libc++ before 16) or is not to be used (the single-cache variant).
#ifndef BINMALLOC_MEMORY_RESOURCE_HPP
#define BINMALLOC_MEMORY_RESOURCE_HPP

#include <binmalloc/config.hpp>

#if !BINMALLOC_SINGLE_CACHE && __has_include(<memory_resource>)
#    include <memory_resource>
#endif

#if defined(__cpp_lib_memory_resource)
#    define BINMALLOC_HAS_MEMORY_RESOURCE 1
#else
#    define BINMALLOC_HAS_MEMORY_RESOURCE 0
#endif

#if BINMALLOC_HAS_MEMORY_RESOURCE

#    include <binmalloc/failure.hpp>
#    include <binmalloc/heap.hpp>

namespace binmalloc {

/// Allocates from a heap type. All objects of one heap type are equal.
template <class Heap>
class heap_resource : public std::pmr::memory_resource {
    void* do_allocate(std::size_t size, std::size_t alignment) override
    {
        void* p = Heap::allocate(size, alignment);
        if (p == nullptr) detail::throw_bad_alloc();
        return p;
    }

    void do_deallocate(void* p, std::size_t size, std::size_t alignment) override
    {
        Heap::deallocate(p, size, alignment);
    }

    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override
    {
        if (this == &other) return true;
#    if defined(__cpp_rtti)
        return dynamic_cast<const heap_resource*>(&other) != nullptr;
#    else
        return false;
#    endif
    }
};

using memory_resource = heap_resource<heap>;

/// Returns: a resource that lives as long as the process.
inline std::pmr::memory_resource* get_memory_resource() noexcept
{
    // Never destroyed: containers with static storage may free after any destructor has run.
    union immortal {
        constexpr immortal() noexcept : resource{} {}
        ~immortal() {}
        memory_resource resource;
    };
    static immortal only;
    return &only.resource;
}

} // namespace binmalloc

#endif

#endif
