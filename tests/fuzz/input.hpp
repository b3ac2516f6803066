// A fuzzer's bytes as the numbers that a script of calls is made of. After the last byte: zeros.
#pragma once

#include "support/process.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace binmalloc_fuzz {

using namespace binmalloc_test;

class input {
public:
    explicit input(std::span<const std::uint8_t> bytes) noexcept : bytes_(bytes) {}

    bool empty() const noexcept { return bytes_.empty(); }

    std::size_t byte() noexcept
    {
        if (bytes_.empty()) return 0;
        const std::size_t value = bytes_.front();
        bytes_ = bytes_.subspan(1);
        return value;
    }
    std::size_t word() noexcept
    {
        const std::size_t low = byte();
        return low + 256 * byte();
    }

    /// Part number `index` of `count` parts of what is left.
    input part(std::size_t index, std::size_t count) const noexcept
    {
        const std::size_t length = bytes_.size() / count;
        return input(bytes_.subspan(index * length, length));
    }

    /// Small ones, the neighbourhood of every size class, spans, huge ones, and absurd ones.
    std::size_t size() noexcept
    {
        switch (byte() % 8) {
        case 0:
        case 1: return byte();
        case 2: return word() % (2 * kib);
        case 3: return word() % (20 * kib);
        case 4: {
            const std::size_t choice = byte();
            const std::size_t power = std::size_t{4} << (choice % 20);
            return power + power / 8 * (choice / 20 % 8) + choice % 3 - 1;
        }
        case 5: return word() * 16;
        case 6: return word() * 100;
        default: {
            const std::size_t choice = byte();
            if (choice < 250) return choice * 64;
            return (SIZE_MAX >> (choice % (sizeof(void*) < 8 ? 2 : 3))) - byte();
        }
        }
    }

    /// 0 (none), a power of two up to 8 MiB, or a number that is no alignment.
    std::size_t alignment() noexcept
    {
        const std::size_t choice = byte();
        if (choice < 128) return 0;
        if (choice < 250) return std::size_t{1} << (choice % 24);
        constexpr std::size_t bad[] = {
            3, 24, 48, 12 * kib, SIZE_MAX, std::size_t{1} << (sizeof(void*) * 8 - 1)};
        return bad[choice - 250];
    }

private:
    std::span<const std::uint8_t> bytes_;
};

/// On 32 bits some of these may be had, or not: size() makes none of those.
inline bool absurd(std::size_t size) noexcept { return size > SIZE_MAX / 8; }

inline bool possible_alignment(std::size_t alignment) noexcept
{
    return (alignment & (alignment - 1)) == 0 && alignment <= 64 * mib;
}

} // namespace binmalloc_fuzz
