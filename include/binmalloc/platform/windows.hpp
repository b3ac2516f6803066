// binmalloc: the platform contract (see os.hpp) for Windows.
//
// Layer: platform. The few functions of kernel32 are declared here: <windows.h> would put thousands
// of names and macros into every source file that includes a header of ours.
#ifndef BINMALLOC_PLATFORM_WINDOWS_HPP
#define BINMALLOC_PLATFORM_WINDOWS_HPP

#include <binmalloc/bits.hpp>
#include <binmalloc/config.hpp>
#include <binmalloc/platform/memory_range.hpp>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#if defined(_MSC_VER)
#    include <intrin.h>
#endif

struct _OVERLAPPED;
struct _MEMORY_BASIC_INFORMATION;
struct HINSTANCE__;

extern "C" {
__declspec(dllimport) void* __stdcall VirtualAlloc(void*, std::size_t, unsigned long, unsigned long);
__declspec(dllimport) HINSTANCE__* __stdcall GetModuleHandleA(const char*);
__declspec(dllimport) int __stdcall GetModuleHandleExA(unsigned long, const char*, HINSTANCE__**);
__declspec(dllimport) long long(__stdcall* __stdcall GetProcAddress(HINSTANCE__*, const char*))(void);
__declspec(dllimport) int __stdcall VirtualFree(void*, std::size_t, unsigned long);
__declspec(dllimport) std::size_t __stdcall VirtualQuery(const void*, _MEMORY_BASIC_INFORMATION*,
                                                         std::size_t);
__declspec(dllimport) unsigned long __stdcall GetActiveProcessorCount(unsigned short);
__declspec(dllimport) unsigned long long __stdcall GetTickCount64(void);
__declspec(dllimport) int __stdcall SwitchToThread(void);
__declspec(dllimport) unsigned long __stdcall GetCurrentThreadId(void);
__declspec(dllimport) void* __stdcall GetCurrentProcess(void);
__declspec(dllimport) int __stdcall TerminateProcess(void*, unsigned int);
__declspec(dllimport) unsigned long __stdcall TlsAlloc(void);
__declspec(dllimport) int __stdcall TlsFree(unsigned long);
__declspec(dllimport) int __stdcall TlsSetValue(unsigned long, void*);
__declspec(dllimport) void* __stdcall TlsGetValue(unsigned long);
__declspec(dllimport) void* __stdcall GetStdHandle(unsigned long);
__declspec(dllimport) int __stdcall WriteFile(void*, const void*, unsigned long, unsigned long*,
                                              _OVERLAPPED*);
__declspec(dllimport) unsigned long __stdcall GetLastError(void);
__declspec(dllimport) void __stdcall SetLastError(unsigned long);
}

namespace binmalloc::os {

inline constexpr bool commit_needed = true;
// g++ emulates thread_local here, and its storage is freed before the exit callback runs.
#if defined(__GNUC__) && !defined(__clang__)
inline constexpr bool thread_locals_outlive_exit = false;
#else
inline constexpr bool thread_locals_outlive_exit = true;
#endif

namespace win {
// The names and values of the Windows SDK, in our spelling.
inline constexpr unsigned long mem_commit = 0x1000;
inline constexpr unsigned long mem_reserve = 0x2000;
inline constexpr unsigned long mem_decommit = 0x4000;
inline constexpr unsigned long mem_release = 0x8000;
inline constexpr unsigned long mem_reset = 0x80000;
inline constexpr std::size_t allocation_granularity = 65536;
inline constexpr unsigned long page_noaccess = 0x01;
inline constexpr unsigned long page_readwrite = 0x04;
inline constexpr unsigned short all_processor_groups = 0xffff;
inline constexpr unsigned long tls_out_of_indexes = 0xffffffff;
inline constexpr unsigned long dll_thread_detach = 3;
inline constexpr unsigned long std_error_handle = static_cast<unsigned long>(-12);
inline constexpr unsigned int status_thread_is_terminating = 0xc000004b;
struct memory_information {
    void* base;
    void* reservation;
    unsigned long first_protection;
    unsigned short partition;
    std::size_t bytes;
    unsigned long state;
    unsigned long protection;
    unsigned long type;
};
static_assert(sizeof(memory_information) == (sizeof(void*) == 8 ? 48 : 28));
} // namespace win

/// Restores errno and the last error at the end of its scope: `free` must not change them.
class keep_errno {
public:
    keep_errno() noexcept : errno_(errno), last_error_(GetLastError()) {}
    ~keep_errno()
    {
        errno = errno_;
        SetLastError(last_error_);
    }
    keep_errno(const keep_errno&) = delete;
    keep_errno& operator=(const keep_errno&) = delete;

private:
    int errno_;
    unsigned long last_error_;
};

namespace win {
// Null: the system has no such function.
template <class Function>
Function* find(const char* library, const char* name) noexcept
{
    HINSTANCE__* const handle = GetModuleHandleA(library);
    auto* const found = handle != nullptr ? GetProcAddress(handle, name) : nullptr;
    return reinterpret_cast<Function*>(reinterpret_cast<void*>(found));
}

struct address_requirements {
    void* lowest;
    void* highest;
    std::size_t alignment;
};
struct extended_parameter {
    std::uint64_t type;
    const address_requirements* pointer;
};
using virtual_alloc2_function = void* __stdcall(void* process, void* p, std::size_t, unsigned long,
                                                unsigned long, extended_parameter*, unsigned long);
using shutdown_query = unsigned char __stdcall();

// Null before this program or library is initialised (whoever looks for a function waits for the loader,
// which may hold a thread that waits for a lock of the heap), and where the system has no such function,
// as before Windows 10 1803.
inline constinit std::atomic<virtual_alloc2_function*> virtual_alloc2{nullptr};
inline constinit std::atomic<shutdown_query*> shutdown_in_progress{nullptr};
inline const bool functions_sought = [] {
    virtual_alloc2 = find<virtual_alloc2_function>("kernelbase.dll", "VirtualAlloc2");
    shutdown_in_progress = find<shutdown_query>("ntdll.dll", "RtlDllShutdownInProgress");
    return true;
}();

/// No thread is left but this one.
inline bool process_is_ending() noexcept
{
    shutdown_query* const query = shutdown_in_progress.load(std::memory_order_relaxed);
    return query != nullptr && query() != 0;
}

// Null: not possible this way.
inline void* reserve_aligned(std::size_t size, std::size_t alignment) noexcept
{
    auto* const call = virtual_alloc2.load(std::memory_order_relaxed);
    if (call == nullptr) return nullptr;
    const address_requirements wanted{nullptr, nullptr, alignment};
    extended_parameter parameter{1, &wanted}; // MemExtendedParameterAddressRequirements
    return call(nullptr, nullptr, size, mem_reserve, page_noaccess, &parameter, 1);
}
} // namespace win

/// 4 KiB on every processor that Windows runs on; reservations begin at multiples of 64 KiB.
inline std::size_t page_size() noexcept { return 4096; }

inline void release(void* p, std::size_t) noexcept { VirtualFree(p, 0, win::mem_release); }

inline void* reserve_at(void* hint, std::size_t size) noexcept
{
    return VirtualAlloc(hint, size, win::mem_reserve, win::page_noaccess);
}

inline void* reserve(std::size_t size, std::size_t alignment) noexcept
{
    if (alignment > win::allocation_granularity)
        if (void* p = win::reserve_aligned(size, alignment)) return p;
    void* p = reserve_at(nullptr, size);
    if (p == nullptr || detail::is_aligned(p, alignment)) return p;
    release(p, size);
    if (size > SIZE_MAX - alignment) return nullptr;
    // A reservation cannot be trimmed. So one that is too large shows where an aligned one fits, and
    // is given up for it; another thread may come between, hence the tries.
    for (int tries = 0; tries < 16; ++tries) {
        void* wide = reserve_at(nullptr, size + alignment);
        if (wide == nullptr) return nullptr;
        void* aligned = detail::pointer_at(detail::align_up(detail::address_of(wide), alignment));
        release(wide, size + alignment);
        if (reserve_at(aligned, size) == aligned) return aligned;
    }
    return nullptr;
}

inline bool commit(void* p, std::size_t size) noexcept
{
    return VirtualAlloc(p, size, win::mem_commit, win::page_readwrite) != nullptr;
}

inline bool decommit(const memory_range* ranges, std::size_t count) noexcept
{
    bool done = true;
    for (std::size_t i = 0; i < count; ++i)
        done &= VirtualFree(ranges[i].begin, ranges[i].size, win::mem_decommit) != 0;
    return done;
}

inline bool extend(void* p, std::size_t size, std::size_t new_size) noexcept
{
    if (new_size >= size) return new_size == size;
    const memory_range end{detail::offset(p, new_size), size - new_size};
    return decommit(&end, 1);
}

/// Reserved memory faults like none.
inline bool is_mapped(const void* p) noexcept
{
    win::memory_information information{};
    return VirtualQuery(p, reinterpret_cast<_MEMORY_BASIC_INFORMATION*>(&information),
                        sizeof information) != 0
        && information.state == win::mem_commit;
}

inline bool discard(void* p, std::size_t size) noexcept
{
    return VirtualAlloc(p, size, win::mem_reset, win::page_readwrite) != nullptr;
}

inline void use_huge_pages(void*, std::size_t, bool) noexcept {}

inline bool clear_on_fork(void*, std::size_t) noexcept { return false; }

inline bool move(void*, std::size_t, void*, std::size_t) noexcept { return false; }

inline bool move_out(void*, std::size_t, void*) noexcept { return false; }

inline unsigned cpu_count() noexcept
{
    const unsigned long count = GetActiveProcessorCount(win::all_processor_groups);
    return count > 0 ? static_cast<unsigned>(count) : 1;
}

// FlushProcessWriteBuffers() would be one, but does nothing under Wine.
inline bool barrier_on_all_threads() noexcept
{
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return true;
}

BINMALLOC_INLINE void local_barrier() noexcept
{
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

inline constexpr bool local_barrier_is_free = false;

inline std::uintptr_t thread_id() noexcept { return GetCurrentThreadId(); }

inline bool single_threaded() noexcept { return false; }

inline std::size_t cgroup_limit() noexcept { return SIZE_MAX; }

inline void pause() noexcept
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(_M_X64) || defined(_M_IX86)
    _mm_pause();
#elif defined(__aarch64__) || defined(_M_ARM64)
    __yield();
#endif
}

inline void yield() noexcept { SwitchToThread(); }

// Where a process ends, the system ends its other threads first, wherever they are; what is left of the
// first one are the destructors of libraries. A lock that is held then stays so. The system's own locks
// end the process at such a place, with this status, and so do ours.
inline void rest() noexcept
{
    if (win::process_is_ending())
        TerminateProcess(GetCurrentProcess(), win::status_thread_is_terminating);
    SwitchToThread();
}

inline std::uint64_t now_ms() noexcept { return GetTickCount64(); }

/// In a library's destructors: they run because it is unloaded, the process goes on.
inline bool library_is_unloaded() noexcept
{
    static constinit char own = 0;
    constexpr unsigned long by_address_uncounted = 4 | 2;
    HINSTANCE__* self = nullptr;
    HINSTANCE__* const program = GetModuleHandleA(nullptr);
    return GetModuleHandleExA(by_address_uncounted, &own, &self) != 0 && self != program
        && !win::process_is_ending();
}

struct fork_handlers {
    void (*prepare)() noexcept;
    void (*parent)() noexcept;
    void (*child)() noexcept;
};

inline void on_fork(const fork_handlers&) noexcept {}

/// Effects: writes to stderr, unbuffered.
inline void write_error(const char* line, std::size_t size) noexcept
{
    unsigned long written = 0;
    WriteFile(GetStdHandle(win::std_error_handle), line, static_cast<unsigned long>(size), &written,
              nullptr);
}

} // namespace binmalloc::os

#endif
