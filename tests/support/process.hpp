// What the kernel says of this process, read without allocating.
#pragma once

#include "scale.hpp"

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#if defined(__linux__)
#    include <fcntl.h>
#    include <unistd.h>
#elif defined(_WIN32)
#    define WIN32_LEAN_AND_MEAN
#    include <windows.h>
// After it.
#    include <psapi.h>
#endif

namespace binmalloc_test {

struct process_memory {
    std::size_t address_space = 0;
    std::size_t resident = 0;
    std::size_t data = 0; // what RLIMIT_DATA limits, and the stacks
};

/// All zero where the system does not say, and under an emulator, whose own memory it would be.
inline process_memory memory_in_use() noexcept
{
    process_memory result;
#if defined(__linux__)
    if constexpr (emulated) return result;
    char text[128] = {};
    const int file = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) return result;
    const auto length = ::read(file, text, sizeof text - 1);
    ::close(file);
    if (length <= 0) return result;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    char* rest = nullptr;
    const auto read = [page](const char* from, char*& to) {
        return static_cast<std::size_t>(std::strtoul(from, &to, 10)) * page;
    };
    result.address_space = read(text, rest);
    result.resident = read(rest, rest);
    for (int shared_text_library = 0; shared_text_library < 3; ++shared_text_library)
        std::strtoul(rest, &rest, 10);
    result.data = read(rest, rest);
#elif defined(_WIN32)
    PROCESS_MEMORY_COUNTERS counters{};
    if (::K32GetProcessMemoryInfo(::GetCurrentProcess(), &counters, sizeof counters) != 0)
        result.resident = counters.WorkingSetSize;
#endif
    return result;
}

inline constexpr std::size_t kib = 1024;
inline constexpr std::size_t mib = 1024 * kib;

} // namespace binmalloc_test
