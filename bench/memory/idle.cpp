// idle [THREADS [PAUSE_MS]]: how much does a process keep whose threads have freed everything and
// sleep?
//
// Each of 8 threads allocates 64 MiB in blocks of 16 B to 256 KiB. Then each frees three quarters
// of its own and a quarter of its neighbour's, and all sleep for 2 s without a call
// to the allocator.
#include "../support.hpp"

#include <array>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include <dlfcn.h>

namespace {

using namespace bench;

constexpr std::size_t bytes_per_thread = 64 * mib;

struct block {
    block* next;
};

/// Blocks in four lists, which run through the blocks. On a cache line of its own.
class alignas(64) share {
public:
    void allocate_all(std::size_t seed)
    {
        random_source random(seed);
        for (std::size_t bytes = 0, i = 0; bytes < bytes_per_thread; ++i) {
            const std::size_t size = spread_out(random, 16, 14);
            auto* const b = static_cast<block*>(allocate(size));
            b->next = std::exchange(lists_[i % lists_.size()], b);
            bytes += size;
        }
    }

    void free_list(std::size_t i)
    {
        for (block* b = std::exchange(lists_[i], nullptr); b != nullptr;)
            std::free(std::exchange(b, b->next));
    }

private:
    std::array<block*, 4> lists_{};
};

void trim()
{
    using function = int(std::size_t);
    if (auto* const malloc_trim = reinterpret_cast<function*>(::dlsym(RTLD_DEFAULT, "malloc_trim")))
        malloc_trim(0);
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t count = argument(argc, argv, 1, 8);
    const std::chrono::milliseconds rest(argument(argc, argv, 2, 2000));
    std::vector<share> shares(count);
    std::barrier everyone(static_cast<std::ptrdiff_t>(count + 1));

    const auto work = [&](std::size_t i) {
        shares[i].allocate_all(i);
        everyone.arrive_and_wait(); // all are full
        everyone.arrive_and_wait(); // and measured
        for (std::size_t own = 0; own < 3; ++own) shares[i].free_list(own);
        shares[(i + 1) % count].free_list(3);
        everyone.arrive_and_wait(); // all are empty
        everyone.arrive_and_wait(); // and measured
    };
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < count; ++i) threads.emplace_back(work, i);

    everyone.arrive_and_wait();
    report_bytes("rss_full", resident_bytes(), kind::detail);
    everyone.arrive_and_wait();

    everyone.arrive_and_wait();
    pause(rest);
    report_bytes("rss_idle", resident_bytes());
    trim();
    report_bytes("rss_trimmed", resident_bytes());
    everyone.arrive_and_wait();
}
