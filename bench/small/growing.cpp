// growing: how long do vectors, strings and buffers take that grow from nothing? Google Benchmark.
//
//   vector_int     push_back without reserve, to a number of elements
//   vector_string  the same with strings of 8 to 40 characters, about half of them with a block
//   many_vectors   100 vectors that grow in turn to 1000 elements each
//   string         a string that grows by one character at a time
//   realloc        a buffer that grows by 16 bytes at a time
//
// Times are for one whole object, or for the 100 vectors, its end included.
#include "../support.hpp"

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

std::size_t most(const benchmark::State& state) { return static_cast<std::size_t>(state.range(0)); }

void vector_int(benchmark::State& state)
{
    for (auto _ : state) {
        std::vector<int> grown;
        for (std::size_t i = 0; i < most(state); ++i) grown.push_back(static_cast<int>(i));
        benchmark::DoNotOptimize(grown.data());
        benchmark::ClobberMemory();
    }
}
BENCHMARK(vector_int)->Arg(100)->Arg(10'000)->Arg(1'000'000)->Unit(benchmark::kMicrosecond);

void vector_string(benchmark::State& state)
{
    for (auto _ : state) {
        std::vector<std::string> grown;
        for (std::size_t i = 0; i < most(state); ++i) grown.emplace_back(8 + i * 7 % 33, 'x');
        benchmark::DoNotOptimize(grown.data());
        benchmark::ClobberMemory();
    }
}
BENCHMARK(vector_string)->Arg(100)->Arg(10'000)->Unit(benchmark::kMicrosecond);

void many_vectors(benchmark::State& state)
{
    for (auto _ : state) {
        std::array<std::vector<int>, 100> grown;
        for (std::size_t i = 0; i < most(state); ++i)
            for (auto& v : grown) v.push_back(static_cast<int>(i));
        benchmark::DoNotOptimize(grown.data());
        benchmark::ClobberMemory();
    }
}
BENCHMARK(many_vectors)->Arg(1000)->Unit(benchmark::kMicrosecond);

void string(benchmark::State& state)
{
    for (auto _ : state) {
        std::string grown;
        for (std::size_t i = 0; i < most(state); ++i) grown += static_cast<char>('a' + i % 26);
        benchmark::DoNotOptimize(grown.data());
        benchmark::ClobberMemory();
    }
}
BENCHMARK(string)->Arg(100)->Arg(100'000)->Unit(benchmark::kMicrosecond);

void grow_by_realloc(benchmark::State& state)
{
    constexpr std::size_t step = 16;
    for (auto _ : state) {
        char* grown = nullptr;
        for (std::size_t size = step; size <= most(state); size += step) {
            grown = static_cast<char*>(std::realloc(grown, size));
            if (grown == nullptr) std::abort();
            std::memset(grown + size - step, 1, step);
            benchmark::ClobberMemory();
        }
        benchmark::DoNotOptimize(grown);
        std::free(grown);
    }
}
BENCHMARK(grow_by_realloc)->Name("realloc")->Arg(1024)->Arg(65'536)->Unit(benchmark::kMicrosecond);

} // namespace

BENCHMARK_MAIN();
