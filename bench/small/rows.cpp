// rows: how long does it take to walk over the columns of a matrix whose rows are blocks of their own?
// Google Benchmark.
//
// 100 rows of one size, all allocated after each other, as a vector of vectors has them. A walk goes down
// one column after the other, so it touches the same place in all rows in turn. Where rows lie a multiple of
// a page apart these places compete for the same few lines of the processor's first cache. Times are for
// one column.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace {

void rows(benchmark::State& state)
{
    const auto size = static_cast<std::size_t>(state.range(0));
    std::array<float*, 100> matrix{};
    for (float*& row : matrix) {
        row = static_cast<float*>(std::malloc(size));
        if (row == nullptr) std::abort();
        std::memset(row, 0, size);
    }
    const std::size_t columns = size / sizeof(float);
    std::size_t column = 0;
    for (auto _ : state) {
        for (float* row : matrix) row[column] += 1;
        benchmark::ClobberMemory();
        if (++column == columns) column = 0;
    }
    for (float* row : matrix) std::free(row);
}
BENCHMARK(rows)->Arg(256)->Arg(1000)->Arg(2048)->Arg(4096)->Arg(8192)->Arg(12'000)->Arg(65'536);

} // namespace

BENCHMARK_MAIN();
