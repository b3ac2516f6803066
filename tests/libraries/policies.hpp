// Policies that differ from the default in each of its decisions.
#pragma once

#include <binmalloc/heap.hpp>

#include <array>
#include <cstdint>

namespace binmalloc_test {

struct few_sizes {
    static constexpr std::array<std::uint32_t, 4> sizes{16, 64, 256, 4096};
};
struct few_sizes_policy : binmalloc::default_policy {
    using size_classes = few_sizes;
};

struct frugal_footprint : binmalloc::default_footprint {
    static constexpr std::uint64_t purge_delay_ms = 1;
};
struct frugal_policy : binmalloc::default_policy {
    using footprint = frugal_footprint;
};

struct other_pages : binmalloc::os_pages {};
struct other_pages_policy : binmalloc::default_policy {
    using page_source = other_pages;
};

} // namespace binmalloc_test
