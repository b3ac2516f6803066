// binmalloc: the page allocator.
//
// Layer: page allocator. Thread safe with the default lock. Usable by itself: each object is
// independent and returns everything to the OS when it is destroyed.
//
// Spans up to a quarter of a region are runs of units in regions (region_set.hpp); larger ones, those
// of very large alignment, and those that grew where there was no room, have mappings of their own
// (huge_set.hpp). Both are in a page store, which also limits them and gives freed memory back.
#ifndef BINMALLOC_PAGE_ALLOCATOR_HPP
#define BINMALLOC_PAGE_ALLOCATOR_HPP

#include <binmalloc/coloring.hpp>
#include <binmalloc/page_store.hpp>

#include <cstring>

namespace binmalloc {

template <page_source Source = os_pages, footprint_policy Footprint = default_footprint,
          class Lock = detail::spinlock>
class basic_page_allocator : public detail::page_store<Source, Footprint, Lock> {
    using span = detail::span;
    using unit_header = detail::unit_header;
    using unit_kind = detail::unit_kind;
    using unit_run = detail::unit_run;

public:
    using store = detail::page_store<Source, Footprint, Lock>;

    constexpr basic_page_allocator() noexcept = default;
    basic_page_allocator(const basic_page_allocator&) = delete;
    basic_page_allocator& operator=(const basic_page_allocator&) = delete;

    /// Effects: allocates at least `size` bytes, a multiple of 16 KiB unless huge.
    /// Requires: `alignment` is a power of two (else null).
    /// Returns: memory aligned to `alignment` and to 16 KiB; null when the system refuses or the
    /// request is absurd. `zeroed`, if given, says whether it is known to read as zero.
    void* allocate(std::size_t size, std::size_t alignment = detail::unit_size,
                   bool* zeroed = nullptr) noexcept
    {
        span* s = allocate_span(size, alignment, zeroed);
        return s != nullptr ? permitted(s) : nullptr;
    }

    /// Effects: takes memory back. Null is ignored. errno is kept. A pointer that is not the start of
    /// a live span of this allocator ends the process, where that can be seen.
    void deallocate(void* p) noexcept
    {
        if (p != nullptr) deallocate_span(span_at(p));
    }

    /// Effects: resizes, in place where the neighbourhood allows, else by moving pages or content.
    /// Null `p` allocates.
    /// Returns: the memory's address, content kept up to the smaller size; null on failure, and then
    /// the old memory is as it was.
    void* reallocate(void* p, std::size_t new_size) noexcept
    {
        if (p == nullptr) return allocate(new_size);
        if (new_size > detail::max_request) return nullptr;
        span* s = span_at(p);
        if (resize(s, new_size)) return permitted(s);
        if (span* moved = move(s, new_size)) return permitted(moved);

        // Some slack, so that a block that keeps growing is not copied at every step.
        void* to = new_size > s->bytes ? allocate(new_size + new_size / 8) : nullptr;
        if (to == nullptr) to = allocate(new_size);
        if (to == nullptr) return nullptr;
        const std::size_t usable = detail::usable_bytes_of(s);
        std::memcpy(to, p, usable < new_size ? usable : new_size);
        deallocate_span(s);
        return to;
    }

    /// Returns: bytes that may be used at `p`, at least what was asked for; 0 for null.
    std::size_t usable_size(const void* p) const noexcept
    {
        return p != nullptr ? detail::usable_bytes_of(span_at(p)) : 0;
    }

    // For the layers above.

    /// As allocate(), but returns the header.
    span* allocate_span(std::size_t size, std::size_t alignment, bool* zeroed = nullptr) noexcept
    {
        bool unused;
        bool& zero = zeroed != nullptr ? *zeroed : unused;
        if (size > detail::max_request || !detail::is_power_of_two(alignment)
            || alignment > detail::max_alignment || is_abandoned()) return nullptr;
        if (size == 0) size = 1;
        if (size > detail::max_span_size || alignment > detail::max_span_size)
            return allocate_huge(size, alignment, zero);

        const auto count = static_cast<unsigned>(detail::divide_up(size, detail::unit_size));
        const auto step = static_cast<unsigned>(detail::divide_up(alignment, detail::unit_size));
        const unit_run run = this->acquire_run(count, step, zero);
        if (!run) return nullptr;
        return detail::make_span(run.header(), unit_kind::span, run.bytes());
    }

    /// Effects: frees a span. Requires: it is in no list.
    void deallocate_span(span* s) noexcept
    {
        if (is_abandoned()) return;
        const os::keep_errno keep;
        if (s->kind == unit_kind::huge) {
            deallocate_huge(s);
            return;
        }
        const auto count = static_cast<unsigned>(s->bytes / detail::unit_size);
        s->kind = unit_kind::none;
        this->release_units(s, count);
    }

    /// Effects: resizes without moving. False: not possible, nothing has changed.
    bool resize(span* s, std::size_t new_size) noexcept
    {
        if (new_size > detail::max_request || is_abandoned()) return false;
        new_size += detail::room_of(s);
        if (new_size <= s->bytes && new_size >= s->bytes / 2) return true;
        if (s->kind == unit_kind::huge)
            return new_size >= detail::min_moved_size && resize_huge(s, mapping::fitting(s, new_size));

        const auto old_count = static_cast<unsigned>(s->bytes / detail::unit_size);
        const std::size_t new_count = detail::divide_up(new_size != 0 ? new_size : 1, detail::unit_size);
        const unit_run run = detail::run_of(s, old_count);
        if (new_count > old_count) {
            if (new_size > detail::max_span_size) return false;
            const auto more = static_cast<unsigned>(new_count) - old_count;
            const unit_run tail{run.where, run.first + old_count, more};
            guard held(lock_);
            if (!regions_.acquire_after(run, more, this->units_below_limit())) return false;
            if (!store::commit(tail)) {
                regions_.release(tail);
                return false;
            }
        } else if (new_count < old_count) {
            const auto fewer = old_count - static_cast<unsigned>(new_count);
            this->release_units(detail::header_at(run.where, run.first + old_count - fewer), fewer);
        }
        s->bytes = new_count * detail::unit_size;
        detail::note_sizes(s);
        return true;
    }

    /// Effects: moves a large span's pages, not its content, to where it can have the new size.
    /// Returns: its new header; null: not possible, nothing has changed. Requires: it is in no list,
    /// the new size is larger.
    span* move(span* s, std::size_t new_size) noexcept
    {
        if (s->bytes < detail::min_moved_size || new_size > detail::max_request || is_abandoned())
            return nullptr;
        const std::size_t bytes = mapping::fitting(s, new_size + detail::room_of(s));
        return s->kind == unit_kind::huge ? move_huge(s, bytes) : move_from_region(s, bytes);
    }

    /// The block that a span's header describes.
    static void* memory_of(const span* s) noexcept
    {
        return detail::offset(start_of(s), detail::lead_of(s));
    }

    /// Effects: gives the block its place in a span, for a request whose size and alignment with_room() has
    /// seen. Returns: where it begins.
    static void* block_in(span* s, std::size_t size, std::size_t alignment) noexcept
    {
        return s->kind == unit_kind::huge ? memory_of(s) : detail::color(s, size, alignment);
    }

private:
    using typename store::guard;
    using typename store::mapping;
    using typename store::source;
    using store::huge_;
    using store::is_abandoned;
    using store::lock_;
    using store::promised_;
    using store::regions_;

    static void* start_of(const span* s) noexcept
    {
        return s->kind == unit_kind::huge ? detail::huge_block(s) : detail::unit_memory(s);
    }

    static void* permitted(const span* s) noexcept
    {
        detail::permit(memory_of(s), detail::usable_bytes_of(s));
        return memory_of(s);
    }

    static span* span_at(const void* p) noexcept
    {
        auto* s = static_cast<span*>(detail::header_of(p));
        if ((s->kind != unit_kind::span && s->kind != unit_kind::huge) || memory_of(s) != p)
            [[unlikely]] os::fatal("not the start of a live block", p);
        return s;
    }

    span* allocate_huge(std::size_t size, std::size_t alignment, bool& zeroed) noexcept
    {
        const os::keep_errno keep; // what could not be resized is copied
        size = detail::align_up(size, source::page_size());
        span* s;
        {
            guard held(lock_);
            s = this->held_bytes() <= this->limit() ? huge_.acquire(size, alignment) : nullptr;
            if (s != nullptr) this->allowance_.note_need(0, this->live_bytes());
        }
        if (s != nullptr) {
            zeroed = false;
            s->kind = unit_kind::huge;
            detail::forget_color(s);
            if (s->bytes >= size && s->bytes - size <= size / 4) return s;
            // Resizing a mapping costs less than faulting its pages in again.
            if (resize_huge(s, size)) return s;
            if (alignment <= detail::unit_size)
                if (span* moved = move_huge(s, size)) return moved;
            if (s->bytes >= size) return s;
            forget_huge(s);
        }
        zeroed = true;
        for (const bool last_try : {false, true}) {
            if (this->promise(size)) {
                s = mapping::create(size, alignment, static_cast<store*>(this));
                guard held(lock_);
                promised_ -= size;
                if (s != nullptr) {
                    huge_.add(s);
                    this->allowance_.note_need(size, this->live_bytes());
                    return s;
                }
            }
            if (!last_try) this->trim(store::trim_all);
        }
        return nullptr;
    }

    void deallocate_huge(span* s) noexcept
    {
        s->kind = unit_kind::none;
        detail::forbid(detail::huge_block(s), s->bytes);
        bool kept;
        bool due;
        {
            guard held(lock_);
            kept = s->bytes <= this->allowance_.ceiling(this->live_bytes())
                && huge_.keep(s, this->round());
            if (!kept) huge_.remove(s);
            due = this->trim_due();
        }
        if (!kept) mapping::destroy(s);
        if (due) this->trim(store::trim_aged);
    }

    void forget_huge(span* s) noexcept
    {
        {
            guard held(lock_);
            huge_.remove(s);
        }
        mapping::destroy(s);
    }

    // Effects: resizes in place to `bytes`, a multiple of the OS page.
    bool resize_huge(span* s, std::size_t bytes) noexcept
    {
        const os::keep_errno keep;
        const std::size_t lead = s->mapping_bytes - s->bytes;
        const std::size_t more = bytes > s->bytes ? bytes - s->bytes : 0;
        if (!this->promise(more)) return false;
        const bool done = source::extend(s->mapping, s->mapping_bytes, lead + bytes);
        guard held(lock_);
        promised_ -= more;
        if (done) huge_.resize(s, bytes);
        return done;
    }

    // Effects: moves the pages into a mapping of `bytes`. Null: not possible, nothing has changed.
    span* move_huge(span* s, std::size_t bytes) noexcept
    {
        if (bytes < s->bytes) return nullptr;
        const os::keep_errno keep;
        const std::size_t more = bytes - s->bytes;
        if (!this->promise(more)) return nullptr;
        span* to = mapping::create(bytes, detail::unit_size, static_cast<store*>(this));
        const bool moved =
            to != nullptr && source::move(start_of(s), s->bytes, start_of(to), to->bytes);
        const std::size_t lead = s->mapping_bytes - s->bytes;
        void* old_mapping = s->mapping;
        {
            guard held(lock_);
            promised_ -= more;
            if (moved) {
                huge_.remove(s);
                huge_.add(to);
            }
        }
        if (moved) {
            detail::copy_color(to, s);
            source::release(old_mapping, lead);
            return to;
        }
        if (to != nullptr) mapping::destroy(to);
        return nullptr;
    }

    // Effects: moves the pages out of a region into a mapping of `bytes`. Null as above.
    span* move_from_region(span* s, std::size_t bytes) noexcept
    {
        const os::keep_errno keep;
        const unit_run run =
            detail::run_of(s, static_cast<unsigned>(s->bytes / detail::unit_size));
        // Pages larger than a unit may hold a neighbour's units, too.
        const std::size_t page = source::page_size();
        if (!detail::is_aligned(run.memory(), page) || run.bytes() % page != 0) return nullptr;
        if (!this->promise(s->bytes)) return nullptr;
        span* halfway = mapping::create(s->bytes, detail::unit_size, static_cast<store*>(this));
        const bool moved = halfway != nullptr
            && source::move_out(run.memory(), s->bytes, start_of(halfway));
        {
            guard held(lock_);
            promised_ -= s->bytes;
            if (moved) huge_.add(halfway);
        }
        // To the kernel a mapping's lead and block are one or two, so it grows by moving once more.
        span* to = moved ? move_huge(halfway, bytes) : nullptr;
        if (to != nullptr) {
            detail::copy_color(to, s);
            s->kind = unit_kind::none;
            detail::forbid(run.memory(), run.bytes());
            guard held(lock_);
            regions_.release(run, true);
            return to;
        }
        if (moved) {
            if (!source::move_out(start_of(halfway), run.bytes(), run.memory()))
                std::memcpy(run.memory(), start_of(halfway), run.bytes());
            forget_huge(halfway);
        } else if (halfway != nullptr) {
            mapping::destroy(halfway);
        }
        return nullptr;
    }
};

/// The page allocator by itself: spans from 16 KiB, any alignment, thread safe.
using page_allocator = basic_page_allocator<>;

} // namespace binmalloc

#endif
