// binmalloc: arithmetic on powers of two and addresses.
//
// Layer: primitives. Pure functions; thread safe.
#ifndef BINMALLOC_BITS_HPP
#define BINMALLOC_BITS_HPP

#include <binmalloc/config.hpp>

#include <bit>

namespace binmalloc::detail {

/// True for 1, 2, 4, 8, ...
constexpr bool is_power_of_two(std::size_t n) noexcept { return std::has_single_bit(n); }

/// The smallest multiple of `alignment` (a power of two) that is not below `n`. Wraps past the end.
constexpr std::size_t align_up(std::size_t n, std::size_t alignment) noexcept
{
    return (n + alignment - 1) & ~(alignment - 1);
}

/// The largest multiple of `alignment` (a power of two) that is not above `n`.
constexpr std::size_t align_down(std::size_t n, std::size_t alignment) noexcept
{
    return n & ~(alignment - 1);
}

/// n / d, rounded up.
constexpr std::size_t divide_up(std::size_t n, std::size_t d) noexcept { return (n + d - 1) / d; }

/// floor(log2(n)); n > 0.
constexpr unsigned floor_log2(std::size_t n) noexcept
{
    return static_cast<unsigned>(std::bit_width(n)) - 1;
}

/// The lowest bit that is set; 0 if none is.
template <class Word>
constexpr Word lowest_bit(Word bits) noexcept
{
    return bits & (~bits + 1);
}

inline std::uintptr_t address_of(const void* p) noexcept
{
    return reinterpret_cast<std::uintptr_t>(p);
}

template <class T = void>
inline T* pointer_at(std::uintptr_t address) noexcept
{
    return reinterpret_cast<T*>(address);
}

template <class T = void>
inline T* offset(const void* p, std::size_t bytes) noexcept
{
    return pointer_at<T>(address_of(p) + bytes);
}

inline bool is_aligned(const void* p, std::size_t alignment) noexcept
{
    return (address_of(p) & (alignment - 1)) == 0;
}

/// Effects: none; the processor may fetch what is there, for reading and writing. Any address will do.
BINMALLOC_INLINE void prefetch([[maybe_unused]] const void* p) noexcept
{
#if defined(__GNUC__)
    __builtin_prefetch(p, 1);
#endif
}

} // namespace binmalloc::detail

#endif
