// Contents that belong to one block: bytes derived from an id, so that two blocks never hold
// the same.
// Up to 64 KiB every byte counts; beyond, one word in 512 bytes and the last eight bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace binmalloc_test {

/// Hides where a value comes from, and keeps the compiler from removing an allocation it thinks
/// unused.
template <class T>
inline T opaque(T value) noexcept
{
    asm volatile("" : "+r"(value) : : "memory");
    return value;
}

namespace pattern_detail {

inline constexpr std::size_t word = sizeof(std::uint64_t);
inline constexpr std::size_t dense_bytes = 64 * 1024;
inline constexpr std::size_t sparse_step = 512;

inline std::uint64_t word_of(std::uint64_t id, std::size_t offset) noexcept
{
    const std::uint64_t mixed =
        (id + 1) * 0x9E3779B97F4A7C15ULL + offset / word * 0xD1B54A32D192ED03ULL;
    return mixed ^ (mixed >> 29);
}

/// The byte there of the word in memory.
inline unsigned char byte_of(std::uint64_t id, std::size_t offset) noexcept
{
    const std::size_t in_word = offset % word;
    const std::size_t above = std::endian::native == std::endian::little ? in_word : word - 1 - in_word;
    return static_cast<unsigned char>(word_of(id, offset) >> (8 * above));
}

inline std::size_t next_offset(std::size_t offset) noexcept
{
    return offset + (offset < dense_bytes ? word : sparse_step);
}

} // namespace pattern_detail

/// Writes the contents of block `id` over `size` bytes.
inline void fill(void* block, std::size_t size, std::uint64_t id) noexcept
{
    using namespace pattern_detail;
    auto* const bytes = static_cast<unsigned char*>(block);
    for (std::size_t offset = 0; offset + word <= size; offset = next_offset(offset)) {
        const std::uint64_t value = word_of(id, offset);
        std::memcpy(bytes + offset, &value, word);
    }
    for (std::size_t offset = size - (size < word ? size : word); offset < size; ++offset) {
        bytes[offset] = byte_of(id, offset);
    }
    opaque(block);
}

/// Whether the first `size` bytes of a block that was filled as `id`, with `size` bytes or
/// more, are intact.
inline bool holds_prefix(const void* block, std::size_t size, std::uint64_t id) noexcept
{
    using namespace pattern_detail;
    const auto* const bytes = static_cast<const unsigned char*>(block);
    for (std::size_t offset = 0; offset + word <= size; offset = next_offset(offset)) {
        std::uint64_t value = 0;
        std::memcpy(&value, bytes + offset, word);
        if (value != word_of(id, offset)) return false;
    }
    if (size <= dense_bytes) {
        for (std::size_t offset = size - size % word; offset < size; ++offset) {
            if (bytes[offset] != byte_of(id, offset)) return false;
        }
    }
    return true;
}

/// Whether a block that was filled as `id` with exactly `size` bytes is intact.
inline bool holds(const void* block, std::size_t size, std::uint64_t id) noexcept
{
    using namespace pattern_detail;
    if (!holds_prefix(block, size, id)) return false;
    const auto* const bytes = static_cast<const unsigned char*>(block);
    for (std::size_t offset = size - (size < word ? size : word); offset < size; ++offset) {
        if (bytes[offset] != byte_of(id, offset)) return false;
    }
    return true;
}

inline bool all_zero(const void* block, std::size_t size) noexcept
{
    const auto* const bytes = static_cast<const unsigned char*>(block);
    return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

inline bool is_aligned(const void* block, std::size_t alignment) noexcept
{
    return (reinterpret_cast<std::uintptr_t>(block) & (alignment - 1)) == 0;
}

} // namespace binmalloc_test
