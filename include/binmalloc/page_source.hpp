// binmalloc: where pages come from and how many may wait for reuse: two policies.
//
// Layer: page allocator.
#ifndef BINMALLOC_PAGE_SOURCE_HPP
#define BINMALLOC_PAGE_SOURCE_HPP

#include <binmalloc/platform/os.hpp>

#include <concepts>

namespace binmalloc {

/// Static functions with the contracts of the memory section of platform/os.hpp. A source of one's
/// own may count, limit or refuse.
template <class S>
concept page_source = requires(void* p, std::size_t n, const os::memory_range* ranges) {
    { S::page_size() } noexcept -> std::same_as<std::size_t>;
    { S::reserve(n, n) } noexcept -> std::same_as<void*>;
    { S::commit(p, n) } noexcept -> std::same_as<bool>;
    { S::decommit(ranges, n) } noexcept -> std::same_as<bool>;
    { S::discard(p, n) } noexcept -> std::same_as<bool>;
    { S::release(p, n) } noexcept -> std::same_as<void>;
    { S::extend(p, n, n) } noexcept -> std::same_as<bool>;
    { S::move(p, n, p, n) } noexcept -> std::same_as<bool>;
    { S::move_out(p, n, p) } noexcept -> std::same_as<bool>;
    { S::use_huge_pages(p, n, true) } noexcept -> std::same_as<void>;
};

/// mmap and munmap, or VirtualAlloc and VirtualFree.
struct os_pages {
    static std::size_t page_size() noexcept { return os::page_size(); }
    static void* reserve(std::size_t size, std::size_t alignment) noexcept
    {
        return os::reserve(size, alignment);
    }
    static bool commit(void* p, std::size_t size) noexcept { return os::commit(p, size); }
    static bool decommit(const os::memory_range* ranges, std::size_t count) noexcept
    {
        return os::decommit(ranges, count);
    }
    static bool discard(void* p, std::size_t size) noexcept { return os::discard(p, size); }
    static void release(void* p, std::size_t size) noexcept { os::release(p, size); }
    static bool extend(void* p, std::size_t size, std::size_t new_size) noexcept
    {
        return os::extend(p, size, new_size);
    }
    static bool move(void* p, std::size_t size, void* to, std::size_t to_size) noexcept
    {
        return os::move(p, size, to, to_size);
    }
    static bool move_out(void* p, std::size_t size, void* to) noexcept
    {
        return os::move_out(p, size, to);
    }
    static void use_huge_pages(void* p, std::size_t size, bool yes) noexcept
    {
        os::use_huge_pages(p, size, yes);
    }
};
static_assert(page_source<os_pages>);

/// Every knob that trades memory for time.
struct default_footprint {
    /// Milliseconds that a freed span keeps its memory for reuse, at least; at most twice that.
    static constexpr std::uint64_t purge_delay_ms = 500;

    /// Freed memory that may always wait for reuse: bytes. More of it may where the program turns out
    /// to need it again at once, see dirty_start. Under the address sanitizer it stays for longer: a read
    /// of it after its free is to be reported, not to fault.
    static constexpr std::size_t dirty_floor =
        std::size_t{BINMALLOC_ADDRESS_SANITIZER ? 64 : 1} << 20;

    /// So much more of it may wait at first, until it turns out that nobody needs it: bytes. Many programs
    /// fill and empty a few MiB again and again.
    static constexpr std::size_t dirty_start = std::size_t{32} << 20;

    /// The most that may wait for reuse: so many bytes, or the largest live size of about the last second
    /// / dirty_divisor if that is more.
    static constexpr std::size_t dirty_ceiling = std::size_t{128} << 20;
    static constexpr std::size_t dirty_divisor = 1;

    /// The most that one call gives back before it returns to its caller: bytes.
    static constexpr std::size_t purge_step = std::size_t{8} << 20;

    /// Leaves memory that is given back where it is until the system is short of it (MADV_FREE): cheaper
    /// where it is used again soon, but it counts as resident until then. purge() does not wait.
    static constexpr bool discard_lazily = false;

    /// A heap that has so many bytes of address space asks for huge pages in further regions; SIZE_MAX:
    /// never. They are faster to fault in and to access, and cost memory where it is used sparsely.
    static constexpr std::size_t huge_pages_from = SIZE_MAX;

    /// Freed spans that all threads together may keep for their own next requests: bytes, shared out
    /// evenly, and twice as much for those who come first.
    static constexpr std::size_t stash_bytes = std::size_t{32} << 20;

    /// Blocks freed for other caches that one cache may hold back: bytes, and blocks per owner.
    static constexpr std::size_t outbox_bytes = std::size_t{64} << 10;
    static constexpr std::uint32_t outbox_blocks = 64;

    /// A heap has four caches per processor, and at least as many as for so many processors. Three quarters
    /// of them are each for one thread, the others for all further threads, whose calls take longer.
    static constexpr unsigned least_cpus = 8;
};

template <class F>
concept footprint_policy = requires {
    { F::purge_delay_ms } -> std::convertible_to<std::uint64_t>;
    { F::dirty_floor } -> std::convertible_to<std::size_t>;
    { F::dirty_start } -> std::convertible_to<std::size_t>;
    { F::dirty_ceiling } -> std::convertible_to<std::size_t>;
    { F::dirty_divisor } -> std::convertible_to<std::size_t>;
    { F::discard_lazily } -> std::convertible_to<bool>;
    { F::huge_pages_from } -> std::convertible_to<std::size_t>;
    { F::purge_step } -> std::convertible_to<std::size_t>;
    { F::stash_bytes } -> std::convertible_to<std::size_t>;
    { F::outbox_bytes } -> std::convertible_to<std::size_t>;
    { F::outbox_blocks } -> std::convertible_to<std::uint32_t>;
    { F::least_cpus } -> std::convertible_to<unsigned>;
    requires F::dirty_divisor > 0 && F::outbox_blocks > 0 && F::least_cpus > 0;
};
static_assert(footprint_policy<default_footprint>);

/// How much memory a page allocator has from the OS, in bytes.
struct page_statistics {
    std::size_t reserved = 0; ///< address space
    std::size_t live = 0;     ///< handed out
    std::size_t dirty = 0;    ///< free, kept for reuse
};

} // namespace binmalloc

#endif
