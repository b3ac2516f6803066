// A library with a copy of binmalloc that nobody outside can see. Compiled several times:
//   PLUGIN_POLICY    the policy of its heap
//   PLUGIN_NEW       its blocks come from operator new, overridden here and for this library alone
#if defined(PLUGIN_NEW)
#    define BINMALLOC_OVERRIDE_NEW_DELETE
#endif
#include <binmalloc/binmalloc.hpp>

#include "plugin.hpp"
#include "policies.hpp"

#if !defined(PLUGIN_POLICY)
#    define PLUGIN_POLICY binmalloc::default_policy
#endif

namespace {

using heap = binmalloc::basic_heap<PLUGIN_POLICY>;

#if defined(PLUGIN_NEW)
constexpr binmalloc_test::plugin functions{
    [](std::size_t size, std::size_t alignment) {
        if (alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
            return ::operator new (size, std::align_val_t{alignment});
        return ::operator new(size);
    },
    [](void* block, std::size_t size) { return heap::reallocate(block, size); },
    [](void* block) { ::operator delete(block); },
    [] { heap::purge(); },
    [] { return heap::statistics().live; },
};
#else
constexpr binmalloc_test::plugin functions = binmalloc_test::plugin_of<heap>;
#endif

} // namespace

extern "C" BINMALLOC_EXPORT const binmalloc_test::plugin* plugin_functions() { return &functions; }
