// binmalloc: what happens when a library that carries a copy of the heap is unloaded.
//
// Layer: primitives. A program's own copy never is, so there this is nothing.
//
// The C library forgets an unloaded library's fork handlers by itself, but not its thread-exit keys;
// and memory in which nothing lives would be lost with the statics that point to it. So each heap of
// the library is told. The destructor's priority is the lowest that programs may have: it runs after
// the library's own static objects are gone. It also runs at exit, where what it does is harmless.
#ifndef BINMALLOC_UNLOAD_HPP
#define BINMALLOC_UNLOAD_HPP

#include <binmalloc/platform/os.hpp>

#include <atomic>

namespace binmalloc::detail {

struct unload_hook {
    void (*leave)() noexcept;
    unload_hook* next = nullptr;
};

#if BINMALLOC_UNLOADABLE

inline constinit std::atomic<unload_hook*> unload_hooks{nullptr};

/// Effects: `hook.leave` is called when the library is unloaded. To be called once for each hook.
inline void at_unload(unload_hook& hook) noexcept
{
    hook.next = unload_hooks.load(std::memory_order_relaxed);
    while (!unload_hooks.compare_exchange_weak(hook.next, &hook, std::memory_order_acq_rel)) {}
}

/// Stands in the library itself, while everything else may be shared with others by its symbol.
__attribute__((visibility("hidden"))) inline constinit char library_marker = 0;

__attribute__((visibility("hidden"), destructor(101), used)) inline void leave_at_unload() noexcept
{
    if (!os::in_same_object(&unload_hooks, &library_marker)) return;
    // Each source file of the library brings this function; the first call does all.
    unload_hook* hook = unload_hooks.exchange(nullptr, std::memory_order_acquire);
    for (; hook != nullptr; hook = hook->next) hook->leave();
}

#else

inline void at_unload(unload_hook&) noexcept {}

#endif

} // namespace binmalloc::detail

#endif
