// zeroed: how long does calloc take for blocks up to 16 KiB? Google Benchmark.
//
// 64 live blocks, a random one replaced. Each is read to its end and written in the middle, so that
// what comes back is dirty. calloc of larger blocks is in large_blocks.
#include "../support.hpp"

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdlib>

namespace {

using bench::random_source;

constexpr std::size_t line = 64;

void* allocate_zeroed(std::size_t size)
{
    auto* const p = static_cast<volatile char*>(std::calloc(1, size));
    if (p == nullptr) std::abort();
    char sum = 0;
    for (std::size_t at = 0; at < size; at += line) sum = static_cast<char>(sum | p[at]);
    if (sum != 0) std::abort();
    p[size / 2] = 1;
    p[0] = 1;
    return const_cast<char*>(p);
}

void zeroed(benchmark::State& state)
{
    const auto size = static_cast<std::size_t>(state.range(0));
    random_source random(1);
    std::array<void*, 64> live{};
    for (auto _ : state) {
        void*& place = live[random.below(live.size())];
        std::free(place);
        place = allocate_zeroed(size);
        benchmark::DoNotOptimize(place);
    }
    for (void* p : live) std::free(p);
}
BENCHMARK(zeroed)->Name("calloc")->Arg(16)->Arg(128)->Arg(1024)->Arg(4096)->Arg(16384);

} // namespace

BENCHMARK_MAIN();
