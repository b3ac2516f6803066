// The spinlock: one thread at a time is inside, and sees what those before it have done there.
#include "checker.hpp"

#include <binmalloc/spinlock.hpp>

struct spinlock_test : rl::test_suite<spinlock_test, 3> {
    binmalloc::detail::spinlock lock;
    rl::var<int> entered{0};

    void thread(unsigned which)
    {
        if (which == 0) {
            if (!lock.try_lock()) return;
        } else {
            lock.lock();
        }
        entered($) = entered($) + 1;
        lock.unlock();
    }

    void after() { RL_ASSERT(entered($) == 2 || entered($) == 3); }
};

int main(int argc, char** argv) { return binmalloc_test::check<spinlock_test>(argc, argv); }
