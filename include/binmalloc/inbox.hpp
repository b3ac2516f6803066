// binmalloc: the inbox, blocks that others have freed for a cache; and the outbox, where they wait.
//
// Layer: bins and slabs. Thread safe: anybody sends; the cache's holder takes all.
//
// An inbox has several lists, each a stack of its own (Treiber, 1986; nobody takes a single block, so there
// is no ABA problem). A link is in a block that another processor has just written to. In a single list
// the holder would wait for one such cache line after the other; in several, for several at a time.
// (Measured with 2 to 16 processors: 8 lists are better than 4.)
#ifndef BINMALLOC_INBOX_HPP
#define BINMALLOC_INBOX_HPP

#include <binmalloc/region.hpp>

#include <atomic>

namespace binmalloc::detail {

class alignas(64) inbox {
public:
    static constexpr unsigned lists = 8;

    /// What take() found: the first blocks of the lists, of which each ends in null.
    struct content {
        block* first[lists];
    };

    /// Effects: adds a block.
    void send(block* b) noexcept { send(b, b); }

    /// Effects: adds a chain of blocks.
    void send(block* first, block* last) noexcept
    {
        send(first, last, address_of(first) / 64 % lists); // any list
    }

    /// Effects: adds a chain of blocks to a list.
    void send(block* first, block* last, unsigned list) noexcept
    {
        block* head = first_[list].load(std::memory_order_relaxed);
        do {
            link(last, head);
        } while (!first_[list].compare_exchange_weak(head, first, std::memory_order_release,
                                                     std::memory_order_relaxed));
    }

    /// Effects: takes all blocks out. False: there are none.
    BINMALLOC_INLINE bool take(content& taken) noexcept
    {
        if (is_empty()) [[likely]]
            return false;
        for (unsigned i = 0; i < lists; ++i) {
            taken.first[i] = first_[i].load(std::memory_order_relaxed);
            if (taken.first[i] != nullptr)
                taken.first[i] = first_[i].exchange(nullptr, std::memory_order_acquire);
        }
        return true;
    }

    /// Effects: calls `use(block)` for all that were taken, which may write to the block.
    template <class Use>
    static void each(content& taken, Use use) noexcept
    {
        for (bool any = true; any;) {
            // One of each list: when its turn comes again, the next one is here.
            any = false;
            for (block*& list : taken.first) {
                block* b = list;
                if (b == nullptr) continue;
                list = next_of(b);
                if (list != nullptr) {
                    prefetch(list);
                    any = true;
                }
                use(b);
            }
        }
    }

    /// Effects: calls `use(block)` for all that were taken, which stay so.
    template <class Use>
    static void look(const content& taken, Use use) noexcept
    {
        for (const block* list : taken.first)
            for (const block* b = list; b != nullptr; b = next_of(b)) use(b);
    }

    /// Effects: drops what is there.
    void forget() noexcept
    {
        for (auto& list : first_) list.store(nullptr, std::memory_order_relaxed);
    }

private:
    // Without a branch for each.
    bool is_empty() const noexcept
    {
        std::uintptr_t all = 0;
        for (const auto& list : first_) all |= address_of(list.load(std::memory_order_relaxed));
        return all == 0;
    }

    std::atomic<block*> first_[lists]{};
};

/// Blocks freed by a thread that belong to one other cache, on their way to its inbox: a chain for each
/// list. To join them only then would cost a look at each block again, long after its free. Not thread
/// safe. All zero is its initial state.
class outbox {
public:
    std::uint32_t count() const noexcept { return count_; }

    /// Whether it is not yet time to send: there are fewer than is enough, which must be known for that.
    bool has_room() const noexcept { return count_ < enough_; }
    bool knows_enough() const noexcept { return enough_ != 0; }
    void set_enough(std::uint32_t blocks) noexcept { enough_ = blocks; }

    /// The block that was added last, or null.
    block* last_added() const noexcept { return last_; }

    /// Effects: adds a block. The chains are whole at each step: a fork may come in between.
    BINMALLOC_INLINE void add(block* b) noexcept
    {
        chain& to = chains_[count_ % inbox::lists];
        link(b, to.first);
        if (to.first == nullptr) set_in_order(to.last, b);
        set_in_order(to.first, b);
        last_ = b;
        ++count_;
    }

    /// Effects: takes all blocks out.
    inbox::content take() noexcept
    {
        inbox::content taken;
        for (unsigned i = 0; i < inbox::lists; ++i) taken.first[i] = chains_[i].first;
        *this = {};
        return taken;
    }

    /// Effects: sends all blocks.
    void send(inbox& to) noexcept
    {
        // Not by the count: in a forked child it may lag behind.
        for (unsigned i = 0; i < inbox::lists; ++i)
            if (chains_[i].first != nullptr) to.send(chains_[i].first, chains_[i].last, i);
        *this = {};
    }

private:
    struct chain {
        block* first = nullptr;
        block* last = nullptr;
    };

    chain chains_[inbox::lists];
    block* last_ = nullptr;
    std::uint32_t count_ = 0;
    std::uint32_t enough_ = 0;
};

} // namespace binmalloc::detail

#endif
