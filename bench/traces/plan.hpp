// The plan of a replay: what each thread does, one step after the other, made before the clock runs.
//
// A trace has one order of all events; replayed by several threads, not all of it can be kept, nor
// need it be. This is kept:
//
// - Each thread's own order.
// - The order of the calls that have to do with the same block, whichever threads they are of: none
//   is freed before it is there. The later thread waits for the step before.
// - Roughly the order of all: the events are cut into spells of `spell_events`, and none begins
//   before the last but one is over. So a thread that slept in the recorded program does not come
//   too early, and what is live at a time is about what was.
// - Exactly the order at the peak of live bytes: what comes before is done when the memory in use is
//   read, and what comes after has not begun.
// - A thread starts when the one whose event comes just before its own first one is there, and ends
//   after its last event.
//
// Each step waits only for steps of events that come before it in the trace, so there is always one
// that can go on. A trace of one thread has no waits at all.
#pragma once

#include "format.hpp"
#include "mapped_array.hpp"
#include "rows.hpp"
#include "trace_file.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace trace {

inline constexpr std::uint64_t spell_events = 16 * 1024;

enum class action : std::uint8_t {
    malloc,
    calloc,
    aligned,
    realloc,
    free,
    enter,  // waits until `number` spells, from the first, are over
    leave,  // has done its part of spell `number`
    wait,   // waits until thread `row` has published `number`
    start,  // starts thread `row`
    measure // reads the memory in use
};

struct step {
    std::uint64_t number; // a block's size; for others see above
    std::uint32_t row;    // the block's
    action what;
    std::uint8_t log2;
    bool publishes; // how many steps its thread has done with this one
};
static_assert(sizeof(step) == 16, "steps are read in passing and must not crowd the cache");

struct thread_plan {
    std::uint64_t first;
    std::uint64_t count;
};

/// Lays out the steps of a trace into a Sink:
///   std::uint64_t add(std::uint32_t thread, const step&)          returns its index in the thread
///   void publish(std::uint32_t thread, std::uint64_t index)       of a step that was added
///   void end_spell(std::uint64_t spell, std::uint32_t threads)    how many take part in it
template <class Sink>
class planner {
public:
    planner(const file& trace, Sink& sink) : trace_(trace), sink_(sink), rows_(trace.threads())
    {
        if (!row_of_.grow(trace.slots_end()) || !spells_.grow(trace.threads() + 1)
            || !present_.grow(trace.threads() + 1))
            fail("not enough memory for the plan");
        std::fill(spells_.begin(), spells_.end(), none);
    }

    /// @return the end of the rows that are used
    std::uint32_t run()
    {
        trace_.for_each_event([this](const event& e, std::uint64_t index) {
            if (e.what != kind::foreign) add(e);
            if (index == trace_.found().peak_event) add_measurement();
        });
        if (is_parallel()) end_spell();
        return rows_.end();
    }

private:
    static constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();

    [[nodiscard]] bool is_parallel() const noexcept { return trace_.threads() > 1; }

    void add(const event& e)
    {
        if (is_parallel()) {
            if (events_in_spell_++ == spell_events) end_spell();
            take_part(e.thread);
        }
        last_thread_ = e.thread;
        if (allocates(e.what)) row_of_[e.slot] = rows_.take(e.thread, over_);
        const std::uint32_t row = row_of_[e.slot]; // 0 for null
        if (row != 0) wait_for_last_use(e.thread, row);
        const std::uint64_t index = sink_.add(e.thread, {.number = e.size,
                                                         .row = row,
                                                         .what = static_cast<action>(e.what),
                                                         .log2 = e.log2,
                                                         .publishes = false});
        rows_[row] = {spell_ + 1, index, e.thread, 0};
        if (e.what == kind::free && row != 0) rows_.give_back(row, e.thread);
    }

    /// Starts the thread if it is new, and makes it wait for its turn if it is new in the spell.
    void take_part(std::uint32_t thread)
    {
        if (spells_[thread] == none && thread != 0)
            add_control(last_thread_, action::start, 0, thread);
        if (spells_[thread] == spell_) return;
        spells_[thread] = spell_;
        present_[present_count_++] = thread;
        if (over_ > 0) add_control(thread, action::enter, over_);
    }

    void wait_for_last_use(std::uint32_t thread, std::uint32_t row)
    {
        const row_use& last = rows_[row];
        if (last.next_spell <= over_ || last.thread == thread) return;
        sink_.publish(last.thread, last.index);
        add_control(thread, action::wait, last.index + 1, last.thread);
    }

    void end_spell()
    {
        for (std::size_t i = 0; i < present_count_; ++i)
            add_control(present_[i], action::leave, spell_);
        sink_.end_spell(spell_, static_cast<std::uint32_t>(present_count_));
        over_ = std::max(over_, spell_);
        ++spell_;
        present_count_ = 0;
        events_in_spell_ = 1;
    }

    /// By the thread of the last call, in a spell of its own that no other overlaps.
    void add_measurement()
    {
        if (is_parallel()) {
            end_spell();
            over_ = spell_;
            take_part(last_thread_);
        }
        add_control(last_thread_, action::measure, 0);
        if (is_parallel()) {
            end_spell();
            over_ = spell_;
            events_in_spell_ = 0;
        }
    }

    void add_control(std::uint32_t thread, action what, std::uint64_t number, std::uint32_t row = 0)
    {
        sink_.add(thread, {number, row, what, 0, false});
    }

    const file& trace_;
    Sink& sink_;
    rows rows_;
    mapped_array<std::uint32_t> row_of_;  // by slot
    mapped_array<std::uint64_t> spells_;  // by thread, the last one that it took part in
    mapped_array<std::uint32_t> present_; // the threads that take part in this spell
    std::size_t present_count_ = 0;
    std::uint64_t spell_ = 0;
    std::uint64_t over_ = 0; // how many spells are over, from the first, when this one begins
    std::uint64_t events_in_spell_ = 0;
    std::uint32_t last_thread_ = 0;
};

class plan {
public:
    explicit plan(const file& trace)
    {
        if (!threads_.grow(trace.threads() + 1)) fail("not enough memory for the plan");
        counter counts{*this};
        planner(trace, counts).run();
        if (!steps_.grow(lay_out_threads() + 1) || !spells_.grow(spell_count_ + 1))
            fail("not enough memory for the plan");
        writer steps{*this};
        rows_end_ = planner(trace, steps).run();
    }

    /// Rows are below this.
    [[nodiscard]] std::uint32_t rows_end() const noexcept { return rows_end_; }

    /// The steps of a thread.
    [[nodiscard]] const step* begin(std::uint32_t thread) const noexcept
    {
        return &steps_[threads_[thread].first];
    }
    [[nodiscard]] const step* end(std::uint32_t thread) const noexcept
    {
        return begin(thread) + threads_[thread].count;
    }

    [[nodiscard]] std::uint64_t spells() const noexcept { return spell_count_; }
    /// How many threads take part in a spell.
    [[nodiscard]] std::uint32_t threads_in(std::uint64_t spell) const noexcept
    {
        return spells_[spell];
    }

private:
    /// The first of two passes: how many steps and spells?
    struct counter {
        plan& made;
        std::uint64_t add(std::uint32_t thread, const step&)
        {
            return made.threads_[thread].count++;
        }
        void publish(std::uint32_t, std::uint64_t) {}
        void end_spell(std::uint64_t spell, std::uint32_t) { made.spell_count_ = spell + 1; }
    };

    /// The second pass writes them down.
    struct writer {
        plan& made;
        std::uint64_t add(std::uint32_t thread, const step& added)
        {
            thread_plan& own = made.threads_[thread];
            made.steps_[own.first + own.count] = added;
            return own.count++;
        }
        void publish(std::uint32_t thread, std::uint64_t index)
        {
            made.steps_[made.threads_[thread].first + index].publishes = true;
        }
        void end_spell(std::uint64_t spell, std::uint32_t threads)
        {
            made.spells_[spell] = threads;
        }
    };

    /// Each thread's steps behind those of the one before.
    /// @return how many they are together
    std::uint64_t lay_out_threads()
    {
        std::uint64_t next = 0;
        for (thread_plan& thread : threads_) {
            if (thread.count > std::numeric_limits<std::uint32_t>::max())
                fail("one thread has more calls than can be counted here");
            thread.first = next;
            next += thread.count;
            thread.count = 0;
        }
        return next;
    }

    mapped_array<thread_plan> threads_;
    mapped_array<step> steps_;
    mapped_array<std::uint32_t> spells_;
    std::uint64_t spell_count_ = 0;
    std::uint32_t rows_end_ = 0;
};

} // namespace trace
