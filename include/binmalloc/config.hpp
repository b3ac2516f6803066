// binmalloc: compiler and build switches.
//
// Layer 0: included by every other header, includes nothing of ours.
//
// The only macros of the library live here (and the override switches that a user defines). All of
// them are prefixed BINMALLOC_ and are 0 or 1, or stand for an attribute that has no portable
// spelling. A user may define before the first include:
//
//   BINMALLOC_SINGLE_CACHE          1: the process heap is one set of bins behind a spinlock, with
//                                      no thread_local and no need of the C++ runtime library
//   BINMALLOC_CHECKED               1: the process heap looks for misuse (checked_policy), slower;
//                                      in all source files of a program or in none
//   BINMALLOC_OVERRIDE_NEW_DELETE   emit operator new/delete in this source file
//   BINMALLOC_OVERRIDE_MALLOC       emit malloc and its family too
//   BINMALLOC_DEFINE_C_API          emit the bin_* functions of binmalloc.h
//   BINMALLOC_UNLOADABLE            0: this library, which carries a copy of the heap, is never
//                                      unloaded before the process ends
//   BINMALLOC_DYNAMIC_TLS           1: reach the thread_local through the dynamic model (a library
//                                      opened by dlopen where static TLS is used up)
#ifndef BINMALLOC_CONFIG_HPP
#define BINMALLOC_CONFIG_HPP

#include <cstddef>
#include <cstdint>

#define BINMALLOC_VERSION_MAJOR 0
#define BINMALLOC_VERSION_MINOR 1
#define BINMALLOC_VERSION_PATCH 0

#ifndef BINMALLOC_SINGLE_CACHE
#    define BINMALLOC_SINGLE_CACHE 0
#endif
#ifndef BINMALLOC_CHECKED
#    define BINMALLOC_CHECKED 0
#endif
#ifndef BINMALLOC_DYNAMIC_TLS
#    define BINMALLOC_DYNAMIC_TLS 0
#endif

#ifndef BINMALLOC_UNLOADABLE
#    if defined(__ELF__) && defined(__PIC__) && !defined(__PIE__)
#        define BINMALLOC_UNLOADABLE 1
#    else
#        define BINMALLOC_UNLOADABLE 0
#    endif
#endif

// A program that replaces malloc replaces new and delete with it: mixed pairs are common in C++.
#if defined(BINMALLOC_OVERRIDE_MALLOC) && !defined(BINMALLOC_OVERRIDE_NEW_DELETE)
#    define BINMALLOC_OVERRIDE_NEW_DELETE
#endif

// INLINE: the fast path. OUTLINE: the ordinary next step, kept out of the fast path's code.
// SLOW: rare, and placed away from the rest.
#if defined(_MSC_VER) && !defined(__clang__)
#    define BINMALLOC_INLINE __forceinline
#    define BINMALLOC_OUTLINE __declspec(noinline)
#    define BINMALLOC_SLOW __declspec(noinline)
#else
#    define BINMALLOC_INLINE inline __attribute__((always_inline))
#    define BINMALLOC_OUTLINE __attribute__((noinline))
#    define BINMALLOC_SLOW __attribute__((noinline, cold))
#endif

// The compiler's own word on the address sanitizer.
#if defined(__SANITIZE_ADDRESS__)
#    define BINMALLOC_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define BINMALLOC_ADDRESS_SANITIZER 1
#    endif
#endif
#ifndef BINMALLOC_ADDRESS_SANITIZER
#    define BINMALLOC_ADDRESS_SANITIZER 0
#endif

// And on the thread sanitizer.
#if defined(__SANITIZE_THREAD__)
#    define BINMALLOC_THREAD_SANITIZER 1
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define BINMALLOC_THREAD_SANITIZER 1
#    endif
#endif
#ifndef BINMALLOC_THREAD_SANITIZER
#    define BINMALLOC_THREAD_SANITIZER 0
#endif

// LINK: what reads and writes the links of free blocks, which the sanitizer forbids everybody else.
#if BINMALLOC_ADDRESS_SANITIZER && (defined(__GNUC__) || defined(__clang__))
#    define BINMALLOC_LINK inline __attribute__((noinline, no_sanitize("address")))
#else
#    define BINMALLOC_LINK BINMALLOC_INLINE
#endif

// g++ for Windows reaches a thread_local through a call that costs more than an allocation.
#if defined(_WIN32) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#    define BINMALLOC_EMULATED_TLS 1
#else
#    define BINMALLOC_EMULATED_TLS 0
#endif

#if defined(__cpp_exceptions)
#    define BINMALLOC_HAS_EXCEPTIONS 1
#else
#    define BINMALLOC_HAS_EXCEPTIONS 0
#endif

// Definitions that must be found from outside a library whose symbols are hidden by default.
#if defined(__GNUC__) && !defined(_WIN32)
#    define BINMALLOC_EXPORT __attribute__((visibility("default")))
#else
#    define BINMALLOC_EXPORT
#endif

// Position-independent code would reach a thread_local through a call. The heap has one pointer
// there, which fits the space that loaders keep for the initial-exec model.
#if defined(__ELF__) && defined(__PIC__) && !defined(__PIE__) && !BINMALLOC_DYNAMIC_TLS
#    define BINMALLOC_TLS_MODEL __attribute__((tls_model("initial-exec")))
#else
#    define BINMALLOC_TLS_MODEL
#endif

#endif
