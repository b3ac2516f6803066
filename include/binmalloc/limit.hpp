// binmalloc: where a heap's limit comes from.
//
// Layer: heap. Thread safe; allocates nothing.
#ifndef BINMALLOC_LIMIT_HPP
#define BINMALLOC_LIMIT_HPP

#include <binmalloc/platform/os.hpp>

#include <cstdlib>
#include <cstring>

namespace binmalloc {

/// Returns: the memory limit of the process's cgroup, in bytes; SIZE_MAX if there is none, or where
/// there are no cgroups.
inline std::size_t cgroup_limit() noexcept
{
    return os::cgroup_limit();
}

namespace detail {

/// Effects: `text` is a number of bytes, with K, M or G behind it for powers of 1024, sets `bytes`.
/// False: it is something else, or too large.
inline bool parse_size(const char* text, std::size_t& bytes) noexcept
{
    const char* p = text;
    std::size_t n = 0;
    for (; *p >= '0' && *p <= '9'; ++p) {
        const auto digit = static_cast<std::size_t>(*p - '0');
        if (n > (SIZE_MAX - digit) / 10) return false;
        n = n * 10 + digit;
    }
    if (p == text) return false;
    const unsigned shift = *p == 'K' ? 10 : *p == 'M' ? 20 : *p == 'G' ? 30 : 0;
    if (shift != 0) ++p;
    if (*p != '\0' || n > SIZE_MAX >> shift) return false;
    bytes = n << shift;
    return true;
}

/// The variable BINMALLOC_LIMIT: a number of bytes, or `cgroup`. Anything else is said on stderr.
inline std::size_t limit_from_environment() noexcept
{
    const char* text = std::getenv("BINMALLOC_LIMIT");
    if (text == nullptr || *text == '\0') return SIZE_MAX;
    if (std::strcmp(text, "cgroup") == 0) return cgroup_limit();
    std::size_t bytes;
    if (parse_size(text, bytes)) return bytes;
    constexpr char line[] = "binmalloc: BINMALLOC_LIMIT is not a number of bytes (with K, M or G) and "
                            "not `cgroup`: no limit\n";
    os::write_error(line, sizeof line - 1);
    return SIZE_MAX;
}

} // namespace detail
} // namespace binmalloc

#endif
