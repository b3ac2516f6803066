// sleeper [MIB [OPERATIONS]]: how much memory do blocks take that others replace while the thread that
// allocated them sleeps?
//
// The main thread allocates 64 MiB in blocks of 16 B to 1 KiB, and sleeps. Two threads replace random
// ones of them, each of its own half, until hardly any of the first ones is left.
#include "../support.hpp"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <span>
#include <thread>

namespace {

using namespace bench;

struct block {
    std::size_t size;
};

block* make(random_source& random)
{
    const std::size_t size = between(random, 16, kib);
    auto* const b = static_cast<block*>(allocate(size));
    b->size = size;
    return b;
}

void replace(std::span<block*> blocks, std::size_t operations, std::size_t seed)
{
    random_source random(seed);
    for (std::size_t i = 0; i < operations; ++i) {
        block*& place = blocks[random.below(blocks.size())];
        std::free(place);
        place = make(random);
    }
}

} // namespace

int main(int argc, char** argv)
{
    constexpr std::size_t mean = (16 + kib) / 2;
    const std::size_t count = argument(argc, argv, 1, 64) * mib / mean;
    const std::size_t operations = argument(argc, argv, 2, 20'000'000);
    const std::size_t rss_at_start = resident_bytes();

    pointers<block> blocks(count);
    random_source random(1);
    for (block*& b : blocks.all()) b = make(random);

    const stopwatch replacing;
    {
        const std::span<block*> all = blocks.all();
        std::array<std::jthread, 2> threads;
        threads[0] = std::jthread([&] { replace(all.first(count / 2), operations / 2, 2); });
        threads[1] = std::jthread([&] { replace(all.subspan(count / 2), operations / 2, 3); });
    }
    report("replace", replacing.seconds() * 1e9 / static_cast<double>(operations), "ns");

    std::size_t live = 0;
    for (const block* b : blocks.all()) live += b->size;
    const std::size_t rss = resident_bytes() - rss_at_start - blocks.bytes();
    report("rss_per_live", static_cast<double>(rss) / static_cast<double>(live), "x");
    for (block* b : blocks.all()) std::free(b);
}
