// A page source that counts its calls and refuses the n-th, heaps on it, and a life on such a heap.
#pragma once

#include "live_blocks.hpp"
#include "pattern.hpp"
#include "process.hpp"
#include "random.hpp"
#include "scale.hpp"

#include <binmalloc/binmalloc.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace binmalloc_test {

/// Keeps nothing for reuse.
struct frugal_footprint : binmalloc::default_footprint {
    static constexpr std::uint64_t purge_delay_ms = 0;
    static constexpr std::size_t dirty_floor = 0;
    static constexpr std::size_t dirty_start = 0;
    static constexpr std::size_t dirty_ceiling = 0;
    static constexpr std::size_t stash_bytes = 0;
    static constexpr std::size_t dirty_divisor = std::size_t{1} << 30;
    static constexpr std::size_t outbox_bytes = 0;
    static constexpr std::uint32_t outbox_blocks = 1;
    static constexpr unsigned least_cpus = 1;
};

inline std::atomic<long> calls_until_refusal = -1; // negative: never
inline std::atomic<bool> refuse_from_then_on = false;
inline std::atomic<std::size_t> reserved_bytes = 0;
inline std::atomic<std::size_t> refusals = 0;

inline bool refused() noexcept
{
    long left = calls_until_refusal.load();
    while (left >= 0) {
        const long next = left > 0 ? left - 1 : refuse_from_then_on ? 0 : -1;
        if (!calls_until_refusal.compare_exchange_weak(left, next)) continue;
        if (left > 0) return false;
        ++refusals;
        return true;
    }
    return false;
}

struct failing_pages : binmalloc::os_pages {
    static void* reserve(std::size_t size, std::size_t alignment) noexcept
    {
        if (refused()) return nullptr;
        void* const pages = os_pages::reserve(size, alignment);
        if (pages != nullptr) reserved_bytes += size;
        return pages;
    }
    static bool commit(void* pages, std::size_t size) noexcept
    {
        return !refused() && os_pages::commit(pages, size);
    }
    static bool decommit(const binmalloc::os::memory_range* ranges, std::size_t count) noexcept
    {
        return !refused() && os_pages::decommit(ranges, count);
    }
    static bool discard(void* pages, std::size_t size) noexcept
    {
        return !refused() && os_pages::discard(pages, size);
    }
    static void release(void* pages, std::size_t size) noexcept
    {
        reserved_bytes -= size;
        os_pages::release(pages, size);
    }
    static bool extend(void* pages, std::size_t size, std::size_t new_size) noexcept
    {
        if (refused() || !os_pages::extend(pages, size, new_size)) return false;
        reserved_bytes += new_size - size;
        return true;
    }
    static bool move_out(void* from, std::size_t size, void* to) noexcept
    {
        return !refused() && os_pages::move_out(from, size, to);
    }
    static bool move(void* from, std::size_t size, void* to, std::size_t to_size) noexcept
    {
        if (refused() || !os_pages::move(from, size, to, to_size)) return false;
        reserved_bytes -=
            size; // the pages go, the place they go to was counted when it was reserved
        return true;
    }
};
static_assert(binmalloc::page_source<failing_pages>);

/// Makes the source refuse its `n`-th call from now, counted from 0, once or for good, while it
/// lives.
class refusal {
public:
    explicit refusal(std::size_t n, bool for_good) noexcept
    {
        refuse_from_then_on = for_good;
        refusals = 0;
        calls_until_refusal = static_cast<long>(n);
    }
    ~refusal() { calls_until_refusal = -1; }
    refusal(const refusal&) = delete;
    refusal& operator=(const refusal&) = delete;
    bool happened() const noexcept { return refusals.load() != 0; }
};

// A heap for each N: what one test leaves is not for the next.
template <std::size_t N, bool Single>
struct failing_policy : binmalloc::default_policy {
    using page_source = failing_pages;
    using footprint = frugal_footprint;
    using threading = std::conditional_t<Single, binmalloc::single_cache, binmalloc::leased_caches>;
};

/// A life in which a null answer is right and nothing else may go wrong. Returns how many nulls
/// there were.
template <class Heap>
std::size_t life_with_failures(std::uint64_t which)
{
    constexpr std::size_t largest = 17 * mib; // some have a mapping of their own
    random_source random(seed() + which);
    live_blocks live;
    std::vector<live_block> blocks;
    std::size_t nulls = 0;
    for (std::uint64_t step = 0; step < 120; ++step) {
        const std::size_t size = 1 + random.size_up_to(random.one_in(20) ? largest : 32 * kib);
        if (!blocks.empty() && random.one_in(3)) {
            std::swap(blocks[random.below(blocks.size())], blocks.back());
            live_block block = blocks.back();
            if (random.one_in(2)) {
                const std::size_t old_size = block.size;
                void* const moved = Heap::reallocate(block.address, size);
                if (moved == nullptr) {
                    ++nulls;
                    EXPECT_TRUE(holds(block.address, block.size, block.id))
                        << "a failed reallocate keeps the block";
                    continue;
                }
                blocks.pop_back();
                EXPECT_TRUE(holds_prefix(moved, std::min(size, old_size), block.id))
                    << old_size << " -> " << size;
                // The model knows the old place only; forget it without a look at what may be gone.
                live.forget(block);
                block = {moved, size, 0, step};
                EXPECT_TRUE(live.add(block, Heap::usable_size(moved)));
                blocks.push_back(block);
                continue;
            }
            blocks.pop_back();
            EXPECT_TRUE(live.remove(block));
            Heap::deallocate(block.address);
            continue;
        }
        const live_block block{random.one_in(5)   ? Heap::allocate(size, 4096)
                               : random.one_in(5) ? Heap::allocate_zeroed(size)
                                                  : Heap::allocate(size),
                               size, 0, step};
        if (block.address == nullptr) {
            ++nulls;
            continue;
        }
        EXPECT_TRUE(live.add(block, Heap::usable_size(block.address)));
        blocks.push_back(block);
    }
    EXPECT_TRUE(live.all_intact());
    for (const live_block& block : blocks) {
        EXPECT_TRUE(live.remove(block));
        Heap::deallocate(block.address);
    }
    return nulls;
}

} // namespace binmalloc_test
