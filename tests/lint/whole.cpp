// Brings all that the headers define before the linter's eyes.
#include <binmalloc/background_purge.hpp>
#include <binmalloc/binmalloc.hpp>
#include <binmalloc/c_api.hpp>
#include <binmalloc/override_new_delete.hpp>
#if !defined(_WIN32) && !defined(__APPLE__)
#    include <binmalloc/override_malloc.hpp>
#endif

template class binmalloc::heap_allocator<int, binmalloc::heap>;
template class binmalloc::basic_page_allocator<>;
template class binmalloc::basic_arena<binmalloc::heap, binmalloc::detail::no_lock>;
template class binmalloc::basic_arena<binmalloc::heap, binmalloc::detail::spinlock>;
