// What a program of this directory allocates with, its way of getting binmalloc (CMakeLists.txt), and
// how it says what is wrong.
#pragma once

#include "../support/pattern.hpp"
#include "../support/process.hpp"
#include "../support/random.hpp"
#include "../support/scale.hpp"

#if !defined(LIFETIME_PRELOAD)
#    include <binmalloc/binmalloc.hpp>
#endif

#include <dlfcn.h>
#include <malloc.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace lifetime {

using binmalloc_test::all_zero;
using binmalloc_test::fill;
using binmalloc_test::holds;
using binmalloc_test::holds_prefix;
using binmalloc_test::kib;
using binmalloc_test::mib;
using binmalloc_test::opaque;
using binmalloc_test::random_source;
using binmalloc_test::scaled;
using binmalloc_test::seed;

#if defined(LIFETIME_PLAIN)

inline void* allocate(std::size_t size) noexcept { return binmalloc::allocate(size); }
inline void* allocate_zeroed(std::size_t size) noexcept { return binmalloc::allocate_zeroed(size); }
inline void* reallocate(void* p, std::size_t size) noexcept
{
    return binmalloc::reallocate(p, size);
}
inline void deallocate(void* p) noexcept { binmalloc::deallocate(p); }

#else

inline void* allocate(std::size_t size) noexcept { return std::malloc(size); }
inline void* allocate_zeroed(std::size_t size) noexcept { return std::calloc(1, size); }
inline void* reallocate(void* p, std::size_t size) noexcept { return std::realloc(p, size); }
inline void deallocate(void* p) noexcept { std::free(p); }

#endif

/// Ends the process with a line that says why: in the middle of whatever runs, with no further calls.
[[noreturn]] inline void fail(const char* what) noexcept
{
    const char prefix[] = "failed: ";
    [[maybe_unused]] ssize_t written = ::write(2, prefix, sizeof prefix - 1);
    written = ::write(2, what, std::strlen(what));
    written = ::write(2, "\n", 1);
    ::_exit(1);
}

inline void require(bool condition, const char* what) noexcept
{
    if (!condition) fail(what);
}

/// A hang ends the process, by a signal.
inline void end_after(unsigned seconds) noexcept { ::alarm(seconds); }

/// Whether allocate() is binmalloc's.
inline bool on_binmalloc() noexcept
{
#if defined(LIFETIME_PRELOAD)
    return ::dlsym(RTLD_DEFAULT, "bin_malloc") != nullptr;
#else
    void* const block = opaque(allocate(10 * mib));
    const bool counted = binmalloc::statistics().live >= 10 * mib;
    deallocate(block);
    return counted;
#endif
}

struct block {
    void* address = nullptr;
    std::size_t size = 0;
    std::uint64_t id = 0;
};

inline block make_block(std::size_t size, std::uint64_t id) noexcept
{
    const block made{opaque(allocate(size)), size, id};
    require(made.address != nullptr, "no memory for a block");
    fill(made.address, size, id);
    return made;
}

inline void free_block(const block& old) noexcept
{
    require(holds(old.address, old.size, old.id), "a block's contents have changed");
    deallocate(old.address);
}

/// Blocks of every kind, from 4 bytes to a mapping of its own. No constructor: it may be used before
/// its own would have run.
struct kit {
    std::array<block, 12> blocks;

    void make(std::uint64_t id) noexcept
    {
        std::size_t size = 1;
        for (block& each : blocks) {
            each = make_block(size, id);
            size *= 4; // the last has 4 MiB
        }
    }
    void free_all() noexcept
    {
        for (block& each : blocks) {
            free_block(each);
            each = {};
        }
    }
};

/// Allocates, resizes and frees of every kind; enough to pass through the heap's slow paths.
inline void exercise(std::uint64_t id, std::size_t steps = 300) noexcept
{
    random_source random(seed() + id);
    std::array<block, 40> live{};
    for (std::size_t step = 0; step < steps; ++step) {
        block& chosen = live[random.below(live.size())];
        if (chosen.address != nullptr) free_block(chosen);
        chosen = make_block(random.size_up_to(random.one_in(30) ? 300 * kib : 3 * kib), id + step);
    }
    for (const block& each : live) {
        if (each.address != nullptr) free_block(each);
    }
    auto* const zeroed = static_cast<unsigned char*>(allocate_zeroed(40 * kib));
    require(zeroed != nullptr && all_zero(zeroed, 40 * kib), "memory that should be zero");
    auto* const grown = static_cast<unsigned char*>(reallocate(zeroed, 400 * kib));
    require(grown != nullptr && all_zero(grown, 40 * kib), "contents lost by reallocate");
    deallocate(grown);
}

/// Runs this program again, with other arguments; returns its exit status, or 1000 and the signal.
inline int run_again(const char* mode, const char* argument)
{
    char self[] = "/proc/self/exe";
    std::array<char, 64> first{};
    std::array<char, 64> second{};
    std::snprintf(first.data(), first.size(), "%s", mode);
    std::snprintf(second.data(), second.size(), "%s", argument);
    char* const arguments[] = {self, first.data(), second.data(), nullptr};
    pid_t child = -1;
    int status = 0;
    require(::posix_spawn(&child, self, nullptr, nullptr, arguments, environ) == 0, "posix_spawn");
    require(::waitpid(child, &status, 0) == child, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

} // namespace lifetime
