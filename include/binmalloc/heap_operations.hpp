// binmalloc: what every heap does the same way.
//
// Layer: heap. A core gives blocks of a bin and spans; from these come all requests: choosing the
// class, alignment, zeroing, resizing.
#ifndef BINMALLOC_HEAP_OPERATIONS_HPP
#define BINMALLOC_HEAP_OPERATIONS_HPP

#include <binmalloc/cache.hpp>
#include <binmalloc/memory_checkers.hpp>
#include <binmalloc/page_allocator.hpp>

#include <cstring>

namespace binmalloc {

/// What allocate_at_least returns; the shape of C++23's std::allocation_result.
template <class Pointer, class Size = std::size_t>
struct allocation_result {
    Pointer ptr;
    Size count;
};

namespace detail {

/// Bytes that may be used at a block of any heap. Requires: p is null (then 0) or a live block.
BINMALLOC_INLINE std::size_t usable_size(const void* p) noexcept
{
    if (p == nullptr) return 0;
    const std::size_t size = usable_bytes(first_header(header_of(p)));
    if (size == 0) [[unlikely]]
        os::fatal("size of a pointer that is not a live block", p);
    return size;
}

/// Effects: tells the address sanitizer that the program may use `size` bytes of a block, and no more.
/// Returns: p, which may be null.
BINMALLOC_INLINE void* handed_out([[maybe_unused]] void* p, [[maybe_unused]] std::size_t size) noexcept
{
#if BINMALLOC_ADDRESS_SANITIZER
    if (const std::size_t usable = usable_size(p); usable >= sizeof(block)) {
        permit(p, size);
        forbid(offset(p, size), usable - size);
    }
#endif
    return p;
}

/// Effects: tells it that the program may not use the block any more.
BINMALLOC_INLINE void taken_back([[maybe_unused]] const void* p) noexcept
{
#if BINMALLOC_ADDRESS_SANITIZER
    if (const std::size_t usable = usable_size(p); usable >= sizeof(block)) forbid(p, usable);
#endif
}

template <class Core>
struct heap_operations {
    using table = typename Core::table;

    BINMALLOC_INLINE static void* allocate(Core& core, std::size_t size) noexcept
    {
        if (size <= table::fast_limit) [[likely]]
            return handed_out(core.allocate_block(table::of_fast(size), size), size);
        return allocate_larger(core, size);
    }

    /// Returns: a block by malloc's rule, if the fast path has one; else null.
    BINMALLOC_INLINE static void* take(Core& core, std::size_t size) noexcept
    {
        return allocate_or(core, size, [](std::size_t) noexcept -> void* { return nullptr; });
    }

    /// For malloc and operator new: what the fast path has no block for is `slow`'s, as a tail call,
    /// which begins with allocate_rest().
    template <class Slow>
    BINMALLOC_INLINE static void* allocate_or(Core& core, std::size_t size, Slow slow)
    {
        if (size <= table::fast_limit) [[likely]] {
            if (void* p = core.take_block(table::of_fast(size))) [[likely]]
                return handed_out(p, size);
        } else if constexpr (keeps_spans) {
            if (void* p = core.take_latest_span(size)) return handed_out(p, size);
        }
        return slow(size);
    }

    BINMALLOC_INLINE static void* allocate_rest(Core& core, std::size_t size) noexcept
    {
        if (size <= table::fast_limit)
            return handed_out(core.allocate_block(table::of_fast(size), size), size);
        return allocate_larger_rest(core, size);
    }

    BINMALLOC_INLINE static void* allocate(Core& core, std::size_t size,
                                           std::size_t alignment) noexcept
    {
        if (!is_power_of_two(alignment)) [[unlikely]]
            return nullptr;
        const bin_index bin = table::of(size, alignment);
        if (bin != table::none) [[likely]]
            return handed_out(core.allocate_block(bin, size), size);
        return allocate_span(core, size, alignment, nullptr);
    }

    /// For a size and alignment known to the compiler: the class is a constant.
    template <std::size_t Size, std::size_t Alignment>
    BINMALLOC_INLINE static void* allocate_constant(Core& core) noexcept
    {
        constexpr bin_index bin =
            Alignment <= unit_size ? table::search(Size, Alignment) : table::none;
        if constexpr (bin != table::none)
            return handed_out(core.allocate_block(bin, Size), Size);
        else
            return allocate_span(core, Size, Alignment, nullptr);
    }

    BINMALLOC_INLINE static void deallocate(Core& core, void* p) noexcept
    {
        taken_back(p);
        core.free_block(p);
    }

    BINMALLOC_INLINE static void deallocate(Core& core, void* p, std::size_t) noexcept
    {
        deallocate(core, p);
    }

    /// For a size and alignment known to the compiler.
    template <std::size_t Size, std::size_t Alignment>
    BINMALLOC_INLINE static void deallocate_constant(Core& core, void* p) noexcept
    {
        constexpr bin_index bin = Alignment <= unit_size ? table::search(Size, Alignment) : table::none;
        taken_back(p);
        if constexpr (bin != table::none && requires { core.free_block_of(bin, p); })
            core.free_block_of(bin, p);
        else
            core.free_block(p);
    }

    static allocation_result<void*> allocate_at_least(Core& core, std::size_t size,
                                                      std::size_t alignment) noexcept
    {
        void* p = allocate(core, size, alignment);
        return {p, usable_size_of(p)};
    }

    static void* allocate_zeroed(Core& core, std::size_t size, std::size_t alignment) noexcept
    {
        if (!is_power_of_two(alignment)) return nullptr;
        const bin_index bin = table::of(size, alignment);
        bool zeroed = false;
        void* p = bin != table::none ? handed_out(core.allocate_block(bin, size), size)
                                     : allocate_span(core, size, alignment, &zeroed);
        if (p != nullptr && (!zeroed || Core::is_watched())) std::memset(p, 0, size);
        return p;
    }

    /// Returns: if a block need not move for its new size, nor does anything else have to be done. False says
    /// nothing. Requires: it is alive.
    BINMALLOC_INLINE static bool may_stay(void* p, std::size_t new_size) noexcept
    {
        unit_header* const h = header_of(p);
        const unit_header* const first = first_header(h);
        if (first->kind == unit_kind::slab) [[likely]] {
            const auto* const s = static_cast<const slab*>(first);
            if (!fits_well(new_size, s->block_size) || !is_aligned(p, natural_alignment_of(new_size))
                || Core::is_watched()) return false;
            check_block(s, h, p, "resize of a pointer inside a block");
        } else {
            const auto* const s = static_cast<const span*>(first);
            if (first->kind != unit_kind::span || p != Core::pages_type::memory_of(s)) return false;
            if (new_size > usable_bytes_of(s) || new_size + room_of(s) <= s->bytes - unit_size
                || Core::is_watched()) return false;
        }
        handed_out(p, new_size);
        return true;
    }

    /// `alignment` 0 stands for malloc's rule.
    static void* reallocate(Core& core, void* p, std::size_t new_size,
                            std::size_t alignment) noexcept
    {
        const auto allocate_new = [&core, natural = alignment == 0, alignment](std::size_t size) noexcept {
            return natural ? allocate(core, size) : allocate(core, size, alignment);
        };
        if (alignment == 0) alignment = natural_alignment_of(new_size);
        if (!is_power_of_two(alignment)) return nullptr;
        if (p == nullptr) return allocate_new(new_size);

        unit_header* h = first_header(header_of(p));
        const std::size_t old_size = usable_size(p);
        if (h->kind == unit_kind::slab)
            check_block(static_cast<slab*>(h), p, "resize of a pointer inside a block");
        else if (p != Core::pages_type::memory_of(static_cast<span*>(h)))
            os::fatal("resize of a pointer inside a block", p);

        if (is_aligned(p, alignment) && !Core::is_watched()) {
            if (h->kind == unit_kind::slab) {
                if (fits_well(new_size, old_size)) return handed_out(p, new_size);
            } else if (new_size > max_block_size) {
                if (void* moved = resize_span<typename Core::pages_type>(static_cast<span*>(h),
                                                                        new_size, alignment))
                    return handed_out(moved, new_size);
            }
        }
        // A memory checker would take the slack for what the program may use.
        const std::size_t wanted = Core::is_watched() ? new_size : with_slack(new_size, old_size);
        void* to = allocate_new(wanted);
        if (to == nullptr && wanted != new_size) to = allocate_new(new_size);
        if (to == nullptr) return nullptr;
        {
            // What the caller did not ask for of the old block is copied, too.
            const memcheck::unseen copying(Core::is_watched());
            permit(p, old_size);
            std::memcpy(to, p, new_size < old_size ? new_size : old_size);
        }
        deallocate(core, p);
        return handed_out(to, new_size);
    }

    /// What usable_size() tells the program, the program may use.
    static std::size_t usable_size_of(const void* p) noexcept
    {
        const std::size_t size = usable_size(p);
        permit(p, size);
        if (Core::is_watched() && p != nullptr) [[unlikely]]
            memcheck::make_defined(p, size);
        return size;
    }

    static std::size_t good_size(std::size_t size, std::size_t alignment) noexcept
    {
        const bin_index bin = table::of(size, alignment);
        if (bin != table::none) return table::sizes[bin];
        if (size > max_request) return size;
        if (size > max_span_size || alignment > max_span_size)
            return align_up(size == 0 ? 1 : size, os::page_size());
        const std::size_t bytes = align_up(size == 0 ? 1 : with_room(size, alignment), unit_size);
        return bytes - room_for(bytes, size, alignment);
    }

private:
    static constexpr bool fits_well(std::size_t size, std::size_t block_size) noexcept
    {
        return size <= block_size && size >= block_size / 2;
    }

    // What a block that must move shall hold. One that grows a little is likely to go on: were it just large
    // enough each time, it would be copied once for each class.
    static constexpr std::size_t with_slack(std::size_t new_size, std::size_t old_size) noexcept
    {
        if (new_size <= old_size || new_size >= max_request / 2) return new_size;
        if (new_size > max_block_size) return new_size + new_size / 8;
        const std::size_t quarter_more = old_size + old_size / 4;
        return old_size >= cache_line && new_size < quarter_more ? quarter_more : new_size;
    }

    // Some cores keep spans for their thread.
    static constexpr bool keeps_spans = requires { Core::take_latest_span(std::size_t{}); };

    BINMALLOC_OUTLINE static void* allocate_larger(Core& core, std::size_t size) noexcept
    {
        if constexpr (keeps_spans) {
            if (void* p = core.take_latest_span(size)) [[likely]]
                return handed_out(p, size);
        }
        return allocate_larger_rest(core, size);
    }

    BINMALLOC_INLINE static void* allocate_larger_rest(Core& core, std::size_t size) noexcept
    {
        if constexpr (keeps_spans) {
            if (void* p = core.take_last_span(size)) [[likely]]
                return handed_out(p, size);
        }
        return allocate_span(core, size, natural_alignment, nullptr);
    }

    BINMALLOC_OUTLINE static void* allocate_span(Core& core, std::size_t size,
                                                 std::size_t alignment, bool* zeroed) noexcept
    {
        void* p = nullptr;
        if constexpr (keeps_spans) {
            if (size > table::largest && alignment <= unit_size) p = core.take_span(size, alignment);
        }
        if (p == nullptr) p = core.allocate_span(size, alignment, zeroed);
        return p != nullptr ? handed_out(p, size) : nullptr;
    }

    // Returns: where the span is with its new size; null: it must be copied.
    template <class Pages>
    static void* resize_span(span* s, std::size_t new_size, std::size_t alignment) noexcept
    {
        const typename Core::gate_scope scope;
        auto& pages = pages_of<Pages>(s);
        if (pages.resize(s, new_size)) return Pages::memory_of(s);
        if (new_size <= usable_bytes_of(s) || alignment > unit_size) return nullptr;
        cache_base* home = s->home;
        if (home != nullptr) home->detach(s);
        span* moved = pages.move(s, new_size);
        if (home != nullptr) home->attach(moved != nullptr ? moved : s);
        return moved != nullptr ? Pages::memory_of(moved) : nullptr;
    }
};

} // namespace detail
} // namespace binmalloc

#endif
