// binmalloc: everything, for users. Headers of the library include what they need, never this.
//
//   binmalloc::allocate, deallocate, reallocate, ...   functions.hpp
//   binmalloc::allocator<T>                            allocator.hpp
//   binmalloc::memory_resource                         memory_resource.hpp
//   binmalloc::arena, locked_arena                     arena.hpp
//   binmalloc::page_allocator                          page_allocator.hpp
//   binmalloc::basic_heap<Policy>                      heap.hpp
// and, by itself, as it brings <thread> along: binmalloc::background_purge, background_purge.hpp
//
// Define BINMALLOC_OVERRIDE_NEW_DELETE, BINMALLOC_OVERRIDE_MALLOC or BINMALLOC_DEFINE_C_API before
// the include, in one source file of the program, to emit those definitions there.
#ifndef BINMALLOC_BINMALLOC_HPP
#define BINMALLOC_BINMALLOC_HPP

#include <binmalloc/allocator.hpp>
#include <binmalloc/arena.hpp>
#include <binmalloc/functions.hpp>
#include <binmalloc/memory_resource.hpp>
#include <binmalloc/page_allocator.hpp>

#if defined(BINMALLOC_OVERRIDE_NEW_DELETE)
#    include <binmalloc/override_new_delete.hpp>
#endif
#if defined(BINMALLOC_OVERRIDE_MALLOC)
#    include <binmalloc/override_malloc.hpp>
#endif
#if defined(BINMALLOC_DEFINE_C_API)
#    include <binmalloc/c_api.hpp>
#endif

#endif
