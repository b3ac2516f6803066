// Relacy in place of <atomic> and of the system, for the headers that are included after this one: it
// runs a few threads in interleavings of its choice, and gives each load any value that its order allows.
#pragma once
#pragma GCC system_header // g++ warns of much in Relacy itself

// Orders nothing, and is part of layouts: it keeps the real atomics.
#include <binmalloc/relaxed.hpp>

// Relacy makes macros of keywords and of the orders: the library's headers come first.
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <string_view>

#include <relacy/relacy.hpp>

#undef new
#undef delete
#undef malloc
#undef free

// What was found in std so far, but for the atomics. Relacy's macros make two arguments of each order,
// std::memory_order_relaxed being std::mo_relaxed and a place in the source.
namespace relacy_std {
using namespace std;
using rl::atomic;
using rl::atomic_thread_fence;
using rl::memory_order;
using rl::mo_acq_rel;
using rl::mo_acquire;
using rl::mo_relaxed;
using rl::mo_release;
using rl::mo_seq_cst;
} // namespace relacy_std

#include <binmalloc/config.hpp>

#define BINMALLOC_PLATFORM_OS_HPP
#define std relacy_std

namespace binmalloc::os {
inline void pause() noexcept { rl::yield(1, $); }
inline void rest() noexcept { rl::yield(1, $); }
inline void yield() noexcept { rl::yield(1, $); }
inline void local_barrier() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline bool barrier_on_all_threads() noexcept
{
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return true;
}
inline std::uintptr_t thread_id() noexcept { return 1 + rl::thread_index(); }
// No page of its own for what needs one.
inline std::size_t page_size() noexcept { return 4096; }
inline void* reserve(std::size_t, std::size_t) noexcept { return nullptr; }
inline bool commit(void*, std::size_t) noexcept { return false; }
inline bool clear_on_fork(void*, std::size_t) noexcept { return false; }
inline void release(void*, std::size_t) noexcept {}
[[noreturn]] inline void fatal(const char* what, const void*) noexcept
{
    RL_ASSERT(what == nullptr);
    std::terminate();
}
} // namespace binmalloc::os

namespace binmalloc_test {

/// Effects: runs Test in many interleavings. Returns the exit status: 0 if no error was found and the
/// argument is `right`, or one was and it is `wrong`.
template <class Test>
int check(int argc, char** argv)
{
    rl::test_params parameters;
    parameters.iteration_count = 200000;
    parameters.execution_depth_limit = 5000;
    const std::string_view expected = argc > 1 ? argv[1] : "";
    const bool is_right = rl::simulate<Test>(parameters);
    return expected == (is_right ? "right" : "wrong") ? 0 : 1;
}

} // namespace binmalloc_test
