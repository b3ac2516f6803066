// binmalloc: pointers that others may read while they change.
//
// Layer: primitives. Thread safe: a reader sees some value that it had.
#ifndef BINMALLOC_RELAXED_POINTER_HPP
#define BINMALLOC_RELAXED_POINTER_HPP

#include <binmalloc/config.hpp>

#include <atomic>

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
#if defined(__GNUC__) && defined(__x86_64__) && !defined(__ILP32__) \
    && !defined(__SANITIZE_THREAD__)
        // Compilers would load it into a register first: one or two instructions more in each free.
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

} // namespace binmalloc::detail

#endif
