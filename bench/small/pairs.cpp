// pairs: how long does an allocation with its free take, for blocks of one size? Google Benchmark.
//
//   pair      one block, freed at once
//   lifo      1000 blocks, the last is freed first
//   fifo      1000 blocks, the first is freed first
//   shuffled  1000 blocks, freed in random order, so that they come back in random order too
//
// Times are per block. The first and the last byte of each are written.
#include "../support.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace {

using bench::allocate_touched;
using bench::random_source;

constexpr std::size_t batch = 1000;
using order = std::array<std::size_t, batch>;

order lifo()
{
    order result;
    std::iota(result.rbegin(), result.rend(), std::size_t{0});
    return result;
}

order fifo()
{
    order result;
    std::iota(result.begin(), result.end(), std::size_t{0});
    return result;
}

order shuffled()
{
    order result = fifo();
    random_source random(1);
    for (std::size_t i = batch - 1; i > 0; --i) std::swap(result[i], result[random.below(i + 1)]);
    return result;
}

void pair(benchmark::State& state)
{
    const auto size = static_cast<std::size_t>(state.range(0));
    for (auto _ : state) {
        void* p = allocate_touched(size);
        benchmark::DoNotOptimize(p);
        std::free(p);
    }
}

void batches(benchmark::State& state, order (*make_order)())
{
    const auto size = static_cast<std::size_t>(state.range(0));
    const order frees = make_order();
    std::array<void*, batch> blocks{};
    while (state.KeepRunningBatch(batch)) {
        for (void*& b : blocks) b = allocate_touched(size);
        benchmark::DoNotOptimize(blocks.data());
        benchmark::ClobberMemory();
        for (const std::size_t i : frees) std::free(blocks[i]);
    }
}

void of_sizes(benchmark::internal::Benchmark* b)
{
    b->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Arg(8192);
}

BENCHMARK(pair)->Arg(8)->Apply(of_sizes);
BENCHMARK_CAPTURE(batches, lifo, lifo)->Name("lifo")->Apply(of_sizes);
BENCHMARK_CAPTURE(batches, fifo, fifo)->Name("fifo")->Apply(of_sizes);
BENCHMARK_CAPTURE(batches, shuffled, shuffled)->Name("shuffled")->Apply(of_sizes);

} // namespace

BENCHMARK_MAIN();
