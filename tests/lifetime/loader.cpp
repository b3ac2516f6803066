// Threads that use a plug-in's thread-locals while it is opened and closed, and others allocate.
#include "program.hpp"

#include <atomic>
#include <thread>
#include <vector>

namespace {

using namespace lifetime;

std::atomic<bool> stop = false;

void open_use_close(const char* path)
{
    for (int round = 0; round < 5; ++round) {
        void* const plugin = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
        require(plugin != nullptr, "dlopen");
        const auto count_call = reinterpret_cast<int (*)()>(::dlsym(plugin, "plugin_count_call"));
        require(count_call != nullptr, "dlsym");
        std::vector<std::thread> threads;
        for (int which = 0; which < 4; ++which) {
            threads.emplace_back([count_call] {
                for (int call = 1; call <= 3; ++call) {
                    require(count_call() == call, "a thread-local of the plug-in");
                    exercise(1, 20);
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        require(::dlclose(plugin) == 0, "dlclose");
    }
}

} // namespace

int main(int, char** arguments)
{
    end_after(50);
    require(on_binmalloc(), "another allocator");
    std::vector<std::thread> busy;
    for (std::uint64_t which = 0; which < 2; ++which) {
        busy.emplace_back([which] {
            for (std::uint64_t life = 0; !stop; ++life) exercise(which << 32 | life);
        });
    }
    const std::size_t times = scaled(40, 4);
    for (std::size_t i = 0; i < times; ++i) open_use_close(arguments[2]);
    const std::size_t resident_before = binmalloc_test::memory_in_use().resident;
    for (std::size_t i = 0; i < times; ++i) open_use_close(arguments[2]);
    // What waits for reuse, and in six threads' stashes, comes and goes.
    require(binmalloc_test::memory_in_use().resident < resident_before + 16 * mib,
            "opening and closing leaves memory behind");
    stop = true;
    for (std::thread& thread : busy) thread.join();
    return 0;
}
