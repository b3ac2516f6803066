// A DLL with a copy of the heap of its own.
#include <binmalloc/binmalloc.hpp>

#include "plugin.hpp"

extern "C" {
__declspec(dllexport) void* plugin_allocate(std::size_t size) { return binmalloc::allocate(size); }
__declspec(dllexport) void plugin_deallocate(void* p) { binmalloc::deallocate(p); }
__declspec(dllexport) std::size_t plugin_live() { return binmalloc::statistics().live; }
__declspec(dllexport) void plugin_purge() { binmalloc::purge(); }
}
