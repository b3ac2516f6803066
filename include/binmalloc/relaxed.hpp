// binmalloc: pointers and counts that others may read while they change.
//
// Layer: primitives. Thread safe, for one writer: a reader sees some value that it had.
#ifndef BINMALLOC_RELAXED_HPP
#define BINMALLOC_RELAXED_HPP

#include <binmalloc/config.hpp>

#include <atomic>

// Compilers would load an atomic into a register first: one or two instructions more in each fast path.
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__)) && !BINMALLOC_THREAD_SANITIZER
#    define BINMALLOC_MEMORY_OPERANDS 1
#else
#    define BINMALLOC_MEMORY_OPERANDS 0
#endif

namespace binmalloc::detail {

/// Orders nothing: to be compared, not followed. Zero bytes are null.
template <class T>
class relaxed_pointer {
public:
    BINMALLOC_INLINE operator T*() const noexcept { return value_.load(std::memory_order_relaxed); }

    BINMALLOC_INLINE relaxed_pointer& operator=(T* p) noexcept
    {
        value_.store(p, std::memory_order_relaxed);
        return *this;
    }

    /// For fast paths.
    BINMALLOC_INLINE bool differs_from(const T* p) const noexcept
    {
#if BINMALLOC_MEMORY_OPERANDS && defined(__x86_64__) && !defined(__ILP32__)
        bool differs;
        asm("cmp{q %1, %2| %2, %1}" : "=@ccne"(differs) : "r"(p), "m"(value_));
        return differs;
#else
        return *this != p;
#endif
    }

private:
    std::atomic<T*> value_{nullptr};
};

/// Whoever follows it sees what was written there before it was set. Zero bytes are null.
template <class T>
class published_pointer {
public:
    BINMALLOC_INLINE operator T*() const noexcept { return value_.load(std::memory_order_acquire); }
    BINMALLOC_INLINE T* operator->() const noexcept { return *this; }

    BINMALLOC_INLINE published_pointer& operator=(T* p) noexcept
    {
        value_.store(p, std::memory_order_release);
        return *this;
    }

private:
    std::atomic<T*> value_{nullptr};
};

/// A count that its owner changes. Zero bytes are 0.
class relaxed_count {
public:
    constexpr relaxed_count(std::int32_t n = 0) noexcept : value_{n} {}

    /// For its owner.
    BINMALLOC_INLINE std::int32_t get() const noexcept
    {
#if BINMALLOC_MEMORY_OPERANDS
        return value_;
#else
        return value_.load(std::memory_order_relaxed);
#endif
    }

    /// For others: what was written before the value was published is seen, too.
    std::int32_t observe() const noexcept
    {
#if BINMALLOC_MEMORY_OPERANDS
        return __atomic_load_n(&value_, __ATOMIC_ACQUIRE);
#else
        return value_.load(std::memory_order_acquire);
#endif
    }

    BINMALLOC_INLINE void set(std::int32_t n) noexcept
    {
#if BINMALLOC_MEMORY_OPERANDS
        value_ = n;
#else
        value_.store(n, std::memory_order_relaxed);
#endif
    }

    /// See observe().
    BINMALLOC_INLINE void publish(std::int32_t n) noexcept
    {
#if BINMALLOC_MEMORY_OPERANDS
        std::atomic_signal_fence(std::memory_order_release); // the processor does so by itself
        value_ = n;
#else
        value_.store(n, std::memory_order_release);
#endif
    }

    BINMALLOC_INLINE void increment() noexcept
    {
#if BINMALLOC_MEMORY_OPERANDS
        ++value_;
#else
        set(get() + 1);
#endif
    }

    /// Effects: counts down. Returns: if it is below zero now.
    BINMALLOC_INLINE bool below_zero_after_decrement() noexcept
    {
#if BINMALLOC_MEMORY_OPERANDS
        bool negative;
#    if defined(__clang__)
        asm("sub{l $1, %1| dword ptr %1, 1}" : "=@ccs"(negative), "+m"(value_));
#    else
        asm("sub{l $1, %1| %1, 1}" : "=@ccs"(negative), "+m"(value_));
#    endif
        return negative;
#else
        const std::int32_t n = get() - 1;
        set(n);
        return n < 0;
#endif
    }

private:
#if BINMALLOC_MEMORY_OPERANDS
    std::int32_t value_; // written in one instruction each time
#else
    std::atomic<std::int32_t> value_;
#endif
};

} // namespace binmalloc::detail

#endif
