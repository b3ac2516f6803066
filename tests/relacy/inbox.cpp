// The inbox: what is sent arrives, once, with all that was written to it before; also where two threads
// send to the same list while it is taken.
#include "checker.hpp"

#include <binmalloc/inbox.hpp>

using binmalloc::detail::block;

struct inbox_test : rl::test_suite<inbox_test, 3> {
    struct payload {
        block head{nullptr}; // what the inbox links
        rl::var<int> written{0};
        int received = 0;
    };

    binmalloc::detail::inbox box;
    payload payloads[4];

    void before() { box.forget(); }

    void thread(unsigned which)
    {
        if (which == 2) {
            take();
            take();
            return;
        }
        payload* const mine = payloads + 2 * which;
        mine[0].written($) = 1;
        mine[1].written($) = 1;
        if (which == 0) {
            box.send(&mine[0].head, &mine[0].head, 0);
            box.send(&mine[1].head, &mine[1].head, 0);
        } else {
            binmalloc::detail::link(&mine[0].head, &mine[1].head);
            box.send(&mine[0].head, &mine[1].head, 0);
        }
    }

    void after()
    {
        take();
        for (const payload& p : payloads) RL_ASSERT(p.received == 1);
    }

    void take()
    {
        binmalloc::detail::inbox::content taken;
        if (!box.take(taken)) return;
        binmalloc::detail::inbox::each(taken, [](block* b) {
            auto* const p = reinterpret_cast<payload*>(b);
            RL_ASSERT(p->written($) == 1);
            p->written($) = 2;
            ++p->received;
        });
    }
};

int main(int argc, char** argv) { return binmalloc_test::check<inbox_test>(argc, argv); }
