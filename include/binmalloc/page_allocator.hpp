// binmalloc: the page allocator.
//
// Layer: page allocator. Thread safe with the default lock. Usable by itself: each object is
// independent and returns everything to the OS when it is destroyed.
//
// Spans up to an eighth of a region are runs of units in regions (region_set.hpp); larger ones, and those of
// very large alignment, have mappings of their own (huge_set.hpp). Freed memory waits for reuse
// until it is older than the footprint's delay or more than its share of what is live; both are
// checked as the allocator is used. purge() does not wait.
//
// The lock is never held across a system call that gives memory back: a run leaves the set first.
#ifndef BINMALLOC_PAGE_ALLOCATOR_HPP
#define BINMALLOC_PAGE_ALLOCATOR_HPP

#include <binmalloc/huge_mapping.hpp>
#include <binmalloc/huge_set.hpp>
#include <binmalloc/page_source.hpp>
#include <binmalloc/region_set.hpp>
#include <binmalloc/spinlock.hpp>

#include <cstring>
#include <new>

namespace binmalloc {

template <page_source Source = os_pages, footprint_policy Footprint = default_footprint,
          class Lock = detail::spinlock>
class basic_page_allocator {
    using region = detail::region;
    using span = detail::span;
    using unit_header = detail::unit_header;
    using unit_kind = detail::unit_kind;
    using unit_run = detail::unit_run;
    using mapping = detail::huge_mapping<Source>;
    using guard = detail::lock_guard<Lock>;

public:
    constexpr basic_page_allocator() noexcept = default;
    basic_page_allocator(const basic_page_allocator&) = delete;
    basic_page_allocator& operator=(const basic_page_allocator&) = delete;

    /// Effects: returns all memory to the OS, also what is still handed out.
    ~basic_page_allocator()
    {
        for (region *r = huge_.first_region(), *next; r != nullptr; r = next) {
            next = r->next_all;
            mapping::destroy(mapping::header(r));
        }
        for (region *r = regions_.first_region(), *next; r != nullptr; r = next) {
            next = r->next_all;
            Source::release(r, r->unit_count * detail::unit_size);
        }
    }

    /// Effects: allocates at least `size` bytes, a multiple of 16 KiB unless huge.
    /// Requires: `alignment` is a power of two (else null).
    /// Returns: memory aligned to `alignment` and to 16 KiB; null when the system refuses or the
    /// request is absurd. `zeroed`, if given, says whether it is known to read as zero.
    void* allocate(std::size_t size, std::size_t alignment = detail::unit_size,
                   bool* zeroed = nullptr) noexcept
    {
        span* s = allocate_span(size, alignment, zeroed);
        return s != nullptr ? memory_of(s) : nullptr;
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
        if (resize(s, new_size)) return p;
        if (span* moved = move(s, new_size)) return memory_of(moved);

        // Some slack, so that a block that keeps growing is not copied at every step.
        void* to = new_size > s->bytes ? allocate(new_size + new_size / 8) : nullptr;
        if (to == nullptr) to = allocate(new_size);
        if (to == nullptr) return nullptr;
        std::memcpy(to, p, s->bytes < new_size ? s->bytes : new_size);
        deallocate_span(s);
        return to;
    }

    /// Returns: bytes that may be used at `p`, at least what was asked for; 0 for null.
    std::size_t usable_size(const void* p) const noexcept
    {
        return p != nullptr ? span_at(p)->bytes : 0;
    }

    /// Effects: gives all free memory back to the OS now.
    void purge() noexcept { trim(trim_all); }

    page_statistics statistics() const noexcept
    {
        guard held(lock_);
        return {regions_.reserved_bytes() + huge_.reserved_bytes(),
                regions_.live_units() * detail::unit_size + huge_.live_bytes(), dirty_bytes()};
    }

    // For the layers above.

    /// Returns: the header of `count` units, or null. Their headers are the caller's to fill.
    unit_header* acquire_units(unsigned count) noexcept
    {
        bool zeroed;
        const unit_run run = acquire_run(count, 1, zeroed);
        return run ? run.header() : nullptr;
    }

    /// Effects: frees units. Requires: their headers say unit_kind::none and no owner.
    void release_units(unit_header* first, unsigned count) noexcept
    {
        bool due;
        {
            guard held(lock_);
            regions_.release(detail::run_of(first, count));
            due = trim_due();
        }
        if (due) [[unlikely]]
            trim(trim_aged);
    }

    /// As allocate(), but returns the header.
    span* allocate_span(std::size_t size, std::size_t alignment, bool* zeroed = nullptr) noexcept
    {
        bool unused;
        bool& zero = zeroed != nullptr ? *zeroed : unused;
        if (size > detail::max_request || !detail::is_power_of_two(alignment)
            || alignment > detail::max_alignment) return nullptr;
        if (size == 0) size = 1;
        if (size > detail::max_span_size || alignment > detail::max_span_size)
            return allocate_huge(size, alignment, zero);

        const auto count = static_cast<unsigned>(detail::divide_up(size, detail::unit_size));
        const auto step = static_cast<unsigned>(detail::divide_up(alignment, detail::unit_size));
        const unit_run run = acquire_run(count, step, zero);
        if (!run) return nullptr;
        return detail::make_span(run.header(), unit_kind::span, run.bytes());
    }

    /// Effects: frees a span. Requires: it is in no list.
    void deallocate_span(span* s) noexcept
    {
        const os::keep_errno keep;
        if (s->kind == unit_kind::huge) {
            deallocate_huge(s);
            return;
        }
        const auto count = static_cast<unsigned>(s->bytes / detail::unit_size);
        s->kind = unit_kind::none;
        release_units(s, count);
    }

    /// Effects: resizes without moving. False: not possible, nothing has changed.
    bool resize(span* s, std::size_t new_size) noexcept
    {
        if (new_size > detail::max_request) return false;
        if (new_size <= s->bytes && new_size >= s->bytes / 2) return true;
        if (s->kind == unit_kind::huge)
            return new_size > detail::max_span_size && resize_huge(s, mapping::fitting(s, new_size));

        const auto old_count = static_cast<unsigned>(s->bytes / detail::unit_size);
        const std::size_t new_count = detail::divide_up(new_size | 1, detail::unit_size);
        const unit_run run = detail::run_of(s, old_count);
        if (new_count > old_count) {
            if (new_size > detail::max_span_size) return false;
            const auto more = static_cast<unsigned>(new_count) - old_count;
            const unit_run tail{run.where, run.first + old_count, more};
            guard held(lock_);
            if (!regions_.acquire_after(run, more)) return false;
            if (!commit(tail)) {
                regions_.release(tail);
                return false;
            }
        } else if (new_count < old_count) {
            const auto fewer = old_count - static_cast<unsigned>(new_count);
            release_units(detail::header_at(run.where, run.first + old_count - fewer), fewer);
        }
        s->bytes = new_count * detail::unit_size;
        return true;
    }

    /// Effects: moves a huge span's pages, not its content, to where it can have the new size.
    /// Returns: its new header; null: not possible, nothing has changed. Requires: it is in no list,
    /// the new size is larger.
    span* move(span* s, std::size_t new_size) noexcept
    {
        if (s->kind != unit_kind::huge || new_size > detail::max_request) return nullptr;
        return move_huge(s, mapping::fitting(s, new_size));
    }

    /// The block that a span's header describes.
    static void* memory_of(const span* s) noexcept
    {
        return s->kind == unit_kind::huge ? detail::huge_block(s) : detail::unit_memory(s);
    }

    /// For fork: nothing changes while it is held.
    Lock& lock() noexcept { return lock_; }

private:
    enum trim_mode : bool { trim_aged, trim_all };

    static span* span_at(const void* p) noexcept
    {
        auto* s = static_cast<span*>(detail::header_of(p));
        if ((s->kind != unit_kind::span && s->kind != unit_kind::huge) || memory_of(s) != p)
            [[unlikely]] os::fatal("not the start of a live block", p);
        return s;
    }

    static bool commit(const unit_run& run) noexcept
    {
        if constexpr (!os::commit_needed) return true;
        return Source::commit(run.memory(), run.bytes());
    }

    unit_run acquire_run(unsigned count, unsigned alignment, bool& zeroed) noexcept
    {
        unit_run run;
        bool due;
        {
            guard held(lock_);
            run = regions_.acquire(count, alignment, zeroed);
            due = trim_due();
        }
        if (!run) [[unlikely]]
            run = acquire_from_new_region(count, alignment, zeroed);
        if (due) [[unlikely]]
            trim(trim_aged);
        if (run && !commit(run)) [[unlikely]] {
            guard held(lock_);
            regions_.release(run);
            return {};
        }
        return run;
    }

    BINMALLOC_SLOW unit_run acquire_from_new_region(unsigned count, unsigned alignment,
                                                    bool& zeroed) noexcept
    {
        const std::size_t needed = (detail::first_unit + count + alignment) * detail::unit_size;
        for (const bool last_try : {false, true}) {
            // Where address space is short, a region's front alone will do: its headers are there.
            for (std::size_t size = detail::region_size; size >= needed; size /= 2) {
                void* p = Source::reserve(size, detail::region_size);
                if (p == nullptr) continue;
                if (!Source::commit(p, detail::first_unit * detail::unit_size)) {
                    Source::release(p, size);
                    continue;
                }
                guard held(lock_);
                regions_.add(new (p) region, static_cast<unsigned>(size / detail::unit_size), this);
                return regions_.acquire(count, alignment, zeroed);
            }
            if (!last_try) trim(trim_all);
            // Another thread may have freed or mapped something meanwhile.
            guard held(lock_);
            if (const unit_run run = regions_.acquire(count, alignment, zeroed)) return run;
        }
        return {};
    }

    span* allocate_huge(std::size_t size, std::size_t alignment, bool& zeroed) noexcept
    {
        size = detail::align_up(size, Source::page_size());
        span* s;
        {
            guard held(lock_);
            s = huge_.acquire(size, alignment);
        }
        if (s != nullptr) {
            zeroed = false;
            s->kind = unit_kind::huge;
            if (s->bytes >= size && s->bytes - size <= size / 4) return s;
            // Resizing a mapping costs less than faulting its pages in again.
            if (resize_huge(s, size)) return s;
            if (alignment <= detail::unit_size)
                if (span* moved = move_huge(s, size)) return moved;
            if (s->bytes >= size) return s;
            forget_huge(s);
        }
        zeroed = true;
        s = mapping::create(size, alignment, this);
        if (s == nullptr) {
            trim(trim_all);
            s = mapping::create(size, alignment, this);
        }
        if (s == nullptr) return nullptr;
        guard held(lock_);
        huge_.add(s);
        return s;
    }

    void deallocate_huge(span* s) noexcept
    {
        s->kind = unit_kind::none;
        bool kept;
        bool due;
        {
            guard held(lock_);
            kept = s->bytes <= dirty_limit() && huge_.keep(s, round_);
            if (!kept) huge_.remove(s);
            due = trim_due();
        }
        if (!kept) mapping::destroy(s);
        if (due) trim(trim_aged);
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
        const std::size_t lead = s->mapping_bytes - s->bytes;
        if (!Source::extend(s->mapping, s->mapping_bytes, lead + bytes)) return false;
        guard held(lock_);
        huge_.resize(s, bytes);
        return true;
    }

    // Effects: moves the pages into a mapping of `bytes`. Null: not possible, nothing has changed.
    span* move_huge(span* s, std::size_t bytes) noexcept
    {
        if (bytes < s->bytes) return nullptr;
        span* to = mapping::create(bytes, detail::unit_size, this);
        if (to == nullptr) return nullptr;
        if (!Source::move(memory_of(s), s->bytes, memory_of(to), to->bytes)) {
            mapping::destroy(to);
            return nullptr;
        }
        const std::size_t lead = s->mapping_bytes - s->bytes;
        void* old_mapping = s->mapping;
        {
            guard held(lock_);
            huge_.remove(s);
            huge_.add(to);
        }
        Source::release(old_mapping, lead);
        return to;
    }

    std::size_t dirty_bytes() const noexcept
    {
        return regions_.dirty_units() * detail::unit_size + huge_.cached_bytes();
    }

    std::size_t dirty_limit() const noexcept
    {
        const std::size_t live = regions_.live_units() * detail::unit_size + huge_.live_bytes();
        const std::size_t share = live / Footprint::dirty_divisor;
        return share > Footprint::dirty_floor ? share : std::size_t{Footprint::dirty_floor};
    }

    // Under the lock. The clock is read at every 16th call only.
    bool trim_due() noexcept
    {
        const std::size_t dirty = dirty_bytes();
        if (dirty == 0) return false;
        if (dirty > dirty_limit() || aging_) return true;
        if (++calls_ % 16 != 0) return false;
        const std::uint64_t now = os::now_ms();
        if (now - aged_at_ < Footprint::purge_delay_ms) return false;
        // What was dirty a round ago and is so still goes now; the rest begins to age.
        aged_at_ = now;
        ++round_;
        aging_ = true;
        return true;
    }

    // One round gives back what aged through the last one, in steps; then the next begins to age.
    BINMALLOC_SLOW void trim(trim_mode mode) noexcept
    {
        const os::keep_errno keep;
        const auto page_units =
            static_cast<unsigned>(detail::divide_up(Source::page_size(), detail::unit_size));
        for (std::size_t given = 0; mode == trim_all || given < Footprint::purge_step;) {
            unit_run run;
            span* idle;
            {
                guard held(lock_);
                const bool all = mode == trim_all || dirty_bytes() > dirty_limit();
                if (!all && !aging_) return;
                idle = huge_.take_idle(all ? round_ + 1 : round_ - 1);
                if (idle != nullptr) {
                    huge_.remove(idle);
                } else if (run = regions_.take_dirty(!all, page_units); !run) {
                    if (aging_) regions_.age();
                    aging_ = false;
                    return;
                }
            }
            if (idle != nullptr) {
                given += idle->bytes;
                mapping::destroy(idle);
                continue;
            }
            given += run.bytes();
            if (run.first == 0) {
                Source::release(run.where, run.bytes());
                continue;
            }
            const bool clean = Source::decommit(run.memory(), run.bytes());
            guard held(lock_);
            regions_.put_back(run, clean);
            if (!clean) return;
        }
    }

    mutable Lock lock_;
    bool aging_ = false; // a round of trimming has not come to its end
    std::uint32_t round_ = 0;
    std::uint32_t calls_ = 0;
    std::uint64_t aged_at_ = 0;
    detail::region_set regions_;
    detail::huge_set huge_;
};

/// The page allocator by itself: spans from 16 KiB, any alignment, thread safe.
using page_allocator = basic_page_allocator<>;

} // namespace binmalloc

#endif
