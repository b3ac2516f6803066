// binmalloc: heap operations that look for misuse.
//
// Layer: heap. Thread safe. What a policy with `checked` gets in place of heap_operations.hpp.
//
//   | what was asked for | ...                        | note |
//   |<---- usable_size() of a checked heap ---->|
//
// The last word of each block notes the size that was asked for, and that it is freed. So a block
// costs a word more, and each call a look at its header; frees also ask the system whether there is
// memory at the address. Found are: frees and resizes of what is no live block of a heap (foreign
// pointers, pointers inside a block, blocks freed before), sizes that are not those of the
// allocation, and notes that the program has overwritten.
#ifndef BINMALLOC_CHECKED_OPERATIONS_HPP
#define BINMALLOC_CHECKED_OPERATIONS_HPP

#include <binmalloc/heap_operations.hpp>

namespace binmalloc::detail {

/// The last word of a block. The program may not touch it, so the sanitizer must not watch it.
BINMALLOC_LINK std::size_t read_note(const void* place) noexcept
{
    return *static_cast<const std::size_t*>(place);
}
BINMALLOC_LINK void write_note(void* place, std::size_t note) noexcept
{
    *static_cast<std::size_t*>(place) = note;
}

template <class Core>
struct checked_operations {
    using plain = heap_operations<Core>;

    static void* allocate(Core& core, std::size_t size) noexcept
    {
        return allocate(core, size, natural_alignment_of(size));
    }

    static void* allocate(Core& core, std::size_t size, std::size_t alignment) noexcept
    {
        if (size > max_request) return nullptr;
        return noted(plain::allocate(core, size + note_size, aligned_for_note(alignment)), size);
    }

    static void* take(Core&, std::size_t) noexcept { return nullptr; }

    template <class Slow>
    static void* allocate_or(Core&, std::size_t size, Slow slow)
    {
        return slow(size);
    }

    static void* allocate_rest(Core& core, std::size_t size) noexcept { return allocate(core, size); }

    template <std::size_t Size, std::size_t Alignment>
    static void* allocate_constant(Core& core) noexcept
    {
        return allocate(core, Size, Alignment);
    }

    static void* allocate_zeroed(Core& core, std::size_t size, std::size_t alignment) noexcept
    {
        if (size > max_request) return nullptr;
        return noted(plain::allocate_zeroed(core, size + note_size, aligned_for_note(alignment)),
                     size);
    }

    static allocation_result<void*> allocate_at_least(Core& core, std::size_t size,
                                                      std::size_t alignment) noexcept
    {
        void* p = allocate(core, size, alignment);
        if (p != nullptr) noted(p, size | any_size_up_to_usable);
        return {p, usable_size_of(p)};
    }

    static bool may_stay(void*, std::size_t) noexcept { return false; }

    static void* reallocate(Core& core, void* p, std::size_t new_size,
                            std::size_t alignment) noexcept
    {
        if (p == nullptr && alignment == 0) return allocate(core, new_size);
        if (p == nullptr) return allocate(core, new_size, alignment);
        if (new_size > max_request) return nullptr;
        check_live(p, "resize of a pointer that is not a live block");
        if (alignment == 0) alignment = natural_alignment_of(new_size);
        return noted(
            plain::reallocate(core, p, new_size + note_size, aligned_for_note(alignment)), new_size);
    }

    static void deallocate(Core& core, void* p) noexcept
    {
        if (p == nullptr) return;
        check_live(p, "free of a pointer that is not a live block");
        write_note(note_of(p), freed);
        plain::deallocate(core, p);
    }

    static void deallocate(Core& core, void* p, std::size_t size) noexcept
    {
        if (p == nullptr) return;
        const std::size_t note = check_live(p, "free of a pointer that is not a live block");
        const std::size_t asked_for = note & ~any_size_up_to_usable;
        const std::size_t most = note != asked_for ? usable_size(p) - note_size : asked_for;
        if (size < asked_for || size > most) os::fatal("free with a wrong size", p);
        deallocate(core, p);
    }

    template <std::size_t Size, std::size_t>
    static void deallocate_constant(Core& core, void* p) noexcept
    {
        deallocate(core, p, Size);
    }

    static std::size_t usable_size_of(const void* p) noexcept
    {
        if (p == nullptr) return 0;
        check_live(p, "size of a pointer that is not a live block");
        return plain::usable_size_of(p) - note_size;
    }

    static std::size_t good_size(std::size_t size, std::size_t alignment) noexcept
    {
        if (size > max_request) return size;
        return plain::good_size(size + note_size, aligned_for_note(alignment)) - note_size;
    }

private:
    static constexpr std::size_t note_size = sizeof(std::size_t);
    static constexpr std::size_t freed = SIZE_MAX;
    static constexpr std::size_t any_size_up_to_usable = SIZE_MAX ^ (SIZE_MAX >> 1);
    static_assert((max_request & any_size_up_to_usable) == 0);

    // A power of two stays one, anything else stays wrong.
    static constexpr std::size_t aligned_for_note(std::size_t alignment) noexcept
    {
        return alignment == 1 || alignment == 2 || alignment == 4 ? alignof(std::size_t) : alignment;
    }

    static void* note_of(const void* p) noexcept { return offset(p, usable_size(p) - note_size); }

    static void* noted(void* p, std::size_t note) noexcept
    {
        if (p != nullptr) write_note(note_of(p), note);
        return p;
    }

    // Returns: the block's note. Effects: ends the process if `p` is not a live block.
    static std::size_t check_live(const void* p, const char* what) noexcept
    {
        const region* r = region_of(p);
        const unit_header* h = header_of(p);
        if (!os::is_mapped(r) || !os::is_mapped(h) || r->magic != region_magic) os::fatal(what, p);
        h = first_header(const_cast<unit_header*>(h));
        if (h->kind == unit_kind::slab)
            check_block(static_cast<const slab*>(h), p, what);
        else if ((h->kind != unit_kind::span && h->kind != unit_kind::huge)
                 || Core::pages_type::memory_of(static_cast<const span*>(h)) != p)
            os::fatal(what, p);
        const std::size_t note = read_note(note_of(p));
        if (note == freed) os::fatal("double free", p);
        if ((note & ~any_size_up_to_usable) > usable_size(p) - note_size)
            os::fatal("write past the end of a block", p);
        return note;
    }
};

} // namespace binmalloc::detail

#endif
