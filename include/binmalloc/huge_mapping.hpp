// binmalloc: huge spans, each a mapping of its own.
//
// Layer: page allocator. Thread safe: it only asks the page source.
//
//   mapping                                    block
//   | region header ...  | unused              |                            |
//   +--------------------+---------------------+----------------------------+
//   |<------ lead: a multiple of the alignment ------>|
//
// The mapping begins like a region, so that region_of() and header_of() work on its block. The lead
// costs address space, and memory only for the page or two that hold the headers.
#ifndef BINMALLOC_HUGE_MAPPING_HPP
#define BINMALLOC_HUGE_MAPPING_HPP

#include <binmalloc/page_source.hpp>
#include <binmalloc/region.hpp>

namespace binmalloc::detail {

/// The mapping of a huge span: where its block lies in it, and its bookkeeping.
struct huge_layout {
    std::size_t alignment; ///< of the mapping
    std::size_t lead;      ///< from the mapping's start to the block

    explicit huge_layout(std::size_t block_alignment) noexcept
        // The block's unit must not be one of those whose headers hold the bookkeeping.
        : alignment(block_alignment > region_size ? block_alignment : region_size),
          lead(block_alignment > first_unit * unit_size
                   ? block_alignment
                   : std::size_t{1} << (floor_log2(first_unit * unit_size - 1) + 1))
    {
    }
};

inline void* huge_block(const span* s) noexcept
{
    // The one block that starts where a region would has the boundary header.
    return s == &region_holding(s)->boundary ? offset(s, region_size) : unit_memory(s);
}

template <page_source Source>
struct huge_mapping {
    /// Returns: a huge span that no set knows yet, its bytes zero; null: no memory. Requires: `size`
    /// is a multiple of the OS page, the sum with the alignment does not overflow.
    static span* create(std::size_t size, std::size_t alignment, const void* pages) noexcept
    {
        const huge_layout layout(alignment);
        const std::size_t total = layout.lead + size;
        void* start = Source::reserve(total, layout.alignment);
        if (start == nullptr) return nullptr;
        void* p = offset(start, layout.lead);
        region* r = region_of(p);
        if (!Source::commit(r, front_of(p)) || !Source::commit(p, size)) {
            Source::release(start, total);
            return nullptr;
        }
        new (r) region{};
        r->pages = pages;
        r->magic = region_magic;
        span* s = make_span(header_of(p), unit_kind::huge, size);
        r->longest = static_cast<std::uint32_t>(unit_of(s));
        s->mapping = start;
        s->mapping_bytes = total;
        return s;
    }

    static void destroy(const span* s) noexcept { Source::release(s->mapping, s->mapping_bytes); }

    /// The span of a huge mapping. Its region has no free runs; `longest` says which unit it is.
    static span* header(region* r) noexcept { return static_cast<span*>(header_at(r, r->longest)); }

    /// The bytes to give a huge span for a new size. Growing, with an eighth to spare: growing step
    /// by step then moves it only a logarithmic number of times, and the spare part is address space
    /// until it is written.
    static std::size_t fitting(const span* s, std::size_t size) noexcept
    {
        return align_up(size > s->bytes ? size + size / 8 : size, Source::page_size());
    }

private:
    // The bytes of the block's region that hold its bookkeeping and the block's header.
    static std::size_t front_of(void* p) noexcept
    {
        const std::size_t to_header = address_of(header_of(p)) - address_of(region_of(p));
        const std::size_t used =
            to_header < first_unit * header_size ? first_unit * header_size : to_header + header_size;
        return align_up(used, Source::page_size());
    }
};

} // namespace binmalloc::detail

#endif
