// random_sizes [THREADS [OPERATIONS [LARGEST]]]: what do blocks cost whose sizes are all equally likely,
// from 16 B to 16 KiB, some of them freed by another thread?
//
// After rpmalloc's benchmark: each thread replaces random ones of its 1000 blocks, of which one byte in
// each page is written; one in 16 new blocks is exchanged for one of another thread.
#include "team.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <utility>

namespace {

using namespace bench;

constexpr std::size_t page = 4096;

std::array<std::atomic<void*>, 256> exchanged{};

void* make(std::size_t size)
{
    auto* const block = static_cast<char*>(std::malloc(size));
    if (block == nullptr) std::abort();
    for (std::size_t at = 0; at < size; at += page) block[at] = 1;
    return block;
}

void work(std::size_t operations, std::size_t largest, random_source random)
{
    std::array<void*, 1000> live{};
    for (std::size_t i = 0; i < operations; ++i) {
        void*& place = live[random.below(live.size())];
        std::free(place);
        place = make(between(random, 16, largest));
        if (random.one_in(16)) place = exchanged[random.below(exchanged.size())].exchange(place);
    }
    for (void* block : live) std::free(block);
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 4'000'000);
    const std::size_t largest = argument(argc, argv, 3, 16'384);

    const double seconds = run_on(threads, [&](std::size_t i) {
        work(operations / threads, largest, random_source(i));
    });
    report_operation(seconds, operations);

    for (auto& place : exchanged) std::free(place.load());
}
