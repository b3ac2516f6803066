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
            binmalloc::detail::make_span(spans + i, binmalloc::detail::unit_kind::span,
                                         binmalloc::detail::unit_size);
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
        if (!stash.keep_quickly(spans + which) && !stash.keep(spans + which)) places[which]($) = owned;
    }

    void take()
    {
        if (span* s = stash.take_last(1)) move(s, kept, owned);
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
