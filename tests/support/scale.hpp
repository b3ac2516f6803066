// How much work a test does, from which seed, and under which instrument.
//
//   BINMALLOC_TEST_SCALE   factor on every iteration count: 0.1 under valgrind, 20 for a night
//   BINMALLOC_TEST_SEED    seed of every random sequence (fixed where unset)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace binmalloc_test {

#if defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define BINMALLOC_TEST_ADDRESS_SANITIZER 1
#    endif
#    if __has_feature(thread_sanitizer)
#        define BINMALLOC_TEST_THREAD_SANITIZER 1
#    endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#    define BINMALLOC_TEST_ADDRESS_SANITIZER 1
#endif
#if defined(__SANITIZE_THREAD__)
#    define BINMALLOC_TEST_THREAD_SANITIZER 1
#endif

#if defined(BINMALLOC_TEST_ADDRESS_SANITIZER)
inline constexpr bool with_address_sanitizer = true;
#else
inline constexpr bool with_address_sanitizer = false;
#endif
#if defined(BINMALLOC_TEST_THREAD_SANITIZER)
inline constexpr bool with_thread_sanitizer = true;
#else
inline constexpr bool with_thread_sanitizer = false;
#endif
/// The process's resident memory says nothing about the heap in such a build.
inline constexpr bool sanitized = with_address_sanitizer || with_thread_sanitizer;

/// Under qemu's user mode every instruction takes some ten, and some of the system is not as it is.
#if defined(BINMALLOC_TEST_EMULATED)
inline constexpr bool emulated = true;
#else
inline constexpr bool emulated = false;
#endif

// No static in a function here: a child may be forked while another thread is initialising it.
inline double scale() noexcept
{
    const char* const text = std::getenv("BINMALLOC_TEST_SCALE");
    const double wanted = text != nullptr ? std::strtod(text, nullptr) : 1.0;
    return (wanted > 0.0 ? wanted : 1.0) * (sanitized || emulated ? 0.1 : 1.0);
}

/// `count` iterations in a plain build, fewer under a sanitizer or an emulator, never less than `least`.
inline std::size_t scaled(std::size_t count, std::size_t least = 1) noexcept
{
    return std::max(least, static_cast<std::size_t>(static_cast<double>(count) * scale()));
}

inline std::uint64_t seed() noexcept
{
    const char* const text = std::getenv("BINMALLOC_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 0) : 20240229ULL;
}

} // namespace binmalloc_test
