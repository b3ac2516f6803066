// A DLL with a copy of the heap of its own.
#include <binmalloc/binmalloc.hpp>

#include "plugin.hpp"

#include <atomic>

namespace {

binmalloc::detail::spinlock lock;
std::atomic<bool> waits_at_end = false;

// At the end of a process no thread is there any more that could unlock it.
struct waiting {
    ~waiting()
    {
        if (waits_at_end) lock.lock();
    }
} waits;

} // namespace

extern "C" {
__declspec(dllexport) void* plugin_allocate(std::size_t size) { return binmalloc::allocate(size); }
__declspec(dllexport) void plugin_deallocate(void* p) { binmalloc::deallocate(p); }
__declspec(dllexport) std::size_t plugin_live() { return binmalloc::statistics().live; }
__declspec(dllexport) void plugin_purge() { binmalloc::purge(); }
__declspec(dllexport) void plugin_lock()
{
    waits_at_end = true;
    lock.lock();
}
}
