// producers [THREADS [OPERATIONS [balanced|one_sided]]]: what do blocks cost that one thread
// allocates and another frees?
//
// After xmalloc-test by Lever and Boreham ("malloc() performance in a multithreaded Linux
// environment", USENIX 2000). Blocks go from thread to thread in bundles of 64, of which up to 16
// wait. Balanced: the threads stand in a ring; each allocates bundles for the next and frees those
// of the thread before it, in turn but for a lead of eight, so that they rarely wait for each
// other. One-sided: half of the threads only allocate, the others only free.
#include "team.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

using namespace bench;

const pareto_sizes<256> sizes;

using bundle = std::array<char*, 64>;
constexpr std::size_t lead = 8; // bundles

/// A short queue of bundles, for one writer and one reader, which sleep when they must wait.
class alignas(64) channel {
public:
    void put(const bundle& b)
    {
        const std::uint32_t at = put_.load(std::memory_order_relaxed);
        for (std::uint32_t taken; at - (taken = taken_.load()) == waiting_.size();)
            taken_.wait(taken);
        waiting_[at % waiting_.size()] = b;
        advance(put_);
    }

    bundle take()
    {
        const std::uint32_t at = taken_.load(std::memory_order_relaxed);
        put_.wait(at);
        const bundle b = waiting_[at % waiting_.size()];
        advance(taken_);
        return b;
    }

private:
    static void advance(std::atomic<std::uint32_t>& count)
    {
        count.fetch_add(1);
        count.notify_one();
    }

    alignas(64) std::atomic<std::uint32_t> put_{0};
    alignas(64) std::atomic<std::uint32_t> taken_{0};
    std::array<bundle, 16> waiting_{};
};

void produce(channel& to, random_source& random)
{
    bundle made{};
    for (char*& block : made) block = static_cast<char*>(allocate(sizes.draw(random)));
    to.put(made);
}

void consume(channel& from)
{
    for (char* block : from.take()) {
        if (*block != 1) std::abort();
        std::free(block);
    }
}

double run_balanced(std::size_t threads, std::size_t bundles)
{
    std::vector<channel> channels(threads);
    return run_on(threads, [&](std::size_t i) {
        random_source random(i);
        channel& before = channels[(i + threads - 1) % threads];
        for (std::size_t n = 0; n < bundles / threads + lead; ++n) {
            if (n < bundles / threads) produce(channels[i], random);
            if (n >= lead) consume(before);
        }
    });
}

double run_one_sided(std::size_t threads, std::size_t bundles)
{
    const std::size_t pairs = threads / 2;
    std::vector<channel> channels(pairs);
    return run_on(2 * pairs, [&](std::size_t i) {
        random_source random(i);
        for (std::size_t n = 0; n < bundles / pairs; ++n)
            if (i % 2 == 0)
                produce(channels[i / 2], random);
            else
                consume(channels[i / 2]);
    });
}

} // namespace

int main(int argc, char** argv)
{
    using namespace std::string_view_literals;
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 4'000'000);
    const bool is_balanced = argc <= 3 || argv[3] == "balanced"sv;

    const std::size_t bundles = operations / std::tuple_size_v<bundle>;
    const double seconds =
        is_balanced ? run_balanced(threads, bundles) : run_one_sided(threads, bundles);
    report_operation(seconds, operations);
}
