// spread_sizes [THREADS [OPERATIONS]]: what do blocks cost of which each doubling of the size, from 4 B to
// 32 KiB, is equally likely?
//
// After glibc's benchmark of malloc in threads: each thread replaces random ones of its 1024 blocks, and
// writes the first byte of each.
#include "team.hpp"

#include <array>
#include <cstddef>
#include <cstdlib>

namespace {

using namespace bench;

void* make(std::size_t size)
{
    auto* const block = static_cast<volatile char*>(std::malloc(size));
    if (block == nullptr) std::abort();
    *block = 1;
    return const_cast<char*>(block);
}

void work(std::size_t operations, random_source random)
{
    std::array<void*, 1024> live{};
    for (std::size_t i = 0; i < operations; ++i) {
        void*& place = live[random.below(live.size())];
        std::free(place);
        place = make(spread_out(random, 4, 13));
    }
    for (void* block : live) std::free(block);
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 10'000'000);

    const double seconds = run_on(threads, [&](std::size_t i) {
        work(operations / threads, random_source(i));
    });
    report_operation(seconds, operations);
}
