// The fork gate: while it is closed and nobody is busy, the forking thread has all caches for itself, and
// whoever comes after sees what it did.
#include "checker.hpp"

#include <binmalloc/cache.hpp>

struct fork_gate_test : rl::test_suite<fork_gate_test, 3> {
    static constexpr unsigned lessees = 2;

    binmalloc::detail::fork_gate gate;
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
        else
            fork();
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
        for (auto& c : caches)
            while (c.busy.load(std::memory_order_seq_cst)) binmalloc::os::yield();
        for (rl::var<int>& changed : changes) changed($) = changed($) + 10;
        gate.reopen();
    }

    void after()
    {
        for (rl::var<int>& changed : changes) RL_ASSERT(changed($) == 11);
    }
};

int main(int argc, char** argv) { return binmalloc_test::check<fork_gate_test>(argc, argv); }
