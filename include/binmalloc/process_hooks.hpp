// binmalloc: what the process tells its heaps: that it forks, and that a library goes.
//
// Layer: primitives. Thread safe.
//
// Fork handlers are registered when the program or library is loaded, before anybody's else: handlers
// that are registered first are the last to run before a fork, so those of the program still find a
// heap that works, and may wait for other threads that allocate.
//
// A heap that is made while a thread forks would not be made ready for that, and what it hands out until the
// process is copied would be lost in the child. So who makes one waits for the end of a fork that has begun
// (the stores and loads are sequentially consistent: one side sees the other):
//
//   who makes a heap                          fork handlers
//     adds its hook                             count the fork
//     a fork is counted: wait                   for each hook: make the heap, unless it is there; freeze it
//     makes the heap, unless it is there        fork; thaw; count it no longer
//
// A library that carries a copy of the heap may be unloaded. The C library then forgets its fork
// handlers, but not its thread-exit keys; and memory in which nothing lives would be lost with the
// statics that point to it. So each heap of the library is told. The same destructors run at exit,
// when other threads still use the heap and nothing may be touched. What tells the two apart is an
// exit handler: at exit it runs before the library's destructors, at unload among them.
//
// Addresses of code are taken from variables. Where symbols are shared (GCC makes inline variables
// unique in the process, even between libraries opened privately) the heap's variables are those of
// one library, which stays; a handler of another one's code would be left behind when that goes.
#ifndef BINMALLOC_PROCESS_HOOKS_HPP
#define BINMALLOC_PROCESS_HOOKS_HPP

#include <binmalloc/fork_gate.hpp>
#include <binmalloc/platform/os.hpp>

#include <atomic>

namespace binmalloc::detail {

// A word: some processors (RISC-V) need a library for the atomic exchange of a byte.
enum list_progress : std::uint32_t { not_listed, being_listed, listed };

/// One heap's answers.
struct process_hook {
    void (*before_fork)() noexcept;
    void (*after_fork_in_parent)() noexcept;
    void (*after_fork_in_child)() noexcept;
    void (*unload)() noexcept; ///< nobody is in the heap's code, and nobody will be again
    process_hook* next = nullptr;
    std::atomic<std::uint32_t> progress{not_listed};
};

inline constinit std::atomic<process_hook*> process_hooks{nullptr};

template <void (*process_hook::*Answer)() noexcept>
inline void each_process_hook() noexcept
{
    for (auto* hook = process_hooks.load(std::memory_order_seq_cst); hook != nullptr;
         hook = hook->next)
        (hook->*Answer)();
}

inline constinit std::atomic<std::uint32_t> forks_under_way{0};
inline constinit std::atomic<std::uintptr_t> last_to_fork{0}; // a thread

inline void before_fork() noexcept
{
    last_to_fork.store(os::thread_id(), std::memory_order_relaxed);
    forks_under_way.fetch_add(1, std::memory_order_seq_cst);
    each_process_hook<&process_hook::before_fork>();
}

inline void after_fork_in_parent() noexcept
{
    each_process_hook<&process_hook::after_fork_in_parent>();
    forks_under_way.fetch_sub(1, std::memory_order_seq_cst);
}

inline void after_fork_in_child() noexcept
{
    forks_under_way.store(0, std::memory_order_seq_cst);
    each_process_hook<&process_hook::after_fork_in_child>();
}

/// Effects: waits with the patience of a fork: in a forked child, what is waited for may be without end.
template <class Condition>
inline void wait_while(Condition holds) noexcept
{
    if (!holds()) return;
    const std::uint64_t deadline = os::now_ms() + fork_patience_ms;
    while (holds() && os::now_ms() < deadline) os::yield();
}

/// Effects: waits until no other thread forks. A child that no handler prepared may have inherited the count.
inline void wait_for_forks() noexcept
{
    wait_while([] {
        return forks_under_way.load(std::memory_order_seq_cst) != 0
            && last_to_fork.load(std::memory_order_relaxed) != os::thread_id();
    });
}

inline constinit std::atomic<std::uint32_t> fork_handlers_registered{0};
inline constinit os::fork_handlers all_fork_handlers{before_fork, after_fork_in_parent,
                                                     after_fork_in_child};

inline void register_fork_handlers() noexcept
{
    if (fork_handlers_registered.exchange(1, std::memory_order_relaxed) == 0)
        os::on_fork(all_fork_handlers);
}

/// Effects: the heap is told of forks and of its library's end, from now on; the hook may be there already.
/// To be called when the heap can serve requests: registering may allocate.
inline void add_process_hook(process_hook& hook) noexcept
{
    std::uint32_t was = not_listed;
    if (hook.progress.compare_exchange_strong(was, being_listed, std::memory_order_acquire)) {
        hook.next = process_hooks.load(std::memory_order_relaxed);
        while (!process_hooks.compare_exchange_weak(hook.next, &hook, std::memory_order_seq_cst)) {}
        hook.progress.store(listed, std::memory_order_release);
        register_fork_handlers();
    } else if (was == being_listed) {
        // By another thread; in a child that was forked just then, by nobody.
        wait_while([&hook] { return hook.progress.load(std::memory_order_acquire) == being_listed; });
    }
}

#if defined(__ELF__)
__attribute__((constructor(101), used)) inline void register_fork_handlers_early() noexcept
{
    register_fork_handlers();
}
#endif

#if BINMALLOC_UNLOADABLE

// In the library itself, whatever else may be shared by its symbol.
#    define BINMALLOC_LIBRARY_OWN __attribute__((visibility("hidden")))

enum class library_end : std::uint8_t { not_yet, exit, unload };
BINMALLOC_LIBRARY_OWN inline constinit library_end end_of_library = library_end::not_yet;
BINMALLOC_LIBRARY_OWN inline constinit bool exit_is_watched = false;

BINMALLOC_LIBRARY_OWN inline void at_exit_or_unload(void*) noexcept
{
    if (end_of_library == library_end::not_yet) end_of_library = library_end::exit;
}

// Each source file of the library brings these functions; the first call does all.

BINMALLOC_LIBRARY_OWN __attribute__((constructor(101), used)) inline void watch_exit() noexcept
{
    if (exit_is_watched) return;
    exit_is_watched = true;
    os::at_exit_of_library(at_exit_or_unload);
}

// Without a priority: before the handlers that the library registered for its end.
BINMALLOC_LIBRARY_OWN __attribute__((destructor, used)) inline void library_ends() noexcept
{
    if (end_of_library == library_end::not_yet) end_of_library = library_end::unload;
}

// The lowest priority: after the library's static objects are gone.
BINMALLOC_LIBRARY_OWN __attribute__((destructor(101), used)) inline void library_ended() noexcept
{
    if (end_of_library != library_end::unload) return;
    end_of_library = library_end::exit;
    if (os::in_same_object(&process_hooks, &end_of_library))
        each_process_hook<&process_hook::unload>();
}

#    undef BINMALLOC_LIBRARY_OWN

#elif defined(_WIN32) && defined(__GNUC__)

// A DLL has all of this for itself, and the system says which end it is. Each source file brings this
// function; the first call does all.
__attribute__((destructor(101), used)) inline void library_ended() noexcept
{
    if (!os::library_is_unloaded()) return;
    for (auto* hook = process_hooks.exchange(nullptr); hook != nullptr; hook = hook->next)
        hook->unload();
}

#endif

} // namespace binmalloc::detail

#endif
