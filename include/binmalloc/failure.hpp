// binmalloc: how front ends for C++ say that there is no memory.
//
// Layer: front ends. With exceptions: std::bad_alloc. Without: one line on stderr, then abort, as
// operator new does there.
#ifndef BINMALLOC_FAILURE_HPP
#define BINMALLOC_FAILURE_HPP

#include <binmalloc/platform/os.hpp>

#include <new>

namespace binmalloc::detail {

[[noreturn]] BINMALLOC_SLOW inline void throw_bad_alloc()
{
#if BINMALLOC_HAS_EXCEPTIONS
    throw std::bad_alloc();
#else
    os::fatal("out of memory", nullptr);
#endif
}

[[noreturn]] BINMALLOC_SLOW inline void throw_bad_array_new_length()
{
#if BINMALLOC_HAS_EXCEPTIONS
    throw std::bad_array_new_length();
#else
    os::fatal("array is too long", nullptr);
#endif
}

} // namespace binmalloc::detail

#endif
