// large_blocks: how long does a call for a block over 16 KiB take? Google Benchmark.
//
//   pair         one block, freed at once; its first byte is written
//   window       16 live blocks, a random one replaced; one byte of every OS page is written
//   mixed        the same with sizes drawn evenly on a logarithmic scale
//   shared       mixed from 16 KiB to 1 MiB, by several threads, each with its own window
//   handed_over  two threads, each frees what the other allocated
//   zeroed       calloc and free; one byte of every OS page is read
//   grow         one block that grows in steps of 4 KiB, written to its end; time per step
//   grow_two     two blocks that grow in turn
#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>

namespace {

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;
constexpr std::size_t os_page = 4 * KiB;

/// Writes a byte of each OS page: at another line of each, or all would compete for the same cache sets. Which
/// line that is depends on the page, not on its place in the block: a program that uses all of its block finds
/// no more in the cache where its blocks begin at the same places as those before.
void write_each_page(void* p, std::size_t size)
{
    constexpr std::uintptr_t line = 64;
    const auto begin = reinterpret_cast<std::uintptr_t>(p);
    for (std::uintptr_t page = begin / os_page * os_page; page < begin + size; page += os_page) {
        const std::uintptr_t at = page + page / os_page * line % os_page;
        if (at >= begin && at < begin + size) *reinterpret_cast<volatile char*>(at) = 1;
    }
}

std::size_t arg(const benchmark::State& state, std::size_t i)
{
    return static_cast<std::size_t>(state.range(i));
}

void* allocate(std::size_t size)
{
    void* p = std::malloc(size);
    if (p == nullptr) std::abort();
    benchmark::DoNotOptimize(p);
    return p;
}

/// Sizes drawn evenly on a logarithmic scale, the same in each run.
class sizes {
public:
    sizes(std::size_t least, std::size_t most, unsigned seed) : random_(seed)
    {
        for (std::size_t& size : drawn_) {
            const double exponent = std::uniform_real_distribution(
                std::log2(double(least)), std::log2(double(most)))(random_);
            size = static_cast<std::size_t>(std::exp2(exponent));
        }
    }

    std::size_t next() { return drawn_[i_++ % drawn_.size()]; }

private:
    std::minstd_rand random_;
    std::array<std::size_t, 4096> drawn_{};
    std::size_t i_ = 0;
};

/// A number of live blocks.
template <std::size_t Count>
class window {
public:
    explicit window(unsigned seed) : random_(seed) {}
    window(const window&) = delete;
    window& operator=(const window&) = delete;
    ~window()
    {
        for (void* p : live_) std::free(p);
    }

    void replace_one(std::size_t size)
    {
        void*& place = live_[random_() / 16 % Count];
        std::free(place);
        place = allocate(size);
        write_each_page(place, size);
    }

private:
    std::minstd_rand random_;
    std::array<void*, Count> live_{};
};

void pair(benchmark::State& state)
{
    const std::size_t size = arg(state, 0);
    for (auto _ : state) {
        void* p = allocate(size);
        *static_cast<volatile char*>(p) = 1;
        std::free(p);
    }
}
BENCHMARK(pair)->Arg(20 * KiB)->Arg(64 * KiB)->Arg(256 * KiB)->Arg(1 * MiB)->Arg(4 * MiB)
    ->Arg(8 * MiB)->Arg(32 * MiB);

void window_of(benchmark::State& state)
{
    window<16> live(1);
    for (auto _ : state) live.replace_one(arg(state, 0));
}
BENCHMARK(window_of)->Name("window")->Arg(20 * KiB)->Arg(64 * KiB)->Arg(256 * KiB)->Arg(1 * MiB);

void mixed(benchmark::State& state)
{
    sizes drawn(arg(state, 0), arg(state, 1), 1);
    window<20> live(1);
    for (auto _ : state) live.replace_one(drawn.next());
}
BENCHMARK(mixed)->Args({16 * KiB, 1 * MiB})->Args({1 * MiB, 8 * MiB})->Args({5 * MiB, 25 * MiB});

void shared(benchmark::State& state)
{
    const auto seed = static_cast<unsigned>(state.thread_index()) + 1;
    sizes drawn(16 * KiB, 1 * MiB, seed);
    window<8> live(seed);
    for (auto _ : state) live.replace_one(drawn.next());
}
BENCHMARK(shared)->Threads(1)->Threads(2)->Threads(4)->Threads(16)->UseRealTime();

void handed_over(benchmark::State& state)
{
    static std::array<std::atomic<void*>, 64> slots{};
    sizes drawn(16 * KiB, 256 * KiB, static_cast<unsigned>(state.thread_index()) + 1);
    std::minstd_rand random(static_cast<unsigned>(state.thread_index()) + 1);
    for (auto _ : state) {
        const std::size_t size = drawn.next();
        void* p = allocate(size);
        write_each_page(p, size);
        std::free(slots[random() / 16 % slots.size()].exchange(p));
    }
}
BENCHMARK(handed_over)->Threads(2)->UseRealTime();

void zeroed(benchmark::State& state)
{
    const std::size_t size = arg(state, 0);
    for (auto _ : state) {
        void* p = std::calloc(1, size);
        if (p == nullptr) std::abort();
        benchmark::DoNotOptimize(p);
        for (std::size_t i = 0; i < size; i += os_page)
            benchmark::DoNotOptimize(static_cast<volatile char*>(p)[i]);
        std::free(p);
    }
}
BENCHMARK(zeroed)->Arg(64 * KiB)->Arg(1 * MiB)->Arg(8 * MiB)->Arg(64 * MiB);

template <std::size_t Blocks>
void grow_blocks(benchmark::State& state)
{
    const std::size_t most = arg(state, 0);
    for (auto _ : state) {
        std::array<char*, Blocks> blocks{};
        for (std::size_t size = os_page; size <= most; size += os_page)
            for (char*& b : blocks) {
                b = static_cast<char*>(std::realloc(b, size));
                if (b == nullptr) std::abort();
                std::memset(b + size - os_page, 1, os_page);
            }
        for (char* b : blocks) std::free(b);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(most / os_page * Blocks));
}
BENCHMARK(grow_blocks<1>)->Name("grow")->Arg(64 * MiB)->Arg(1024 * MiB)->Unit(benchmark::kMillisecond)
    ->Iterations(1);
BENCHMARK(grow_blocks<2>)->Name("grow_two")->Arg(256 * MiB)->Unit(benchmark::kMillisecond)
    ->Iterations(1);

} // namespace

BENCHMARK_MAIN();
