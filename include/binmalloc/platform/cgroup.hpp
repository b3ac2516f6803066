// binmalloc: the memory limit of the process's cgroup.
//
// Layer: platform. Linux only. Thread safe; files are read into buffers on the stack.
//
// /proc/self/cgroup names the process's group: `0::/PATH` (version 2) or `N:...memory...:/PATH`
// (version 1). Each folder from there up may have a limit, and the smallest counts. Inside a
// container the path may not be visible; the root that is visible has the container's limit then.
// Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
#ifndef BINMALLOC_PLATFORM_CGROUP_HPP
#define BINMALLOC_PLATFORM_CGROUP_HPP

#include <binmalloc/config.hpp>

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace binmalloc::os::cgroup {

/// Effects: reads the file's first bytes and ends them with a null. False: there is no such file.
inline bool read_file(const char* path, char* text, std::size_t capacity) noexcept
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    std::size_t size = 0;
    while (size < capacity - 1) {
        const ssize_t n = read(file, text + size, capacity - 1 - size);
        if (n <= 0) break;
        size += static_cast<std::size_t>(n);
    }
    close(file);
    text[size] = '\0';
    return true;
}

/// The smallest limit that a file `name` in the folder or in one above it, down to `root_size`
/// characters, says. `folder` has room for the name and is cut short.
inline std::size_t smallest_limit(char* folder, std::size_t root_size, const char* name) noexcept
{
    std::size_t smallest = SIZE_MAX;
    for (std::size_t size = std::strlen(folder);;) {
        std::strcpy(folder + size, name);
        char text[32];
        // The word `max` is not a number: no limit.
        if (read_file(folder, text, sizeof text) && *text >= '0' && *text <= '9') {
            const unsigned long long limit = std::strtoull(text, nullptr, 10);
            if (limit < smallest) smallest = static_cast<std::size_t>(limit);
        }
        if (size <= root_size) return smallest;
        do --size;
        while (size > root_size && folder[size] != '/');
    }
}

/// Returns: bytes; SIZE_MAX: no limit.
inline std::size_t limit() noexcept
{
    // Version 1 says "no limit" with the largest multiple of a page.
    constexpr auto no_limit = static_cast<std::size_t>(SIZE_MAX >> 1) - 65536;
    constexpr std::size_t longest_name = sizeof "/memory.limit_in_bytes";

    char groups[4096];
    if (!read_file("/proc/self/cgroup", groups, sizeof groups)) return SIZE_MAX;
    std::size_t smallest = SIZE_MAX;
    char* next = nullptr;
    for (char* line = groups; line != nullptr && *line != '\0'; line = next) {
        next = std::strchr(line, '\n');
        if (next != nullptr) *next++ = '\0';
        char* controllers = std::strchr(line, ':');
        char* path = controllers != nullptr ? std::strchr(controllers + 1, ':') : nullptr;
        if (path == nullptr) continue;
        *path++ = '\0';
        const bool version_2 = controllers[1] == '\0';
        if (!version_2 && std::strstr(controllers, "memory") == nullptr) continue;

        const char* root = version_2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
        const std::size_t root_size = std::strlen(root);
        char folder[sizeof groups + 64];
        if (root_size + std::strlen(path) + longest_name > sizeof folder) continue;
        std::strcpy(folder, root);
        if (std::strcmp(path, "/") != 0) std::strcpy(folder + root_size, path);
        const std::size_t group_limit = smallest_limit(
            folder, root_size, version_2 ? "/memory.max" : "/memory.limit_in_bytes");
        if (group_limit < smallest) smallest = group_limit;
    }
    return smallest < no_limit ? smallest : SIZE_MAX;
}

} // namespace binmalloc::os::cgroup

#endif
