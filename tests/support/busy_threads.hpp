// Other threads that are busy in the process heap, for a fork to interrupt.
#pragma once

#include "filled_block.hpp"
#include "in_child.hpp"
#include "live_blocks.hpp"
#include "pattern.hpp"
#include "process.hpp"
#include "random.hpp"
#include "scale.hpp"

#include <binmalloc/binmalloc.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace binmalloc_test {

/// What the threads are busy with.
struct business {
    const char* name;
    std::size_t threads;
    std::size_t smallest;
    std::size_t largest;            // of nearly all blocks
    std::size_t purge_every = 1000; // steps, on average
};

inline constexpr business small_blocks{"small_blocks", 4, 0, 1000};
inline constexpr business more_threads_than_caches{"more_threads_than_caches", 36, 0, 1000};
inline constexpr business spans{"spans", 4, 17 * kib, 100 * kib};
// 256 of them at once, at most.
inline constexpr business huge_blocks{"huge_blocks", 3, (sizeof(void*) < 8 ? 2 : 17) * mib,
                                      (sizeof(void*) < 8 ? 3 : 18) * mib};
inline constexpr business purges{"purges", 3, 0, 300 * kib, 4};

/// Threads that allocate and free, hand blocks to each other, and now and then end and begin anew.
class busy_threads {
public:
    explicit busy_threads(const business& what) : what_(what), slots_(256)
    {
        const std::size_t count = what.threads;
        for (std::size_t index = 0; index < count; ++index) {
            threads_.emplace_back([this, index] {
                for (std::uint64_t life = 0; !stop_.load(std::memory_order_relaxed); ++life) {
                    std::thread([this, index, life] { work(std::uint64_t{index} << 32 | life); }).join();
                }
            });
        }
    }
    ~busy_threads()
    {
        stop_ = true;
        for (std::thread& thread : threads_) thread.join();
        for (std::atomic<void*>& slot : slots_) binmalloc::deallocate(slot.load());
        for (const live_block& block : keepsakes_) binmalloc::deallocate(block.address);
    }
    busy_threads(const busy_threads&) = delete;
    busy_threads& operator=(const busy_threads&) = delete;

    /// Blocks of theirs that nobody frees while the child looks at them.
    std::vector<live_block> keepsakes()
    {
        const std::lock_guard guard(mutex_);
        return std::exchange(keepsakes_, {});
    }

    /// As in_child() of that header, with a fork amid the work of all threads. While the child runs they
    /// rest, as they would only take its processors. For one thread at a time.
    template <class Body>
    int in_child(Body body, fork_function fork_now = ::fork)
    {
        const std::size_t enough = steps_ + 50 * what_.threads;
        while (steps_ < enough) std::this_thread::sleep_for(std::chrono::microseconds(50));
        const pid_t child = fork_now();
        if (child == 0) run_as_child(body);
        rest_ = true;
        const int result = child > 0 ? result_of(child) : -1;
        rest_ = false;
        rest_.notify_all();
        return result;
    }

private:
    void work(std::uint64_t seed_of_life)
    {
        random_source random(seed() + seed_of_life);
        for (std::size_t step = 0; step < 3000 && !stop_.load(std::memory_order_relaxed); ++step) {
            rest_.wait(true);
            steps_.fetch_add(1, std::memory_order_relaxed);
            const std::size_t size =
                random.one_in(5000) ? 20 * mib
                : random.one_in(100)
                    ? random.size_up_to(128 * kib)
                    : what_.smallest + random.size_up_to(what_.largest - what_.smallest);
            if (random.one_in(what_.purge_every)) binmalloc::purge();
            binmalloc::deallocate(
                slots_[random.below(slots_.size())].exchange(opaque(binmalloc::allocate(size))));
            if (!random.one_in(500)) continue;
            const std::lock_guard guard(mutex_);
            if (keepsakes_.size() < 100)
                keepsakes_.push_back(filled_block(random.size_up_to(64 * kib), step));
        }
    }

    const business what_;
    std::atomic<bool> stop_ = false;
    std::atomic<bool> rest_ = false;
    std::atomic<std::size_t> steps_ = 0;
    std::vector<std::atomic<void*>> slots_;
    std::mutex mutex_;
    std::vector<live_block> keepsakes_;
    std::vector<std::thread> threads_;
};

/// Blocks of every kind: made by the thread that makes the stock, by one that is gone, and by one
/// that waits until the stock ends. A child may free each of them once.
class stock {
public:
    stock()
    {
        made_here_.make(1);
        std::thread([this] { made_by_the_gone_.make(2); }).join();
        std::atomic<bool> made = false;
        waiting_ = std::thread([this, &made] {
            made_by_the_waiting_.make(3);
            made = true;
            made.notify_one();
            stop_.wait(false);
        });
        made.wait(false);
    }
    ~stock()
    {
        stop_ = true;
        stop_.notify_one();
        waiting_.join();
        for (blocks* const some : all()) some->free_all();
    }
    stock(const stock&) = delete;
    stock& operator=(const stock&) = delete;

    bool intact()
    {
        for (blocks* const some : all()) {
            if (!some->intact()) return false;
        }
        return true;
    }

    /// Resizes every third block and frees every other third. False if contents are damaged or there
    /// is no memory.
    bool resize_and_free_some()
    {
        for (blocks* const some : all()) {
            if (!some->resize_some() || !some->free_some()) return false;
        }
        return intact();
    }

    /// Frees what is left. False if contents are damaged.
    bool free_rest()
    {
        if (!intact()) return false;
        for (blocks* const some : all()) some->free_all();
        return true;
    }

private:
    struct blocks {
        std::array<live_block, 60> sized;
        std::array<std::uint32_t*, 60> four_bytes{};

        void make(std::uint64_t origin)
        {
            random_source random(seed() + origin);
            for (std::size_t i = 0; i < sized.size(); ++i) {
                const std::size_t size = i < 40   ? random.size_up_to(16 * kib)
                                         : i < 57 ? 17 * kib + random.size_up_to(500 * kib)
                                                  : 5 * mib + i; // with mappings of their own
                sized[i] = filled_block(size, origin << 32 | i);
                four_bytes[i] = static_cast<std::uint32_t*>(binmalloc::allocate(4, 4));
                *four_bytes[i] = static_cast<std::uint32_t>(origin * 1000 + i);
                expected_[i] = *four_bytes[i];
            }
        }
        bool intact() const
        {
            for (std::size_t i = 0; i < sized.size(); ++i) {
                const live_block& block = sized[i];
                if (block.address != nullptr && !holds(block.address, block.size, block.id))
                    return false;
                if (four_bytes[i] != nullptr && *four_bytes[i] != expected_[i]) return false;
            }
            return true;
        }
        bool resize_some()
        {
            for (std::size_t i = 0; i < sized.size(); i += 3) {
                live_block& block = sized[i];
                const std::size_t size = i % 2 == 0 ? block.size * 2 + 1 : block.size / 3;
                const std::size_t kept = size < block.size ? size : block.size;
                if (binmalloc::usable_size(block.address) < block.size) return false;
                block.address = binmalloc::reallocate(block.address, size);
                if (block.address == nullptr) return false;
                if (!holds_prefix(block.address, kept, block.id)) return false;
                block.size = size;
                fill(block.address, block.size, block.id);
            }
            return true;
        }
        bool free_some()
        {
            for (std::size_t i = 1; i < sized.size(); i += 3) {
                if (!free_checked(std::exchange(sized[i], {}))) return false;
                binmalloc::deallocate(std::exchange(four_bytes[i], nullptr));
            }
            return true;
        }
        void free_all()
        {
            for (std::size_t i = 0; i < sized.size(); ++i) {
                binmalloc::deallocate(std::exchange(sized[i], {}).address);
                binmalloc::deallocate(std::exchange(four_bytes[i], nullptr));
            }
        }

    private:
        std::array<std::uint32_t, 60> expected_{};
    };

    std::array<blocks*, 3> all()
    {
        return {&made_here_, &made_by_the_gone_, &made_by_the_waiting_};
    }

    blocks made_here_;
    blocks made_by_the_gone_;
    blocks made_by_the_waiting_;
    std::atomic<bool> stop_ = false;
    std::thread waiting_;
};

} // namespace binmalloc_test
