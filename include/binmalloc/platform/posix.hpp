// binmalloc: the platform contract (see os.hpp) for Linux, macOS and other POSIX systems: process,
// threads, processor and time.
//
// Layer: platform.
#ifndef BINMALLOC_PLATFORM_POSIX_HPP
#define BINMALLOC_PLATFORM_POSIX_HPP

#include <binmalloc/bits.hpp>
#include <binmalloc/config.hpp>
#if defined(__linux__)
#    include <binmalloc/platform/cgroup.hpp>
#endif
#include <binmalloc/platform/posix_memory.hpp>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#if BINMALLOC_UNLOADABLE
#    include <dlfcn.h>
#endif
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#if defined(__linux__)
#    include <sys/syscall.h>
#endif
#include <time.h>
#include <unistd.h>

namespace binmalloc::os {

inline constexpr bool thread_locals_outlive_exit = true;

inline unsigned cpu_count() noexcept
{
#if defined(__linux__)
    // sysconf(_SC_NPROCESSORS_ONLN) opens files and may allocate; this is one system call.
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        if (const int count = CPU_COUNT(&set); count > 0) return static_cast<unsigned>(count);
    }
    return 1;
#else
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? static_cast<unsigned>(count) : 1;
#endif
}

inline std::uintptr_t thread_id() noexcept { return detail::address_of(&errno); }

inline bool barrier_on_all_threads() noexcept
{
#if defined(__linux__) && defined(SYS_membarrier)
    const keep_errno keep;
    constexpr int private_expedited = 1 << 3; // Linux 4.14
    constexpr int register_private_expedited = 1 << 4;
    if (syscall(SYS_membarrier, private_expedited, 0) == 0) return true;
    return syscall(SYS_membarrier, register_private_expedited, 0) == 0
        && syscall(SYS_membarrier, private_expedited, 0) == 0;
#else
    return false;
#endif
}

/// Nothing but the compiler's order.
BINMALLOC_INLINE void local_barrier() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

inline constexpr bool local_barrier_is_free = true;

/// Effects: reads what the kernel counts: /proc/self/task has a folder for each thread.
inline bool single_threaded() noexcept
{
#if defined(__linux__)
    struct stat threads{};
    constexpr nlink_t links_of_an_empty_folder = 2;
    return stat("/proc/self/task", &threads) == 0
        && threads.st_nlink == links_of_an_empty_folder + 1;
#else
    return false;
#endif
}

inline std::size_t cgroup_limit() noexcept
{
#if defined(__linux__)
    const keep_errno keep;
    const no_cancellation reading;
    return cgroup::limit();
#else
    return SIZE_MAX;
#endif
}

inline void pause() noexcept
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ __volatile__("yield");
#endif
}

inline void yield() noexcept { sched_yield(); }

/// Linux takes a whole turn from a thread that yields, but keeps the turn of one that sleeps.
inline void rest() noexcept
{
    const keep_errno keep;
    const no_cancellation asleep;
    constexpr timespec time{0, 50'000};
    nanosleep(&time, nullptr);
}

inline std::uint64_t now_ms() noexcept
{
#if defined(CLOCK_MONOTONIC_COARSE)
    constexpr clockid_t clock = CLOCK_MONOTONIC_COARSE;
#else
    constexpr clockid_t clock = CLOCK_MONOTONIC;
#endif
    timespec t{};
    clock_gettime(clock, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1000
        + static_cast<std::uint64_t>(t.tv_nsec) / 1000000;
}

/// A pthread key: unlike the destructor of a thread_local, registering one never allocates.
class thread_exit_key {
public:
    /// Effects: from now on `(*Callback)(argument)` runs at the end of every thread that calls arm().
    template <void (**Callback)(void*)>
    bool create() noexcept
    {
        return created_ = pthread_key_create(&key_, *Callback) == 0;
    }

    /// arm() may call calloc, once in a thread: glibc has room for the first 32 keys only, and allocates
    /// it for each further 32.
    bool may_call_calloc() const noexcept
    {
#if defined(__GLIBC__)
        return created_ && key_ >= 32;
#else
        return false;
#endif
    }

    /// Requires: argument != null, and the thread is able to allocate by now. False: there will be no
    /// callback.
    bool arm(void* argument) noexcept
    {
        return created_ && pthread_setspecific(key_, argument) == 0;
    }

    /// Returns: what this thread is armed with; null: it is not.
    void* armed() const noexcept { return created_ ? pthread_getspecific(key_) : nullptr; }

    /// Effects: there will be no callback any more, in no thread.
    void destroy() noexcept
    {
        if (created_) pthread_key_delete(key_);
        created_ = false;
    }

private:
    pthread_key_t key_{};
    bool created_ = false;
};

#if BINMALLOC_UNLOADABLE
// Where the C library still keeps it in a libdl that nobody linked, it is null.
extern "C" __attribute__((weak)) int dladdr(const void*, Dl_info*) noexcept;

inline bool in_same_object(const void* a, const void* b) noexcept
{
    Dl_info of_a, of_b;
    return dladdr != nullptr && dladdr(a, &of_a) != 0 && dladdr(b, &of_b) != 0
        && of_a.dli_fbase == of_b.dli_fbase;
}
#endif

#if defined(__GLIBC__)
extern "C" int __register_atfork(void (*)(), void (*)(), void (*)(), void*) noexcept;
extern "C" int __cxa_atexit(void (*)(void*), void*, void*) noexcept;
extern "C" __attribute__((visibility("hidden"))) void* __dso_handle;

/// What pthread_atfork takes, and whose it is: glibc forgets the handlers of a library that goes.
struct fork_handlers {
    void (*prepare)() noexcept;
    void (*parent)() noexcept;
    void (*child)() noexcept;
    void* library = &__dso_handle;
};

inline void on_fork(const fork_handlers& all) noexcept
{
    __register_atfork(all.prepare, all.parent, all.child, all.library);
}

inline void at_exit_of_library(void (*handler)(void*)) noexcept
{
    __cxa_atexit(handler, nullptr, &__dso_handle);
}
#else
struct fork_handlers {
    void (*prepare)() noexcept;
    void (*parent)() noexcept;
    void (*child)() noexcept;
};

inline void on_fork(const fork_handlers& all) noexcept
{
    pthread_atfork(all.prepare, all.parent, all.child);
}

/// Libraries stay, or nothing is known of them: whatever ends, the process does.
inline void at_exit_of_library(void (*handler)(void*)) noexcept { handler(nullptr); }
#endif

/// Effects: writes to stderr, unbuffered.
inline void write_error(const char* line, std::size_t size) noexcept
{
    while (size != 0) {
        const ssize_t n = write(2, line, size);
        if (n <= 0) return;
        line += n;
        size -= static_cast<std::size_t>(n);
    }
}

} // namespace binmalloc::os

#endif
