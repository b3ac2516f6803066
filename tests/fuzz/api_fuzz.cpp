// Sequences of calls, read from a fuzzer's bytes, against a shadow model: every block's bounds and
// contents are known, and nothing of what the library promises of them may fail.
//
// The first byte chooses between one thread; two or three that take turns, which a run repeats
// exactly; and two or three at once. The other bytes are the script: what each step does is in
// player::step(). Threads exchange blocks through common slots.
//
// With libFuzzer it is a fuzzer; with replay.cpp it runs files, under any compiler and tool.
#define BINMALLOC_DEFINE_C_API
#include "subjects.hpp"

#include "support/good_size.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_fuzz;

enum kind : std::size_t { process, c, odd, single, shared_arena, pages, own_arena, kind_count };

/// What all players of a script use together.
struct table {
    heap_subject<binmalloc::heap> process_heap;
    c_subject c_functions;
    heap_subject<odd_heap> other_heap;
    heap_subject<single_heap> single_cache;
    arena_subject<binmalloc::locked_arena> arena;
    pages_subject page_allocator;

    subject& of(kind k)
    {
        const std::array<subject*, kind_count - 1> all{
            &process_heap, &c_functions, &other_heap, &single_cache, &arena, &page_allocator};
        return *all[k];
    }
};

struct held_block {
    live_block block;      // its size is what is filled
    std::size_t asked = 0; // what a sized deallocate must say
    kind from = process;
    subject* maker = nullptr;
    const node_kind* node = nullptr; // the typed allocator that made it
};

/// Blocks on their way between threads.
class exchange {
public:
    std::optional<held_block> swap(std::size_t slot, std::optional<held_block> mine)
    {
        const std::lock_guard guard(mutex_);
        std::swap(slots_[slot % slots_.size()], mine);
        return mine;
    }
    std::size_t size() const noexcept { return slots_.size(); }

private:
    std::mutex mutex_;
    std::array<std::optional<held_block>, 64> slots_; // enough for bundles
};

/// One thread's part of a script.
class player {
public:
    player(table& all, exchange& others, input script, std::uint64_t number, bool alone)
        : all_(all), others_(others), script_(script), next_id_(number << 32), alone_(alone)
    {}

    bool at_end() const noexcept { return script_.empty(); }

    void step()
    {
        switch (script_.byte() % 16) {
        case 0:
        case 1:
        case 2: create(slot()); break;
        case 3: create_node(slot()); break;
        case 4:
        case 5:
        case 6: destroy(slot()); break;
        case 7:
        case 8: resize(slot()); break;
        case 9:
        case 10: create_many(); break;
        case 11:
        case 12: destroy_many(); break;
        case 13: trade(); break;
        case 14: purge(); break;
        case 15: look_around(); break;
        }
    }

    void finish()
    {
        for (std::optional<held_block>& held : slots_) {
            if (held) release(held, 0);
        }
        require(live_.count() == 0, "a block was forgotten");
        require(bytes_ == 0, "the script's sum of sizes is wrong");
    }

    /// Frees what lies in the exchange.
    void clean_up()
    {
        for (std::size_t i = 0; i < others_.size(); ++i) {
            std::optional<held_block> mine;
            if (const auto theirs = others_.swap(i, std::nullopt)) {
                adopt(mine, *theirs);
                release(mine, 0);
            }
        }
    }

private:
    // Touching memory is what costs time.
    static constexpr std::size_t most_bytes = 24 * mib;
    static constexpr std::size_t most_bytes_of_many = 256 * kib;

    std::size_t slot() { return script_.byte() * 8; }

    subject& of(kind k) { return k == own_arena ? static_cast<subject&>(arena_) : all_.of(k); }

    static bool fulfillable(std::size_t size, std::size_t alignment)
    {
        return !absurd(size) && possible_alignment(alignment);
    }

    void create(std::size_t slot)
    {
        const std::size_t how = script_.byte();
        const kind from = static_cast<kind>(how % kind_count);
        const std::size_t size = script_.size();
        create_at(slot, from, how / kind_count % 8, size, script_.alignment());
    }

    // `how`: 0-4 plain, 5 and 6 zeroed, 7 as much as there is; odd: the usable size is looked at.
    void create_at(std::size_t slot, kind from, std::size_t how, std::size_t size,
                   std::size_t alignment)
    {
        if (slots_[slot]) release(slots_[slot], how);
        if (fulfillable(size, alignment) && bytes_ + size > most_bytes) return;

        subject& maker = of(from);
        allocation made{nullptr, size};
        if (how == 7) {
            made = maker.allocate_at_least(size, alignment);
            require(made.address == nullptr || made.size >= size, "less than at least");
        } else if (how >= 5) {
            made.address = maker.allocate_zeroed(size, alignment);
            // An arena has no function for both wishes.
            const bool both = alignment != 0 && (from == own_arena || from == shared_arena);
            require(made.address == nullptr || both || all_zero(made.address, size), "not zero");
        } else {
            made.address = maker.allocate(size, alignment);
        }
        if (!fulfillable(size, alignment)) {
            require(made.address == nullptr, "a block for an impossible request");
            return;
        }
        note(slot, {{made.address, made.size, alignment, next_id_++}, size, from, &maker},
             how % 2 != 0);
        if (how % 2 != 0 && size <= 4 * mib && alignment <= 4 * mib) { // not a huge one
            const std::size_t good = maker.good_size(size, alignment);
            require(good == 0 || is_good(maker.usable_size(made.address), good), "not the good size");
        }
    }

    void create_node(std::size_t slot)
    {
        const std::size_t choice = script_.byte();
        const kind from = choice % 2 == 0 ? process : odd;
        const node_kind& node =
            (from == process ? nodes_of<binmalloc::heap> : nodes_of<odd_heap>)[choice / 2 % 8];
        create_node_at(slot, from, node);
    }

    void create_node_at(std::size_t slot, kind from, const node_kind& node)
    {
        if (slots_[slot]) release(slots_[slot], 0);
        note(slot,
             {{node.allocate(), node.size, node.alignment, next_id_++},
              node.size,
              from,
              &of(from),
              &node},
             false);
    }

    // Fills the block and puts it into its empty slot.
    void note(std::size_t slot, const held_block& held, bool look_at_size)
    {
        const live_block& block = held.block;
        require(block.address != nullptr, "no memory");
        require(is_aligned(block.address, block.alignment != 0
                                              ? block.alignment
                                              : held.maker->natural_alignment(held.asked)),
                "misaligned");
        std::size_t extent = block.size;
        if (look_at_size) {
            extent = held.maker->usable_size(block.address);
            require(extent >= block.size, "usable size too small");
        }
        require(live_.add(block, extent), "overlaps a live block");
        bytes_ += block.size;
        slots_[slot] = held;
    }

    // Takes the block out of its slot, checked.
    held_block take(std::optional<held_block>& from)
    {
        const held_block held = *from;
        from.reset();
        require(live_.remove(held.block), "a live block was overwritten");
        bytes_ -= held.block.size;
        return held;
    }

    void adopt(std::optional<held_block>& to, const held_block& held)
    {
        require(holds(held.block.address, held.block.size, held.block.id),
                "damaged on its way between threads");
        require(live_.add(held.block, held.block.size), "overlaps a live block");
        bytes_ += held.block.size;
        to = held;
    }

    void destroy(std::size_t slot)
    {
        if (slots_[slot]) release(slots_[slot], script_.byte());
    }

    void release(std::optional<held_block>& from, std::size_t how)
    {
        const held_block held = take(from);
        void* const address = held.block.address;
        if (held.from == own_arena && held.maker != &arena_) {
            binmalloc::deallocate(address); // another thread's
            return;
        }
        // The C functions and the others free each other's blocks.
        const bool either = held.from == process || held.from == c;
        subject& by = either && how & 4 ? of(held.from == c ? process : c) : *held.maker;
        switch (how % 4) {
        case 1:
        case 2: by.deallocate(address, held.asked, held.block.alignment); break;
        case 3:
            if (held.node != nullptr) {
                held.node->deallocate(address);
                break;
            }
            [[fallthrough]];
        default: by.deallocate(address);
        }
    }

    void resize(std::size_t slot)
    {
        const std::size_t how = script_.byte();
        const std::size_t size = script_.size();
        std::size_t alignment = how % 4 == 0 ? script_.alignment() : 0;
        if (!slots_[slot]) {
            const kind from = static_cast<kind>(how / 4 % kind_count);
            if (from == c && size == 0) return;
            if (absurd(size) || bytes_ + size > most_bytes) return;
            subject& maker = of(from);
            note(slot,
                 {{maker.reallocate(nullptr, size, 0), size, 0, next_id_++}, size, from, &maker},
                 true);
            return;
        }
        if (slots_[slot]->from == own_arena && slots_[slot]->maker != &arena_) return;
        if (!slots_[slot]->maker->reallocates_aligned()) alignment = 0;
        const bool can = fulfillable(size, alignment);
        if (can && bytes_ + size > most_bytes) return;

        held_block held = take(slots_[slot]);
        void* const moved = held.maker->reallocate(held.block.address, size, alignment);
        if (!can) {
            require(moved == nullptr, "a block for an impossible request");
            adopt(slots_[slot], held); // as it was
            return;
        }
        require(moved != nullptr, "no memory to reallocate");
        require(holds_prefix(moved, std::min(size, held.block.size), held.block.id),
                "reallocate lost bytes");
        // Its old contents are known to be there: new ones.
        held.block = {moved, size, alignment, next_id_++};
        held.asked = size;
        held.node = nullptr;
        note(slot, held, how & 64);
    }

    // Enough blocks of one kind to fill slabs.
    void create_many()
    {
        const std::size_t first = slot();
        const std::size_t root = script_.byte(); // seldom very many
        const std::size_t count = std::min(root * root / 32 + 1, slots_.size() - first);
        const std::size_t how = script_.byte();
        const kind from = static_cast<kind>(how % kind_count);
        if (how >= 224 && (from == process || from == odd)) {
            const auto& nodes = from == process ? nodes_of<binmalloc::heap> : nodes_of<odd_heap>;
            const node_kind& node = nodes[script_.byte() % 7];
            for (std::size_t i = 0; i < count; ++i) create_node_at(first + i, from, node);
            return;
        }
        const std::size_t size = script_.size() % (32 * kib);
        for (std::size_t i = 0; i < count && i * size < most_bytes_of_many; ++i)
            create_at(first + i, from, how / kind_count % 8, size, 0);
    }

    // Every n-th of a range, upwards or downwards.
    void destroy_many()
    {
        const std::size_t first = slot();
        const std::size_t count = std::min(8 * script_.byte() + 8, slots_.size() - first);
        const std::size_t how = script_.byte();
        const std::size_t step = how % 4 + 1;
        for (std::size_t i = 0; i < count; i += step) {
            auto& held = slots_[how & 4 ? first + i : first + count - 1 - i];
            if (held) release(held, how / 8);
        }
    }

    void trade()
    {
        const std::size_t first = slot();
        const std::size_t count =
            std::min(script_.byte() % others_.size() + 1, slots_.size() - first);
        for (std::size_t i = 0; i < count; ++i) {
            std::optional<held_block>& mine = slots_[first + i];
            std::optional<held_block> given;
            if (mine) given = take(mine); // its contents stay, for the other to look at
            if (const auto theirs = others_.swap(i, given)) adopt(mine, *theirs);
        }
    }

    void purge()
    {
        const std::size_t how = script_.byte();
        const kind which = static_cast<kind>(how % kind_count);
        if (which != own_arena) {
            all_.of(which).purge();
            return;
        }
        // Blocks that others may hold would die.
        if (!alone_) return;
        for (std::size_t i = 0; i < others_.size(); ++i) {
            if (const auto back = others_.swap(i, std::nullopt)) {
                if (slots_[i]) release(slots_[i], 0);
                adopt(slots_[i], *back);
            }
        }
        for (std::optional<held_block>& held : slots_) {
            if (held && held->maker == &arena_) take(held);
        }
        arena_.clear();
    }

    void look_around()
    {
        const std::size_t how = script_.byte();
        if (how < 16) {
            require(live_.all_intact(), "a live block was overwritten");
            return;
        }
        const std::size_t where = slot();
        if (!slots_[where]) {
            of(static_cast<kind>(how % kind_count)).deallocate(nullptr);
            require(of(static_cast<kind>(how % kind_count)).usable_size(nullptr) == 0,
                    "null has a size");
            return;
        }
        // All that may be used is used from now on.
        held_block held = take(slots_[where]);
        const std::size_t usable = held.maker->usable_size(held.block.address);
        require(usable >= held.block.size, "usable size too small");
        if (bytes_ + usable > most_bytes) {
            adopt(slots_[where], held);
            return;
        }
        held.block.size = usable;
        held.block.id = next_id_++;
        note(where, held, true);
    }

    table& all_;
    exchange& others_;
    input script_;
    std::uint64_t next_id_;
    bool alone_;
    std::size_t bytes_ = 0;
    arena_subject<binmalloc::arena> arena_;
    live_blocks live_;
    std::array<std::optional<held_block>, 2048> slots_; // a slab of 8-byte blocks
};

/// Lets threads act one after the other, in a circle, until all have left it.
class circle {
public:
    explicit circle(std::size_t count) : in_(count, true) {}

    void wait_for_turn(std::size_t me)
    {
        std::unique_lock held(lock_);
        passed_.wait(held, [&] { return turn_ == me; });
    }
    void pass(std::size_t me, bool leave)
    {
        const std::lock_guard held(lock_);
        if (leave) in_[me] = false;
        std::size_t next = me;
        for (std::size_t i = 1; i <= in_.size(); ++i) {
            next = (me + i) % in_.size();
            if (in_[next]) break;
        }
        turn_ = next;
        passed_.notify_all();
    }

private:
    std::mutex lock_;
    std::condition_variable passed_; // not atomic::wait, see support/threads.hpp
    std::size_t turn_ = 0;
    std::vector<char> in_;
};

void play_alone(table& all, exchange& others, input script)
{
    player one(all, others, script, 1, true);
    while (!one.at_end()) one.step();
    one.clean_up();
    one.finish();
}

void play_together(table& all, exchange& others, input script, std::size_t count, bool by_turns)
{
    // They outlive their threads: an arena's blocks may be anywhere.
    std::vector<std::unique_ptr<player>> players;
    for (std::size_t i = 0; i < count; ++i) {
        players.push_back(
            std::make_unique<player>(all, others, script.part(i, count), i + 1, false));
    }
    circle turns(count);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i) {
        threads.emplace_back([&, i] {
            player& me = *players[i];
            for (bool more = true; more;) {
                if (by_turns) turns.wait_for_turn(i);
                more = !me.at_end();
                if (more) {
                    me.step();
                } else if (i % 2 != 0) {
                    me.finish(); // the blocks of the others outlive their threads
                }
                if (by_turns) turns.pass(i, !more);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    players.front()->clean_up();
    for (const auto& each : players) each->finish();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    input script({data, size});
    const std::size_t mode = script.byte();
    {
        table all;
        exchange others;
        if (mode % 4 < 2) {
            play_alone(all, others, script);
        } else {
            play_together(all, others, script, mode & 4 ? 3 : 2, mode % 4 == 2);
        }
    }
    odd_heap::purge();
    single_heap::purge();
    require(odd_heap::statistics().live == 0, "a heap of leased caches lost memory");
    require(single_heap::statistics().live == 0, "a single-cache heap lost memory");
    if (mode & 8) binmalloc::purge();
    return 0;
}
