// What a signal does to the thread that takes it.
#pragma once

#include "in_child.hpp"

#if defined(__unix__) || defined(__APPLE__)

#    include <pthread.h>
#    include <signal.h>
#    include <unistd.h>

#    include <atomic>
#    include <thread>

namespace binmalloc_test {

/// False under qemu-i386: its threads share one table of descriptors, and a return from a signal's
/// handler loads the thread pointer from there, that of the thread which was made last.
inline bool signals_leave_thread_locals_alone()
{
    return in_child([] {
        thread_local int own;
        int* (*volatile const address)() = [] { return &own; }; // volatile: to be asked for each time
        static std::atomic<int> step;
        static pthread_t watched;
        struct sigaction action {};
        action.sa_handler = [](int) { step = 2; };
        if (::sigaction(SIGUSR1, &action, nullptr) != 0) return 2;
        std::thread([address] {
            watched = ::pthread_self();
            const int* const before = address();
            step = 1;
            while (step.load() < 2) std::this_thread::yield();
            std::this_thread::yield(); // the handler has returned
            ::_exit(address() == before ? 0 : 1);
        }).detach();
        while (step.load() < 1) std::this_thread::yield();
        std::thread([] { ::pthread_kill(watched, SIGUSR1); }).detach();
        for (;;) ::pause();
    }) != 1; // only what was seen to be wrong is a reason to skip a test
}

} // namespace binmalloc_test

#endif
