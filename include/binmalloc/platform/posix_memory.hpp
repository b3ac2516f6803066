// binmalloc: the platform contract (see os.hpp) for Linux, macOS and other POSIX systems: memory.
//
// Layer: platform.
#ifndef BINMALLOC_PLATFORM_POSIX_MEMORY_HPP
#define BINMALLOC_PLATFORM_POSIX_MEMORY_HPP

#include <binmalloc/bits.hpp>
#include <binmalloc/platform/memory_range.hpp>

#include <atomic>
#include <cerrno>
#include <pthread.h>
#include <sys/mman.h>
#if defined(__linux__)
#    include <sys/syscall.h>
#endif
#include <unistd.h>

#include <new>

namespace binmalloc::os {

inline constexpr bool commit_needed = false;

/// Restores errno at the end of its scope: `free` must not change it.
class keep_errno {
public:
    keep_errno() noexcept : saved_(errno) {}
    ~keep_errno() { errno = saved_; }
    keep_errno(const keep_errno&) = delete;
    keep_errno& operator=(const keep_errno&) = delete;

private:
    int saved_;
};

/// No thread is cancelled in the middle of an allocation, whatever the C library is asked for there.
class no_cancellation {
public:
    no_cancellation() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    ~no_cancellation() { pthread_setcancelstate(before_, nullptr); }
    no_cancellation(const no_cancellation&) = delete;
    no_cancellation& operator=(const no_cancellation&) = delete;

private:
    int before_ = PTHREAD_CANCEL_ENABLE;
};

// On glibc and musl this reads a word of the loader's, no file.
inline std::size_t page_size() noexcept { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

// MAP_NORESERVE: a region is mapped whole and used bit by bit, so it must not be charged whole.
inline void* map(void* hint, std::size_t size) noexcept
{
#if defined(MAP_NORESERVE)
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#else
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif
    void* p = mmap(hint, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    return p == MAP_FAILED ? nullptr : p;
}

/// A mapping that the kernel would not end: that would have split one in two while the process had as
/// many as it may (vm.max_map_count). Its memory has been given back, all but the page of this note.
struct leftover {
    leftover* next;
    std::size_t size;
};
inline constinit std::atomic<leftover*> leftovers{nullptr};

inline bool try_release(void* p, std::size_t size) noexcept
{
    if (munmap(p, size) == 0) [[likely]]
        return true;
    madvise(p, size, MADV_DONTNEED);
    auto* note = new (p) leftover{leftovers.load(std::memory_order_relaxed), size};
    while (!leftovers.compare_exchange_weak(note->next, note, std::memory_order_acq_rel)) {}
    return false;
}

inline void release_leftovers() noexcept
{
    leftover* note = leftovers.exchange(nullptr, std::memory_order_acq_rel);
    while (note != nullptr) {
        leftover* next = note->next;
        try_release(note, note->size);
        note = next;
    }
}

inline void release(void* p, std::size_t size) noexcept
{
    if (try_release(p, size) && leftovers.load(std::memory_order_relaxed) != nullptr) [[unlikely]]
        release_leftovers();
}

/// As map(), but null if it is not at such an alignment.
inline void* map_aligned(std::uintptr_t hint, std::size_t size, std::size_t alignment) noexcept
{
    void* p = map(detail::pointer_at(hint), size);
    if (p == nullptr || detail::is_aligned(p, alignment)) return p;
    release(p, size);
    return nullptr;
}

inline void* reserve(std::size_t size, std::size_t alignment) noexcept
{
    // Kernels place mappings side by side, so the second region is aligned where the first was.
    void* p = map(nullptr, size);
    if (p == nullptr || detail::is_aligned(p, alignment)) return p;
    release(p, size);

    // The aligned address just below is nearly always free.
    std::uintptr_t below = detail::align_down(detail::address_of(p), alignment);
    if (void* there = map_aligned(below, size, alignment)) return there;

    const std::size_t slack = alignment - page_size();
    if (size > SIZE_MAX - slack) return nullptr;
    p = map(nullptr, size + slack);
    if (p == nullptr) {
        // Under `ulimit -v` there may be room for what is wanted and no more.
        for (int tries = 32; tries > 0 && below > alignment; --tries) {
            below -= alignment;
            if (void* there = map_aligned(below, size, alignment)) return there;
        }
        return nullptr;
    }
    const auto start = detail::address_of(p);
    const auto aligned = detail::align_up(start, alignment);
    if (aligned != start) release(p, aligned - start);
    if (const auto tail = start + size + slack - (aligned + size); tail != 0)
        release(detail::pointer_at(aligned + size), tail);
    return detail::pointer_at(aligned);
}

inline bool commit(void*, std::size_t) noexcept { return true; }

inline bool decommit_one(const memory_range& range) noexcept
{
#if defined(__linux__)
    return madvise(range.begin, range.size, MADV_DONTNEED) == 0;
#else
    // Elsewhere MADV_DONTNEED is a hint that keeps the content; mapping anew is exact.
    return mmap(range.begin, range.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                -1, 0)
        != MAP_FAILED;
#endif
}

#if defined(__linux__) && defined(SYS_process_madvise)
inline std::atomic<bool> can_decommit_at_once{true};

/// One system call, and where other threads run, one interruption of each. Linux before 6.15 refuses it.
/// False: some of it may be as before.
inline bool decommit_at_once(const memory_range* ranges, std::size_t count) noexcept
{
    constexpr int this_process = -10000; // PIDFD_SELF_THREAD_GROUP
    if (!can_decommit_at_once.load(std::memory_order_relaxed)) return false;
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < count; ++i) bytes += ranges[i].size;
    const long advised = syscall(SYS_process_madvise, this_process, ranges, count, MADV_DONTNEED, 0);
    if (advised < 0) can_decommit_at_once.store(false, std::memory_order_relaxed);
    return advised >= 0 && static_cast<std::size_t>(advised) == bytes;
}
#else
inline bool decommit_at_once(const memory_range*, std::size_t) noexcept { return false; }
#endif

inline bool decommit(const memory_range* ranges, std::size_t count) noexcept
{
    if (count > 1 && decommit_at_once(ranges, count)) return true;
    bool done = true;
    for (std::size_t i = 0; i < count; ++i) done &= decommit_one(ranges[i]);
    return done;
}

inline bool discard([[maybe_unused]] void* p, [[maybe_unused]] std::size_t size) noexcept
{
#if defined(MADV_FREE)
    return madvise(p, size, MADV_FREE) == 0;
#else
    return false;
#endif
}

inline void use_huge_pages([[maybe_unused]] void* p, [[maybe_unused]] std::size_t size,
                           [[maybe_unused]] bool yes) noexcept
{
#if defined(MADV_HUGEPAGE)
    const keep_errno keep;
    madvise(p, size, yes ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
}

inline bool clear_on_fork([[maybe_unused]] void* p, [[maybe_unused]] std::size_t size) noexcept
{
#if defined(MADV_WIPEONFORK)
    return madvise(p, size, MADV_WIPEONFORK) == 0;
#else
    return false;
#endif
}

inline bool is_mapped(const void* p) noexcept
{
    const keep_errno keep;
    const no_cancellation asking;
    void* page = detail::pointer_at(detail::align_down(detail::address_of(p), page_size()));
    return msync(page, 1, MS_ASYNC) == 0; // ENOMEM where nothing is mapped
}

inline bool extend(void* p, std::size_t size, std::size_t new_size) noexcept
{
    if (new_size <= size) {
        if (new_size < size) release(detail::offset(p, new_size), size - new_size);
        return true;
    }
#if defined(MREMAP_MAYMOVE)
    return mremap(p, size, new_size, 0) != MAP_FAILED;
#else
    return false;
#endif
}

inline bool move([[maybe_unused]] void* p, [[maybe_unused]] std::size_t size,
                 [[maybe_unused]] void* to, [[maybe_unused]] std::size_t to_size) noexcept
{
#if defined(MREMAP_FIXED)
    return mremap(p, size, to_size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED;
#else
    return false;
#endif
}

inline bool move_out([[maybe_unused]] void* p, [[maybe_unused]] std::size_t size,
                     [[maybe_unused]] void* to) noexcept
{
#if defined(MREMAP_DONTUNMAP)
    // Linux 5.7. Unmapping and mapping anew would leave a hole for other threads' mappings.
    return mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) != MAP_FAILED;
#else
    return false;
#endif
}

} // namespace binmalloc::os

#endif
