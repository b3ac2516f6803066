// late_tls LIBRARY...: more libraries with thread_locals than the loader's tables of a running
// thread have room for. The loader allocates new tables in the middle of an access to a
// thread_local, from a malloc that is binmalloc's and has a thread_local itself.
#include "../support/threads.hpp"
#include "library.hpp"

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

using touch = int();

/// Each library's count in a thread begins at 0, whenever the thread comes by first.
void touch_all(const std::vector<touch*>& libraries)
{
    for (touch* each : libraries) {
        void* const block = std::malloc(1000);
        expect(block != nullptr && malloc_usable_size(block) == 1040, "malloc is binmalloc's");
        expect(each() == 1 && each() == 2, "a thread's own");
        std::free(block);
    }
}

} // namespace

int main(int argc, char** argv)
{
    alarm(60);
    std::vector<touch*> libraries;
    std::atomic<bool> opened{false};
    std::vector<std::thread> early;
    for (int i = 0; i < 3; ++i) {
        // One of them does not allocate before its first access.
        early.emplace_back([&, i] {
            if (i != 0) std::free(std::malloc(100));
            opened.wait(false);
            if (i == 0)
                expect(libraries.back()() == 1 && libraries.front()() == 1, "a thread's own");
            if (i != 0) touch_all(libraries);
        });
    }
    for (int i = 1; i < argc; ++i) {
        void* const handle = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        if (handle == nullptr) expect(false, dlerror());
        libraries.push_back(find_function<touch>(handle, "touch"));
    }
    opened = true;
    opened.notify_all();
    touch_all(libraries);
    for (std::thread& thread : early) thread.join();
    run_threads(4, [&](std::size_t) { touch_all(libraries); });
    run_forked([&] { run_thread([&] { touch_all(libraries); }); });
}
