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
//   decommit(ranges, count)       gives the memory behind the addresses back. True: all of it is usable
//                                 again (after commit) and reads as zero; false: some of it may be as
//                                 before
//   discard(p, size)              the system may take the memory back when it is short of it; until it
//                                 is written again it reads as before or as zero. False: not possible
//   release(p, size)              ends a reservation
//   extend(p, size, new_size)     grows or shrinks a reservation in place; false: not possible
//   move(p, size, to, to_size)    moves the pages of a reservation onto the front of another one
//                                 and ends the first; false: not possible, nothing has changed
//   move_out(p, size, to)         moves the pages of a part of a reservation onto a part of another
//                                 one; the first stays and reads as zero. False as with move()
//   use_huge_pages(p, size, yes)  asks for larger OS pages where memory is first written, or no
//                                 longer; a hint
//   is_mapped(p)                  there is memory at the address, as far as the system tells
//   clear_on_fork(p, size)        from now on the memory reads as zero in a forked child; false: the
//                                 system cannot do that
// Processor and time.
//   cpu_count()                   processors this process may run on, at least 1
//   pause()                       one step of a spin
//   yield()                       lets another thread run
//   rest()                        lets others run for about 50 microseconds, at no loss
//   now_ms()                      milliseconds of a clock that never goes back; cheap, coarse
// Process and threads.
//   thread_id()                   a number that no other living thread has, never 0
//   barrier_on_all_threads()      every thread of the process passes a full memory barrier, or did so
//                                 at its last local_barrier(); false: not possible
//   local_barrier()               what a thread needs between a store and a load for which others rely
//                                 on barrier_on_all_threads(): as little as that leaves to do
//   local_barrier_is_free         that is nothing for the processor
//   single_threaded()             this thread is certainly the only one
//   thread_exit_key               calls back at the end of each thread that armed it;
//                                 thread_locals_outlive_exit says if thread_local objects without
//                                 destructor still exist then
//   thread_pointer                stands for a thread_local pointer where BINMALLOC_EMULATED_TLS; its
//                                 set_last() sets it at the end of a thread, or does nothing
//   cgroup_limit()                bytes that the process's control group may use, SIZE_MAX: no limit
//   library_is_unloaded()         called as a library ends: it does so before the process; Windows only
//   in_same_object(a, b)          both addresses lie in one program or library; ELF only
//   at_exit_of_library(handler)   calls back when the process exits or the library is unloaded; ELF
//   on_fork(handlers)             calls back around each fork
//   write_error(text, size)       to stderr, without allocating
#ifndef BINMALLOC_PLATFORM_OS_HPP
#define BINMALLOC_PLATFORM_OS_HPP

#include <binmalloc/config.hpp>

#if defined(_WIN32)
#    include <binmalloc/platform/windows_threads.hpp>
#else
#    include <binmalloc/platform/posix.hpp>
#endif

namespace binmalloc::os {

/// Effects: one line on stderr, which names the address, then abort. Never allocates.
[[noreturn]] BINMALLOC_SLOW inline void fatal(const char* message, const void* p) noexcept
{
    char line[160];
    std::size_t n = 0;
    const auto put = [&](const char* text) {
        while (*text != '\0' && n < sizeof line - 20) line[n++] = *text++;
    };
    put("binmalloc: ");
    put(message);
    put(": 0x");
    for (int shift = static_cast<int>(sizeof(void*)) * 8 - 4; shift >= 0; shift -= 4)
        line[n++] = "0123456789abcdef"[(detail::address_of(p) >> shift) & 15];
    line[n++] = '\n';
    write_error(line, n);
    std::abort();
}

} // namespace binmalloc::os

#endif
