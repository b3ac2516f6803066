// The stash: its owner visits it without a lock, while a thief empties it. A span is in the stash, the
// owner's, or the thief's.
#include "checker.hpp"

#include <binmalloc/span_stash.hpp>

using binmalloc::detail::span;
using binmalloc::detail::unit_header;

struct stash_test : rl::test_suite<stash_test, 2> {
    enum place { owned, kept, stolen };
    static constexpr unsigned count = 3;

    binmalloc::detail::span_stash stash;
    binmalloc::detail::stash_budget budget;
    span spans[count]{};
    rl::var<int> places[count];

    void before()
    {
        budget.set(1000);
        stash.open_for(this, budget);
        stash.set_share(64);
        for (unsigned i = 0; i < count; ++i) {
            places[i]($) = owned;
            span* s = binmalloc::detail::make_span(spans + i, binmalloc::detail::unit_kind::span,
                                                   binmalloc::detail::unit_size);
            s->least = s->sizes = 1;
        }
        keep(0);
        keep(1);
    }

    void thread(unsigned which)
    {
        if (which == 0) {
            keep(2);
            take();
            take();
        } else {
            stash.close();
            std::atomic_thread_fence(std::memory_order_seq_cst); // on all threads
            stash.steal([this](unit_header* const* first, const std::uint32_t* units, unsigned spans_given) {
                for (unsigned i = 0; i < spans_given; ++i)
                    for (unsigned k = 0; k < units[i]; ++k)
                        move(static_cast<span*>(first[i]) + k, kept, stolen);
            });
            stash.open();
        }
    }

    void keep(unsigned which)
    {
        places[which]($) = kept;
        span* s = spans + which; // of this test, a block is its header
        if (!stash.keep_latest(s, s) && !stash.keep(s)) places[which]($) = owned;
    }

    void take()
    {
        auto* s = static_cast<span*>(stash.take_latest(1));
        if (s == nullptr) s = stash.take_last(1);
        if (s != nullptr) move(s, kept, owned);
    }

    void move(const unit_header* s, place from, place to)
    {
        rl::var<int>& now = places[static_cast<const span*>(s) - spans];
        RL_ASSERT(now($) == from);
        now($) = to;
    }

    void after()
    {
        std::size_t held = 0;
        for (rl::var<int>& p : places) held += p($) == kept;
        RL_ASSERT(stash.held() == held);
    }
};

int main(int argc, char** argv) { return binmalloc_test::check<stash_test>(argc, argv); }
