// binmalloc: the huge spans of a page allocator, and a cache of freed ones.
//
// Layer: page allocator. Not thread safe: the page allocator's lock is held. No system calls here.
#ifndef BINMALLOC_HUGE_SET_HPP
#define BINMALLOC_HUGE_SET_HPP

#include <binmalloc/huge_mapping.hpp>

namespace binmalloc::detail {

class huge_set {
    static constexpr unsigned cache_capacity = 16;

public:
    std::size_t live_bytes() const noexcept { return live_bytes_; }
    std::size_t cached_bytes() const noexcept { return cached_bytes_; }
    std::size_t reserved_bytes() const noexcept { return reserved_bytes_; }
    region* first_region() const noexcept { return all_; }

    /// Effects: makes a new mapping known, as handed out.
    void add(span* s) noexcept
    {
        region* r = region_holding(s);
        r->previous_all = nullptr;
        r->next_all = all_;
        if (all_ != nullptr) all_->previous_all = r;
        all_ = r;
        live_bytes_ += s->bytes;
        reserved_bytes_ += s->mapping_bytes;
    }

    /// Effects: forgets a mapping that is handed out.
    void remove(span* s) noexcept
    {
        region* r = region_holding(s);
        (r->previous_all != nullptr ? r->previous_all->next_all : all_) = r->next_all;
        if (r->next_all != nullptr) r->next_all->previous_all = r->previous_all;
        live_bytes_ -= s->bytes;
        reserved_bytes_ -= s->mapping_bytes;
    }

    /// Effects: takes a mapping from the cache: the smallest that holds `size`; if that wastes more
    /// than a quarter, or none does, the largest below; the caller makes it fit.
    span* acquire(std::size_t size, std::size_t alignment) noexcept
    {
        span** above = nullptr;
        span** below = nullptr;
        for (unsigned i = 0; i < cached_count_; ++i) {
            span* s = cached_[i];
            if (!is_aligned(huge_block(s), alignment)) continue;
            if (s->bytes >= size) {
                if (above == nullptr || s->bytes < (*above)->bytes) above = &cached_[i];
            } else if (below == nullptr || s->bytes > (*below)->bytes) {
                below = &cached_[i];
            }
        }
        if (above != nullptr && ((*above)->bytes - size <= size / 4 || below == nullptr))
            return take(above);
        return below != nullptr ? take(below) : nullptr;
    }

    /// Effects: counts a mapping that is handed out with another size.
    void resize(span* s, std::size_t bytes) noexcept
    {
        const std::size_t lead = s->mapping_bytes - s->bytes;
        live_bytes_ += bytes - s->bytes;
        reserved_bytes_ += bytes - s->bytes;
        s->bytes = bytes;
        s->mapping_bytes = lead + bytes;
    }

    /// Effects: keeps a freed mapping for reuse. False: the cache has no room for another.
    bool keep(span* s, std::uint32_t round) noexcept
    {
        if (cached_count_ == cache_capacity) return false;
        region_holding(s)->idle_since = round;
        cached_[cached_count_++] = s;
        live_bytes_ -= s->bytes;
        cached_bytes_ += s->bytes;
        return true;
    }

    /// Effects: takes a mapping out of the cache that came before `round`, for the caller to unmap:
    /// it counts as handed out again. Null: there is none.
    span* take_idle(std::uint32_t round) noexcept
    {
        for (unsigned i = 0; i < cached_count_; ++i)
            if (static_cast<std::int32_t>(region_holding(cached_[i])->idle_since - round) < 0)
                return take(&cached_[i]);
        return nullptr;
    }

private:
    span* take(span** place) noexcept
    {
        span* s = *place;
        *place = cached_[--cached_count_];
        cached_bytes_ -= s->bytes;
        live_bytes_ += s->bytes;
        return s;
    }

    region* all_ = nullptr;
    span* cached_[cache_capacity]{};
    unsigned cached_count_ = 0;
    std::size_t live_bytes_ = 0;
    std::size_t cached_bytes_ = 0;
    std::size_t reserved_bytes_ = 0;
};

} // namespace binmalloc::detail

#endif
