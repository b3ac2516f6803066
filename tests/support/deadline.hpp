// A hang becomes a failure: while it lives, the process may run so many seconds more.
#pragma once

#include "scale.hpp"

#if defined(__unix__) || defined(__APPLE__)
#    include <unistd.h>
#endif

namespace binmalloc_test {

class deadline {
public:
    /// More where an instrument or a longer run slows everything down.
    explicit deadline([[maybe_unused]] unsigned seconds) noexcept
    {
#if defined(__unix__) || defined(__APPLE__)
        ::alarm(static_cast<unsigned>(seconds * (sanitized ? 5.0 : std::max(1.0, scale()))));
#endif
    }
    ~deadline()
    {
#if defined(__unix__) || defined(__APPLE__)
        ::alarm(0);
#endif
    }
    deadline(const deadline&) = delete;
    deadline& operator=(const deadline&) = delete;
};

} // namespace binmalloc_test
