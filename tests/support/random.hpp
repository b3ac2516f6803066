// A small random source (splitmix64) that allocates nothing, and the size law of the random tests.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace binmalloc_test {

class random_source {
public:
    explicit random_source(std::uint64_t seed) noexcept : state_(seed) {}

    std::uint64_t next() noexcept
    {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31);
    }

    /// 0 .. limit - 1
    std::size_t below(std::size_t limit) noexcept
    {
        return static_cast<std::size_t>(next() % limit);
    }
    bool one_in(std::size_t n) noexcept { return below(n) == 0; }

    /// 0 .. limit, every power of two as likely as the next: many small sizes, a few large ones.
    std::size_t size_up_to(std::size_t limit) noexcept
    {
        const auto bits = below(static_cast<std::size_t>(std::bit_width(limit)) + 1);
        const std::size_t size = below(std::size_t{1} << bits);
        return size < limit ? size : limit;
    }

private:
    std::uint64_t state_;
};

} // namespace binmalloc_test
