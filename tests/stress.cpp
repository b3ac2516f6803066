// Random allocation of every kind from several threads, every block's contents checked.
//
//   stress [--seconds S] [--threads T] [--seed N]
//
// Prints one line; exit status 1 on the first damaged, misaligned or missing block.
#include <binmalloc/binmalloc.hpp>

#include "support/heap.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

struct options {
    double seconds = 10;
    std::size_t threads = 8;
    std::uint64_t seed = binmalloc_test::seed();
};

/// What every block starts with; the rest is filled from it.
struct header {
    std::uint64_t id;
    std::size_t size;
};

std::atomic<bool> stop = false;
std::atomic<std::uint64_t> calls = 0;
std::atomic<header*> shared_slots[512];

[[noreturn]] void fail(const char* what, std::uint64_t id, std::size_t size)
{
    std::printf("stress: FAILED: %s (block %llx, %zu bytes)\n", what,
                static_cast<unsigned long long>(id), size);
    std::fflush(stdout);
    std::_Exit(1);
}

void write(header* block, std::uint64_t id, std::size_t size)
{
    *block = {id, size};
    fill(block + 1, size - sizeof(header), id);
}

void check(const header* block, std::size_t size)
{
    if (block->size != size) fail("size overwritten", block->id, size);
    if (!holds(block + 1, size - sizeof(header), block->id))
        fail("contents overwritten", block->id, size);
}

class worker {
public:
    worker(std::uint64_t seed, std::uint64_t index) : random_(seed + index), next_id_(index << 40) {}

    void run()
    {
        // Lives of a few thousand calls: threads come and go as in a server.
        const std::size_t steps = 1000 + random_.below(50000);
        for (std::size_t done = 0; done < steps && !stop.load(std::memory_order_relaxed); ++done)
            step();
        calls += steps;
        while (!blocks_.empty()) {
            // Some of the last blocks outlive their thread.
            header* const block = take();
            if (random_.one_in(4)) {
                swap_into_slot(block);
            } else {
                binmalloc::deallocate(block);
            }
        }
    }

private:
    std::size_t any_size()
    {
        const std::size_t limit = random_.one_in(2000) ? 64 * mib
                                  : random_.one_in(50) ? 512 * kib
                                                       : 2 * kib;
        return sizeof(header) + random_.size_up_to(limit);
    }
    std::size_t any_alignment()
    {
        return std::size_t{8} << random_.below(random_.one_in(50) ? 22 : 6);
    }

    void keep(void* address, std::size_t size, std::size_t alignment)
    {
        if (address == nullptr) fail("no memory", next_id_, size);
        if (!is_aligned(address, alignment)) fail("misaligned", next_id_, size);
        if (binmalloc::usable_size(address) < size) fail("usable size too small", next_id_, size);
        auto* const block = static_cast<header*>(address);
        write(block, next_id_++, size);
        blocks_.push_back(block);
    }

    header* take()
    {
        std::swap(blocks_[random_.below(blocks_.size())], blocks_.back());
        header* const block = blocks_.back();
        blocks_.pop_back();
        check(block, block->size);
        return block;
    }

    void swap_into_slot(header* block)
    {
        header* const other = shared_slots[random_.below(std::size(shared_slots))].exchange(block);
        if (other == nullptr) return;
        check(other, other->size);
        binmalloc::deallocate(other);
    }

    void step()
    {
        if (blocks_.empty() || (blocks_.size() < 500 && !random_.one_in(3))) return create();
        switch (random_.below(8)) {
        case 0: return resize();
        case 1: return swap_into_slot(take());
        case 2: return use_list();
        case 3: return use_arena();
        case 4: {
            header* const block = take();
            return binmalloc::deallocate(block, block->size);
        }
        case 5:
            if (random_.one_in(500)) binmalloc::purge();
            [[fallthrough]];
        default: binmalloc::deallocate(take());
        }
    }

    void create()
    {
        const std::size_t size = any_size();
        switch (random_.below(4)) {
        case 0: {
            void* const block = binmalloc::allocate_zeroed(size);
            if (block != nullptr && !all_zero(block, size)) fail("not zero", next_id_, size);
            return keep(block, size, 8);
        }
        case 1: {
            const std::size_t alignment = any_alignment();
            return keep(binmalloc::allocate(size, alignment), size, alignment);
        }
        default: return keep(binmalloc::allocate(size), size, 16);
        }
    }

    void resize()
    {
        header* const block = take();
        const header before = *block;
        const std::size_t size = any_size();
        auto* const moved = static_cast<header*>(binmalloc::reallocate(block, size));
        if (moved == nullptr) fail("no memory to reallocate", before.id, size);
        if (moved->id != before.id
            || !holds_prefix(moved + 1, std::min(size, before.size) - sizeof(header), before.id)) {
            fail("reallocate lost bytes", before.id, size);
        }
        keep(moved, size, 16);
    }

    void use_list()
    {
        std::list<std::uint64_t, binmalloc::allocator<std::uint64_t>> values;
        const std::size_t count = random_.below(100);
        for (std::size_t i = 0; i < count; ++i) values.push_back(i);
        std::size_t i = 0;
        for (const std::uint64_t value : values) {
            if (value != i++) fail("list overwritten", value, i);
        }
    }

    void use_arena()
    {
        if (!random_.one_in(100)) return;
        binmalloc::arena arena;
        std::vector<header*> blocks;
        for (std::size_t i = 0; i < 100; ++i) {
            const std::size_t size = sizeof(header) + random_.size_up_to(4 * kib);
            auto* const block = static_cast<header*>(arena.allocate(size));
            if (block == nullptr) fail("no memory in an arena", i, size);
            write(block, i, size);
            blocks.push_back(block);
        }
        for (const header* const block : blocks) check(block, block->size);
    }

    random_source random_;
    std::uint64_t next_id_;
    std::vector<header*> blocks_;
};

options parse(int count, char** arguments)
{
    options result;
    for (int i = 1; i + 1 < count; i += 2) {
        const char* const value = arguments[i + 1];
        if (std::strcmp(arguments[i], "--seconds") == 0) {
            result.seconds = std::strtod(value, nullptr);
        } else if (std::strcmp(arguments[i], "--threads") == 0) {
            result.threads = std::strtoul(value, nullptr, 0);
        } else if (std::strcmp(arguments[i], "--seed") == 0) {
            result.seed = std::strtoull(value, nullptr, 0);
        } else {
            std::fprintf(stderr, "usage: stress [--seconds S] [--threads T] [--seed N]\n");
            std::exit(2);
        }
    }
    return result;
}

} // namespace

int main(int argument_count, char** arguments)
{
    const options chosen = parse(argument_count, arguments);
    const auto end = std::chrono::steady_clock::now()
                     + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                         std::chrono::duration<double>(chosen.seconds));
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> lives = 0;
    for (std::size_t index = 0; index < chosen.threads; ++index) {
        threads.emplace_back([&] {
            while (!stop.load(std::memory_order_relaxed)) {
                const std::uint64_t life = ++lives;
                std::thread([&, life] { worker(chosen.seed, life).run(); }).join();
            }
        });
    }
    std::this_thread::sleep_until(end);
    stop = true;
    for (std::thread& thread : threads) thread.join();
    for (std::atomic<header*>& slot : shared_slots) {
        if (header* const block = slot.load()) {
            check(block, block->size);
            binmalloc::deallocate(block);
        }
    }
    std::printf("stress: ok: %llu calls, %llu thread lives, seed %llu, %zu KiB held at the end\n",
                static_cast<unsigned long long>(calls.load()),
                static_cast<unsigned long long>(lives.load()),
                static_cast<unsigned long long>(chosen.seed), heap::held_bytes_after_purge() / kib);
}
