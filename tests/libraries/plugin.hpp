// A copy of binmalloc as functions, so that the program's and those in libraries look the same.
#pragma once

#include <cstddef>

namespace binmalloc_test {

struct plugin {
    void* (*allocate)(std::size_t size, std::size_t alignment);
    void* (*reallocate)(void* block, std::size_t size);
    void (*deallocate)(void* block);
    void (*purge)();
    std::size_t (*live)(); ///< bytes of the copy's heap that are in use
};

/// Static, so that each library has its own: else the loader could take another one's.
template <class Heap>
static constexpr plugin plugin_of{
    [](std::size_t size, std::size_t alignment) { return Heap::allocate(size, alignment); },
    [](void* block, std::size_t size) { return Heap::reallocate(block, size); },
    [](void* block) { Heap::deallocate(block); },
    [] { Heap::purge(); },
    [] { return Heap::statistics().live; },
};

using get_plugin = const plugin*();

} // namespace binmalloc_test
