// replacing: how long does it take to replace a random one of many live blocks by a new one of random size?
// Google Benchmark.
//
// A row's arguments are the least and the largest size, all sizes in between equally likely, and the
// number of live blocks. The first and the last byte of each are written.
#include "../support.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdlib>

namespace {

using namespace bench;

void replace(benchmark::State& state)
{
    const auto least = static_cast<std::size_t>(state.range(0));
    const auto most = static_cast<std::size_t>(state.range(1));
    random_source random(1);
    const auto make = [&] { return allocate_touched(between(random, least, most)); };

    const pointers<void> blocks(static_cast<std::size_t>(state.range(2)));
    for (void*& b : blocks.all()) b = make();
    for (auto _ : state) {
        void*& b = blocks.all()[random.below(blocks.all().size())];
        std::free(b);
        b = make();
        benchmark::DoNotOptimize(b);
    }
    for (void* b : blocks.all()) std::free(b);
}

void of_ranges(benchmark::internal::Benchmark* b)
{
    for (const int live : {1'000, 10'000})
        b->Args({8, 64, live})->Args({64, 256, live})->Args({256, 1024, live})->Args({8, 4096, live});
}
BENCHMARK(replace)->Apply(of_ranges);

} // namespace

BENCHMARK_MAIN();
