// The fork gate: while it is closed and nobody is busy, the forking thread has all caches for itself, and
// whoever comes after sees what it did. And a thief, who makes a cache busy that is not his.
#include "checker.hpp"

#include <binmalloc/cache_base.hpp>

struct fork_gate_test : rl::test_suite<fork_gate_test, 4> {
    static constexpr unsigned lessees = 2;

    binmalloc::detail::fork_gate gate;
    binmalloc::detail::spinlock thieves;
    binmalloc::detail::cache_base caches[lessees];
    rl::var<int> changes[lessees];

    void before()
    {
        gate.create();
        for (unsigned i = 0; i < lessees; ++i) {
            caches[i].gate = &gate;
            changes[i]($) = 0;
        }
    }

    void thread(unsigned which)
    {
        if (which < lessees)
            change(which);
        else if (which == lessees)
            fork();
        else
            steal();
    }

    // As slow paths do it.
    void change(unsigned which)
    {
        while (!caches[which].try_begin()) binmalloc::os::yield();
        changes[which]($) = changes[which]($) + 1;
        caches[which].end();
    }

    // As cache_pool's handlers do it.
    void fork()
    {
        gate.close();
        thieves.lock();
        for (auto& c : caches)
            while (c.busy.load(std::memory_order_seq_cst)) binmalloc::os::yield();
        for (rl::var<int>& changed : changes) changed($) = changed($) + 10;
        thieves.unlock();
        gate.reopen();
    }

    // As cache_pool's with_leased() does it.
    void steal()
    {
        if (!thieves.try_lock()) return;
        if (caches[0].try_begin_theft()) {
            changes[0]($) = changes[0]($) + 100;
            caches[0].end();
        }
        thieves.unlock();
    }

    void after()
    {
        RL_ASSERT(changes[0]($) % 100 == 11);
        RL_ASSERT(changes[1]($) == 11);
    }
};

int main(int argc, char** argv) { return binmalloc_test::check<fork_gate_test>(argc, argv); }
