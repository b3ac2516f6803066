// The heap against a model: random calls of every kind, each block shadowed by an interval and
// a pattern.
#include <binmalloc/binmalloc.hpp>

#include "support/heap.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace {

using namespace binmalloc_test;

/// Blocks on their way from one model to another.
class exchange {
public:
    /// Leaves one block and takes another, by choice of `random`.
    live_block swap(const live_block& mine, random_source& random)
    {
        const std::lock_guard guard(mutex_);
        waiting_.push_back(mine);
        std::swap(waiting_[random.below(waiting_.size())], waiting_.back());
        const live_block theirs = waiting_.back();
        waiting_.pop_back();
        return theirs;
    }
    void leave(const live_block& mine)
    {
        const std::lock_guard guard(mutex_);
        waiting_.push_back(mine);
    }
    bool take(live_block& theirs)
    {
        const std::lock_guard guard(mutex_);
        if (waiting_.empty()) return false;
        theirs = waiting_.back();
        waiting_.pop_back();
        return true;
    }
    std::size_t count()
    {
        const std::lock_guard guard(mutex_);
        return waiting_.size();
    }

private:
    std::mutex mutex_;
    std::vector<live_block> waiting_;
};

/// One thread's random life with the heap. Every step ends with a word on what went wrong, or null.
class model {
public:
    explicit model(std::uint64_t seed) : random_(seed), next_id_(seed << 32) {}

    const char* step(exchange* others = nullptr)
    {
        const bool grow = blocks_.empty() || (blocks_.size() < most_blocks && !random_.one_in(3));
        switch (random_.below(12)) {
        case 0: return resize();
        case 1: return resize_aligned();
        case 2:
            if (others != nullptr) return trade(*others);
            [[fallthrough]];
        default: return grow ? create() : destroy();
        }
    }

    const char* finish()
    {
        while (!blocks_.empty()) {
            if (const char* const wrong = destroy()) return wrong;
        }
        return live_.count() == 0 ? nullptr : "a block was forgotten";
    }

    const char* adopt(const live_block& block)
    {
        if (!holds(block.address, block.size, block.id))
            return "damaged on its way between threads";
        return note(block);
    }

    bool all_intact() const { return live_.all_intact(); }

private:
    static constexpr std::size_t most_blocks = 400;

    std::size_t any_size()
    {
        if (random_.one_in(300)) return random_.size_up_to(4 * mib);
        if (random_.one_in(20)) return random_.size_up_to(128 * kib);
        return random_.size_up_to(1500);
    }
    std::size_t any_alignment()
    {
        return std::size_t{1} << random_.below(random_.one_in(20) ? 22 : 9);
    }

    const char* note(const live_block& block)
    {
        if (block.address == nullptr) return "no memory";
        if (!is_aligned(block.address, block.alignment != 0 ? block.alignment
                                       : block.size >= 16   ? 16
                                                            : 8)) {
            return "misaligned";
        }
        const std::size_t usable = binmalloc::usable_size(block.address);
        if (usable < block.size) return "usable size too small";
        if (!live_.add(block, usable)) return "overlaps a live block";
        blocks_.push_back(block);
        return nullptr;
    }

    const char* create()
    {
        live_block block{nullptr, any_size(), 0, next_id_++};
        if (random_.one_in(3)) block.alignment = any_alignment();
        switch (random_.below(4)) {
        case 0:
            block.address = heap::allocate_zeroed(block.size, block.alignment);
            if (block.address != nullptr && !all_zero(block.address, block.size)) return "not zero";
            break;
        case 1: {
            const auto result = heap::allocate_at_least(block.size, block.alignment);
            if (result.ptr != nullptr && result.count < block.size) return "less than at least";
            block.address = result.ptr;
            block.size = result.count;
            break;
        }
        default: block.address = heap::allocate(block.size, block.alignment);
        }
        return note(block);
    }

    /// Takes a random block out of the model, checked.
    const char* take(live_block& block)
    {
        std::swap(blocks_[random_.below(blocks_.size())], blocks_.back());
        block = blocks_.back();
        blocks_.pop_back();
        return live_.remove(block) ? nullptr : "a live block was overwritten";
    }

    const char* destroy()
    {
        live_block block;
        if (const char* const wrong = take(block)) return wrong;
        switch (random_.below(3)) {
        case 0: binmalloc::deallocate(block.address, block.size); break;
        case 1:
            if (block.alignment != 0) {
                binmalloc::deallocate(block.address, block.size, block.alignment);
                break;
            }
            [[fallthrough]];
        default: binmalloc::deallocate(block.address);
        }
        return nullptr;
    }

    const char* resize_to(std::size_t alignment)
    {
        if (blocks_.empty()) return create();
        live_block block;
        if (const char* const wrong = take(block)) return wrong;
        const std::size_t old_size = block.size;
        block.size = any_size();
        block.alignment = alignment;
        block.address = heap::reallocate(block.address, block.size, alignment);
        if (block.address == nullptr) return "no memory to reallocate";
        if (!holds_prefix(block.address, std::min(old_size, block.size), block.id))
            return "reallocate lost bytes";
        return note(block);
    }
    const char* resize() { return resize_to(heap::no_alignment); }
    const char* resize_aligned() { return resize_to(any_alignment()); }

    const char* trade(exchange& others)
    {
        if (blocks_.empty()) return create();
        live_block block;
        if (const char* const wrong = take(block)) return wrong;
        return adopt(others.swap(block, random_));
    }

    random_source random_;
    std::uint64_t next_id_;
    live_blocks live_;
    std::vector<live_block> blocks_;
};

class Model : public testing::TestWithParam<std::uint64_t> {};

INSTANTIATE_TEST_SUITE_P(Seeds, Model, testing::Range(std::uint64_t{0}, std::uint64_t{8}));

TEST_P(Model, one_thread)
{
    model one(seed() + GetParam());
    for (std::size_t step = 0; step < scaled(100000, 5000); ++step) {
        const char* const wrong = one.step();
        ASSERT_EQ(wrong, nullptr) << wrong << ", step " << step;
        if (step % 16384 == 0) {
            ASSERT_TRUE(one.all_intact()) << "step " << step;
        }
    }
    const char* const wrong = one.finish();
    ASSERT_EQ(wrong, nullptr) << wrong;
}

TEST_P(Model, threads_that_exchange_blocks)
{
    constexpr std::size_t threads = 6;
    exchange shared;
    for (std::uint64_t id = 0; id < 64; ++id) {
        const live_block block{binmalloc::allocate(100), 100, 0, id};
        fill(block.address, block.size, block.id);
        shared.leave(block);
    }
    std::atomic<const char*> wrong = nullptr;
    run_threads(threads, [&](std::size_t index) {
        model one(seed() + 1000 * (index + 1) + GetParam());
        for (std::size_t step = 0; step < scaled(25000, 2000) && wrong.load() == nullptr; ++step) {
            if (const char* const mine = one.step(&shared)) wrong = mine;
        }
        if (wrong.load() == nullptr) {
            if (const char* const mine = one.finish()) wrong = mine;
        }
    });
    ASSERT_EQ(wrong.load(), nullptr) << wrong.load();
    EXPECT_EQ(shared.count(), 64U);
    for (live_block block; shared.take(block);) {
        EXPECT_TRUE(holds(block.address, block.size, block.id));
        binmalloc::deallocate(block.address);
    }
}

} // namespace
