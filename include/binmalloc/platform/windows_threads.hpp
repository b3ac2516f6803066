// binmalloc: the platform contract (see os.hpp) for Windows: what each thread has, and how it ends.
//
// Layer: platform.
#ifndef BINMALLOC_PLATFORM_WINDOWS_THREADS_HPP
#define BINMALLOC_PLATFORM_WINDOWS_THREADS_HPP

#include <binmalloc/platform/windows.hpp>

#include <atomic>

namespace binmalloc::os {

#if BINMALLOC_EMULATED_TLS
/// A thread's pointer, at first the address of Initial. In a TLS slot of the thread's environment block,
/// at an offset from %gs that all systems share; in a thread_local if none of those slots is free.
template <class T, T& Initial>
class thread_pointer {
public:
    BINMALLOC_INLINE operator T*() const noexcept
    {
        const std::uint32_t place = place_.load(std::memory_order_relaxed);
        if (place >= undecided) [[unlikely]]
            return place == undecided ? &Initial : *elsewhere();
        T* p;
        // Reads place_ again, as far as the compiler knows: so it does not keep the pointer over calls.
        __asm__("movq %%gs:(%1), %0" : "=r"(p) : "r"(std::uintptr_t{place}), "m"(place_));
        return p != nullptr ? p : &Initial;
    }
    BINMALLOC_INLINE T* operator->() const noexcept { return *this; }

    thread_pointer& operator=(T* p) noexcept
    {
        std::uint32_t place = place_.load(std::memory_order_relaxed);
        if (place == undecided) place = decide();
        if (place == emulated)
            *elsewhere() = p;
        else
            TlsSetValue((place - first_slot) / sizeof(void*), p);
        return *this;
    }

    /// Effects: sets it at the thread's end, where a thread_local may be gone: then it does nothing.
    void set_last(T* p) noexcept
    {
        if (place_.load(std::memory_order_relaxed) < undecided) *this = p;
    }

private:
    static constexpr std::uint32_t first_slot = 0x1480;
    static constexpr std::uint32_t slots = 64; // the others are behind a pointer
    static constexpr std::uint32_t undecided = 0xfffffffe;
    static constexpr std::uint32_t emulated = 0xffffffff;

    BINMALLOC_SLOW std::uint32_t decide() noexcept
    {
        const unsigned long slot = TlsAlloc();
        std::uint32_t place = emulated;
        if (slot < slots)
            place = first_slot + static_cast<std::uint32_t>(slot * sizeof(void*));
        else if (slot != win::tls_out_of_indexes)
            TlsFree(slot);
        std::uint32_t first = undecided;
        if (place_.compare_exchange_strong(first, place, std::memory_order_relaxed)) return place;
        if (place != emulated) TlsFree(slot); // another thread has decided
        return first;
    }

    // Out of line, for the sake of the registers it needs.
    BINMALLOC_SLOW static T** elsewhere() noexcept
    {
        static constinit thread_local T* pointer = &Initial;
        return &pointer;
    }

    std::atomic<std::uint32_t> place_{undecided};
};
#endif

/// A slot of each thread's whose callback runs at the thread's end: in the module's TLS callbacks. (Those of
/// fibre-local slots also run where a fibre is deleted, in whatever thread does that, while the thread that
/// has set the slot goes on.) Not for the thread that ends the process.
class thread_exit_key {
public:
    /// Effects: from now on `(*Callback)(argument)` runs at the end of every thread that calls arm().
    template <void (**Callback)(void*)>
    bool create() noexcept
    {
        slot_ = TlsAlloc();
        if (slot_ == win::tls_out_of_indexes) return false;
        callback_ = call<Callback>;
        const list_lock held;
        next_ = first_;
        first_ = this;
        return true;
    }

    static constexpr bool may_call_calloc() noexcept { return false; }

    /// Requires: argument != null. False: there will be no callback.
    bool arm(void* argument) noexcept
    {
        return slot_ != win::tls_out_of_indexes && TlsSetValue(slot_, argument) != 0;
    }

    /// Returns: what this thread is armed with; null: it is not.
    void* armed() const noexcept
    {
        return slot_ != win::tls_out_of_indexes ? TlsGetValue(slot_) : nullptr;
    }

    /// Effects: there will be no callback any more, in no thread.
    void destroy() noexcept
    {
        if (slot_ == win::tls_out_of_indexes) return;
        const list_lock held;
        thread_exit_key** link = &first_;
        while (*link != this) link = &(*link)->next_;
        *link = next_;
        TlsFree(slot_);
        slot_ = win::tls_out_of_indexes;
    }

    /// Effects: the calling thread's callbacks run. A TLS callback.
    static void __stdcall at_thread_event(void*, unsigned long event, void*) noexcept
    {
        if (event != win::dll_thread_detach) return;
        const list_lock held;
        for (thread_exit_key* key = first_; key != nullptr; key = key->next_) {
            void* const argument = TlsGetValue(key->slot_);
            if (argument == nullptr) continue;
            TlsSetValue(key->slot_, nullptr);
            key->callback_(argument);
        }
    }

private:
    template <void (**Callback)(void*)>
    static void call(void* argument)
    {
        (*Callback)(argument);
    }

    class list_lock {
    public:
        list_lock() noexcept
        {
            while (locked_.exchange(1, std::memory_order_acquire) != 0) rest();
        }
        ~list_lock() { locked_.store(0, std::memory_order_release); }
        list_lock(const list_lock&) = delete;
        list_lock& operator=(const list_lock&) = delete;
    };

    unsigned long slot_ = win::tls_out_of_indexes;
    void (*callback_)(void*) = nullptr;
    thread_exit_key* next_ = nullptr;

    static inline constinit std::atomic<std::uint32_t> locked_{0};
    static inline constinit thread_exit_key* first_ = nullptr;
};

// Each source file of a program or library has the callback; the first call of it does all. Their order is
// that of the sections' names: this comes after the C++ library's, which destroys thread_locals.
#if defined(_MSC_VER) && !defined(__clang__)
#    pragma section(".CRT$XLY", long, read)
#    pragma comment(linker, "/INCLUDE:_tls_used")
#    pragma comment(linker, "/INCLUDE:binmalloc_at_thread_event")
extern "C" __declspec(allocate(".CRT$XLY")) __declspec(selectany) const decltype(
    &thread_exit_key::at_thread_event) binmalloc_at_thread_event = thread_exit_key::at_thread_event;
#else
__attribute__((section(".CRT$XLY"), used)) static const auto at_thread_event =
    &thread_exit_key::at_thread_event;
#endif

} // namespace binmalloc::os

#endif
