// The blocks that the recorded program holds, each with its slot.
#pragma once

#include "mapped_array.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace trace {

/// A hash table from addresses to slots, open, with linear probing, at most half full; and the slots
/// that are free, of which the last one freed is the next one used. Not thread safe.
class live_blocks {
public:
    /// @return false if the system has no memory
    [[nodiscard]] bool start() noexcept { return entries_.grow(1 << 12) && free_.grow(1 << 10); }

    /// Gives the block at `address` a slot. An address that has one already was freed unseen, and
    /// its old slot is lost.
    /// @return the slot, or 0 if the system has no memory
    [[nodiscard]] std::uint64_t add(const void* address) noexcept
    {
        if (2 * (live_ + 1) > entries_.size() && !grow_entries()) return 0;
        const std::uint64_t slot = free_count_ > 0 ? free_[--free_count_] : ++slots_;
        put(address, slot);
        return slot;
    }

    /// Gives the block at `address` a slot that another address had until remove().
    void add_again(const void* address, std::uint64_t slot) noexcept { put(address, slot); }

    /// Forgets an address, but keeps its slot taken.
    /// @return the slot, or 0 if there is no such block
    [[nodiscard]] std::uint64_t remove(const void* address) noexcept
    {
        const std::size_t found = find(address);
        const std::uint64_t slot = entries_[found].slot;
        if (slot != 0) erase(found);
        return slot;
    }

    /// Lets a slot be used again whose address was removed.
    /// @return false if the system has no memory
    [[nodiscard]] bool give_up(std::uint64_t slot) noexcept
    {
        if (free_count_ == free_.size() && !free_.grow(2 * free_.size())) return false;
        free_[free_count_++] = slot;
        return true;
    }

    /// How many slots there were at most at a time.
    [[nodiscard]] std::uint64_t slots() const noexcept { return slots_; }

private:
    struct entry {
        const void* address;
        std::uint64_t slot; // 0 in an empty entry
    };

    [[nodiscard]] std::size_t mask() const noexcept { return entries_.size() - 1; }

    [[nodiscard]] std::size_t home_of(const void* address) const noexcept
    {
        const auto bits = reinterpret_cast<std::uintptr_t>(address);
        return static_cast<std::size_t>((bits >> 3) * 0x9e3779b97f4a7c15 >> 20) & mask();
    }

    /// Where the address is, or the empty entry where it would be.
    [[nodiscard]] std::size_t find(const void* address) const noexcept
    {
        std::size_t i = home_of(address);
        while (entries_[i].slot != 0 && entries_[i].address != address) i = (i + 1) & mask();
        return i;
    }

    void put(const void* address, std::uint64_t slot) noexcept
    {
        entry& e = entries_[find(address)];
        live_ += e.slot == 0;
        e = {address, slot};
    }

    /// Empties an entry, and moves up those behind it that would not be found across the hole.
    void erase(std::size_t hole) noexcept
    {
        for (std::size_t i = (hole + 1) & mask(); entries_[i].slot != 0; i = (i + 1) & mask()) {
            const std::size_t from_home = (i - home_of(entries_[i].address)) & mask();
            if (from_home < ((i - hole) & mask())) continue;
            entries_[hole] = entries_[i];
            hole = i;
        }
        entries_[hole].slot = 0;
        --live_;
    }

    [[nodiscard]] bool grow_entries() noexcept
    {
        mapped_array<entry> old;
        if (!old.grow(2 * entries_.size())) return false;
        old.swap(entries_);
        live_ = 0;
        for (const entry& e : old)
            if (e.slot != 0) put(e.address, e.slot);
        return true;
    }

    mapped_array<entry> entries_;
    mapped_array<std::uint64_t> free_;
    std::size_t free_count_ = 0;
    std::size_t live_ = 0;
    std::uint64_t slots_ = 0;
};

} // namespace trace
