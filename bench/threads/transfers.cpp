// transfers [THREADS [OPERATIONS]]: what do rounds of threads cost that keep much of what they allocate,
// and exchange blocks of all sizes?
//
// After the stress test of mimalloc: 50 rounds, each of new threads. A thread makes blocks, one in a
// hundred of them many times larger, keeps two of three, frees random ones of what it keeps, and
// exchanges others for blocks in 1000 places that all threads and rounds share. At its end it frees
// what it has; every tenth round what lies in the places.
#include "team.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

namespace {

using namespace bench;

constexpr std::size_t rounds = 50;

std::array<std::atomic<void*>, 1000> places{};

/// 8 to 256 bytes; one in a hundred 100 times, one in a thousand 1000 times as large.
std::size_t draw_size(random_source& random)
{
    const std::size_t size = between(random, 1, 32) * 8;
    if (!random.one_in(100)) return size;
    return random.one_in(10) ? size * 1000 : size * 100;
}

void free_random(std::vector<void*>& blocks, random_source& random)
{
    std::free(std::exchange(blocks[random.below(blocks.size())], nullptr));
}

void work(std::size_t operations, random_source random)
{
    std::vector<void*> kept;
    std::vector<void*> passing(operations / 3 + 1);
    kept.reserve(operations + 1);
    for (std::size_t i = 0; i < operations; ++i) {
        void* const made = allocate(draw_size(random));
        if (random.one_in(3))
            std::free(std::exchange(passing[random.below(passing.size())], made));
        else
            kept.push_back(made);
        if (kept.empty()) continue;
        if (random.one_in(4)) free_random(kept, random);
        if (random.one_in(4)) {
            void*& own = kept[random.below(kept.size())];
            own = places[random.below(places.size())].exchange(own);
        }
    }
    for (void* block : kept) std::free(block);
    for (void* block : passing) std::free(block);
}

void clear_places()
{
    for (auto& place : places) std::free(place.exchange(nullptr));
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 2'000'000);
    const std::size_t operations_each = operations / rounds / threads;

    const stopwatch time;
    for (std::size_t round = 0; round < rounds; ++round) {
        run_on(threads, [&](std::size_t i) {
            work(operations_each, random_source(round * threads + i));
        });
        if (round % 10 == 9) clear_places();
    }
    report_operation(time.seconds(), operations);
}
