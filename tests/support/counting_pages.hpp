// A page source that counts what it asks the system for.
#pragma once

#include <binmalloc/binmalloc.hpp>

#include <atomic>
#include <cstddef>

namespace binmalloc_test {

/// One set of numbers for each tag type.
template <class Tag>
struct counting_pages : binmalloc::os_pages {
    static inline std::atomic<std::size_t> calls = 0;
    static inline std::atomic<std::size_t> discards = 0;
    static inline std::atomic<std::size_t> moves_out = 0;
    static inline std::atomic<std::size_t> huge_pages_wanted = 0;
    static inline std::atomic<std::size_t> huge_pages_unwanted = 0;

    static void* reserve(std::size_t size, std::size_t alignment) noexcept
    {
        ++calls;
        return os_pages::reserve(size, alignment);
    }
    static bool decommit(const binmalloc::os::memory_range* ranges, std::size_t count) noexcept
    {
        ++calls;
        return os_pages::decommit(ranges, count);
    }
    static bool discard(void* p, std::size_t size) noexcept
    {
        ++discards;
        return os_pages::discard(p, size);
    }
    static void release(void* p, std::size_t size) noexcept
    {
        ++calls;
        os_pages::release(p, size);
    }
    static bool extend(void* p, std::size_t size, std::size_t new_size) noexcept
    {
        ++calls;
        return os_pages::extend(p, size, new_size);
    }
    static bool move(void* p, std::size_t size, void* to, std::size_t to_size) noexcept
    {
        ++calls;
        return os_pages::move(p, size, to, to_size);
    }
    static bool move_out(void* p, std::size_t size, void* to) noexcept
    {
        ++calls;
        const bool moved = os_pages::move_out(p, size, to);
        moves_out += moved;
        return moved;
    }
    static void use_huge_pages(void* p, std::size_t size, bool yes) noexcept
    {
        ++(yes ? huge_pages_wanted : huge_pages_unwanted);
        os_pages::use_huge_pages(p, size, yes);
    }
};
static_assert(binmalloc::page_source<counting_pages<int>>);

template <class Tag, class Footprint = binmalloc::default_footprint>
struct counting_policy : binmalloc::default_policy {
    using page_source = counting_pages<Tag>;
    using footprint = Footprint;
};

} // namespace binmalloc_test
