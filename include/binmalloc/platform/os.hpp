// binmalloc: what the heap asks of an operating system.
//
// Layer: platform. One contract, one file per system, selected at the end of this header; nothing
// else in the library names a system. Every function is thread safe, does not throw, does not
// allocate from the C heap, and leaves errno alone where a caller could see it (see keep_errno).
//
// Memory. `size` and `p` are multiples of page_size(), alignments are powers of two.
//   page_size()                   bytes of an OS page
//   reserve(size, alignment)      address space at such an alignment, null on failure; reads as
//                                 zero once committed
//   commit(p, size)               makes reserved memory usable, false when the system refuses;
//                                 committing twice is harmless. commit_needed says if the call
//                                 does anything
//   decommit(p, size)             gives the memory behind the addresses back. True: it is usable
//                                 again (after commit) and reads as zero
//   release(p, size)              ends a reservation, whole or (where release_parts) in part
//   extend(p, size, new_size)     grows or shrinks a reservation in place; false: not possible
//   move(p, size, to, to_size)    moves the pages of a reservation onto the front of another one
//                                 and ends the first; false: not possible, nothing has changed
// Processor and time.
//   cpu_count()                   processors this process may run on, at least 1
//   pause()                       one step of a spin
//   yield()                       lets another thread run
//   now_ms()                      milliseconds of a clock that never goes back; cheap, coarse
// Process and threads.
//   thread_exit_key               calls back at the end of each thread that armed it
//   on_fork(prepare, parent, child)
//   fatal(message, p)             one line on stderr, then abort
#ifndef BINMALLOC_PLATFORM_OS_HPP
#define BINMALLOC_PLATFORM_OS_HPP

#include <binmalloc/config.hpp>

#if defined(_WIN32)
#    include <binmalloc/platform/windows.hpp>
#else
#    include <binmalloc/platform/posix.hpp>
#endif

#endif
