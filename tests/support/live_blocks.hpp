// The shadow of a heap: every live block as an interval with its contents' id.
#pragma once

#include "pattern.hpp"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>

namespace binmalloc_test {

struct live_block {
    void* address = nullptr;
    std::size_t size = 0;      // asked for, and filled
    std::size_t alignment = 0; // asked for; 0: none
    std::uint64_t id = 0;      // of its contents
};

class live_blocks {
public:
    /// Fills the block and notes it. False if its `usable` bytes overlap another live block.
    bool add(const live_block& block, std::size_t usable)
    {
        const auto begin = reinterpret_cast<std::uintptr_t>(block.address);
        const std::size_t extent = usable > 0 ? usable : 1;
        const auto next = blocks_.lower_bound(begin);
        if (next != blocks_.end() && next->first - begin < extent) return false;
        if (next != blocks_.begin()) {
            const auto& previous = *std::prev(next);
            if (begin - previous.first < previous.second.extent) return false;
        }
        fill(block.address, block.size, block.id);
        blocks_.emplace_hint(next, begin, noted{block, extent});
        return true;
    }

    /// Forgets a block that add() noted. False if it is unknown or its contents have changed.
    bool remove(const live_block& block)
    {
        const auto found = blocks_.find(reinterpret_cast<std::uintptr_t>(block.address));
        if (found == blocks_.end()) return false;
        const live_block known = found->second.block;
        blocks_.erase(found);
        return known.id == block.id && holds(known.address, known.size, known.id);
    }

    /// Forgets a block whose contents the caller has checked, or that has moved.
    void forget(const live_block& block)
    {
        blocks_.erase(reinterpret_cast<std::uintptr_t>(block.address));
    }

    /// Whether every block's contents are as add() left them.
    bool all_intact() const
    {
        for (const auto& [begin, entry] : blocks_) {
            if (!holds(entry.block.address, entry.block.size, entry.block.id)) return false;
        }
        return true;
    }

    std::size_t count() const noexcept { return blocks_.size(); }

private:
    struct noted {
        live_block block;
        std::size_t extent;
    };
    std::map<std::uintptr_t, noted> blocks_;
};

} // namespace binmalloc_test
