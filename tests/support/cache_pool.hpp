// The default heap's cache pool, for tests that make one of their own.
#pragma once

#include <binmalloc/binmalloc.hpp>

namespace binmalloc_test {

using table = binmalloc::detail::size_class_table<binmalloc::default_policy::size_classes>;
using pages_type =
    binmalloc::basic_page_allocator<binmalloc::os_pages, binmalloc::default_footprint>;
using pool_type = binmalloc::detail::cache_pool<table, pages_type, binmalloc::os_pages,
                                                binmalloc::default_footprint>;
using member = pool_type::member;

} // namespace binmalloc_test
