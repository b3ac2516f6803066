// The rows of the table in which a replay keeps its blocks.
//
// The slots of a trace would do as rows, were it not for threads: a slot that one thread gave up may
// be the next one's at once, which then had to wait, though the program's threads had nothing to do
// with each other. So a thread takes a row that it gave up itself, else one that was given up so
// long ago that no wait is needed, else a new one. There are not many more rows than slots: a thread
// has a few of its own, and the others are back after two spells (plan.hpp).
#pragma once

#include "mapped_array.hpp"
#include "trace_file.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>

namespace trace {

/// The last step on a row.
struct row_use {
    std::uint64_t next_spell; // one more than the step's own; 0 if there was none
    std::uint64_t index;      // of the step in its thread
    std::uint32_t thread;
    std::uint32_t next; // in the list that the row is in; 0 at its end
};

/// Row 0 is null's.
class rows {
public:
    explicit rows(std::uint32_t threads)
        : most_own_(threads > 1 ? 256 : std::numeric_limits<std::uint32_t>::max())
    {
        if (!uses_.grow(1024) || !own_.grow(threads + 1)) fail("not enough memory for the plan");
    }

    row_use& operator[](std::uint32_t row) const noexcept { return uses_[row]; }
    /// Rows are below this.
    [[nodiscard]] std::uint32_t end() const noexcept { return end_; }

    /// A row for a new block of the thread. `over`: the spells before this one are.
    [[nodiscard]] std::uint32_t take(std::uint32_t thread, std::uint64_t over)
    {
        stack& own = own_[thread];
        if (own.top != 0) {
            --own.size;
            return take_first(own.top);
        }
        if (oldest_ != 0 && uses_[oldest_].next_spell <= over) return take_first(oldest_);
        if (end_ == uses_.size() && !uses_.grow(2 * uses_.size()))
            fail("not enough memory for the plan");
        return end_++;
    }

    /// Takes back the row of a block that the thread frees; its last use must be that.
    void give_back(std::uint32_t row, std::uint32_t thread)
    {
        stack& own = own_[thread];
        if (own.size < most_own_) {
            ++own.size;
            uses_[row].next = own.top;
            own.top = row;
        } else {
            (oldest_ == 0 ? oldest_ : uses_[newest_].next) = row;
            newest_ = row;
            uses_[row].next = 0;
        }
    }

private:
    struct stack {
        std::uint32_t top;
        std::uint32_t size;
    };

    std::uint32_t take_first(std::uint32_t& list) const noexcept
    {
        const std::uint32_t row = list;
        list = uses_[row].next;
        return row;
    }

    std::uint32_t most_own_;
    mapped_array<row_use> uses_;
    mapped_array<stack> own_;  // by thread, the last one given back on top
    std::uint32_t oldest_ = 0; // of the others
    std::uint32_t newest_ = 0;
    std::uint32_t end_ = 1;
};

} // namespace trace
