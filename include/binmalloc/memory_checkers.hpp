// binmalloc: what memory checkers are told.
//
// Layer: primitives. Thread safe.
//
// A checker that knows only mmap sees no error inside a region. So it is told which bytes belong to
// the program:
//
//   the address sanitizer   in builds that have it switched on (the compiler says so): exactly the
//                           bytes asked for; freed blocks and free units are poisoned
//   Valgrind's memcheck     where its header is installed, at run time: a process under memcheck
//                           gets no leases, so that every call passes the slow path, where it is
//                           told. Elsewhere this costs nothing
//
// Blocks of 4 bytes are too small for the sanitizer's grain of 8; they are always accessible.
#ifndef BINMALLOC_MEMORY_CHECKERS_HPP
#define BINMALLOC_MEMORY_CHECKERS_HPP

#include <binmalloc/bits.hpp>
#include <binmalloc/platform/memory_range.hpp>

#if defined(__linux__) && __has_include(<valgrind/memcheck.h>)
#    include <valgrind/memcheck.h>
#endif
// Where Valgrind does not exist for the processor, its header says so.
#if defined(VALGRIND_MAKE_MEM_DEFINED) && !defined(NVALGRIND)
#    define BINMALLOC_HAS_MEMCHECK 1
#else
#    define BINMALLOC_HAS_MEMCHECK 0
#endif

#if BINMALLOC_ADDRESS_SANITIZER
extern "C" void __asan_poison_memory_region(const volatile void*, std::size_t);
extern "C" void __asan_unpoison_memory_region(const volatile void*, std::size_t);
#endif

namespace binmalloc::detail {

#if BINMALLOC_ADDRESS_SANITIZER
inline void forbid(const void* p, std::size_t size) noexcept { __asan_poison_memory_region(p, size); }
inline void permit(const void* p, std::size_t size) noexcept
{
    __asan_unpoison_memory_region(p, size);
}
#else
inline void forbid(const void*, std::size_t) noexcept {}
inline void permit(const void*, std::size_t) noexcept {}
#endif

/// Valgrind's memcheck; its requests do nothing in a process that is not under it.
namespace memcheck {

#if BINMALLOC_HAS_MEMCHECK

BINMALLOC_SLOW inline bool is_running() noexcept
{
    char probe = 0;
    // Other tools of Valgrind do not know the request and answer 0.
    return VALGRIND_MAKE_MEM_DEFINED_IF_ADDRESSABLE(&probe, sizeof probe) != 0;
}

/// Whatever its tool.
inline bool is_under_valgrind() noexcept { return RUNNING_ON_VALGRIND != 0; }

/// `size` bytes of a block with room for `usable`, before which `lead` bytes are nobody's.
BINMALLOC_SLOW inline void allocated(const void* p, std::size_t size, std::size_t usable,
                                     std::size_t lead = 0) noexcept
{
    static_cast<void>(VALGRIND_MAKE_MEM_NOACCESS(static_cast<const char*>(p) - lead, lead + usable));
    VALGRIND_MALLOCLIKE_BLOCK(p, size, 0, 0);
}

/// For memory whose blocks it is not told of.
BINMALLOC_SLOW inline void make_accessible(const void* p, std::size_t size) noexcept
{
    static_cast<void>(VALGRIND_MAKE_MEM_UNDEFINED(p, size));
}

BINMALLOC_SLOW inline void freed(const void* p, std::size_t usable) noexcept
{
    VALGRIND_FREELIKE_BLOCK(p, 0);
    // The program may have got more than it asked for, from usable_size().
    static_cast<void>(VALGRIND_MAKE_MEM_NOACCESS(p, usable));
}

BINMALLOC_SLOW inline void make_defined(const void* p, std::size_t size) noexcept
{
    static_cast<void>(VALGRIND_MAKE_MEM_DEFINED(p, size));
}

BINMALLOC_SLOW inline void look_away() noexcept { VALGRIND_DISABLE_ERROR_REPORTING; }
BINMALLOC_SLOW inline void look_again() noexcept { VALGRIND_ENABLE_ERROR_REPORTING; }

#else

inline bool is_running() noexcept { return false; }
inline bool is_under_valgrind() noexcept { return false; }
inline void allocated(const void*, std::size_t, std::size_t, std::size_t = 0) noexcept {}
inline void make_accessible(const void*, std::size_t) noexcept {}
inline void freed(const void*, std::size_t) noexcept {}
inline void make_defined(const void*, std::size_t) noexcept {}
inline void look_away() noexcept {}
inline void look_again() noexcept {}

#endif

/// The allocator itself reads and writes what is free.
class unseen {
public:
    explicit unseen(bool watched) noexcept : watched_(watched)
    {
        if (watched_) [[unlikely]]
            look_away();
    }
    ~unseen()
    {
        if (watched_) [[unlikely]]
            look_again();
    }
    unseen(const unseen&) = delete;
    unseen& operator=(const unseen&) = delete;

private:
    bool watched_;
};

} // namespace memcheck

/// A page source as checkers need it. Access to what is no longer ours is permitted: others will get the
/// addresses.
template <class Source>
struct permitting : Source {
    // Valgrind warns of system calls that it doesn't know, such as one for several ranges.
    static bool decommit(const os::memory_range* ranges, std::size_t count) noexcept
    {
        if (!memcheck::is_under_valgrind()) [[likely]]
            return Source::decommit(ranges, count);
        bool done = true;
        for (std::size_t i = 0; i < count; ++i) done &= Source::decommit(ranges + i, 1);
        return done;
    }
    static void release(void* p, std::size_t size) noexcept
    {
        permit(p, size);
        Source::release(p, size);
    }
    static bool extend(void* p, std::size_t size, std::size_t new_size) noexcept
    {
        if (new_size < size) permit(offset(p, new_size), size - new_size);
        return Source::extend(p, size, new_size);
    }
    static bool move(void* p, std::size_t size, void* to, std::size_t to_size) noexcept
    {
        permit(p, size);
        return Source::move(p, size, to, to_size);
    }
};

} // namespace binmalloc::detail

#endif
