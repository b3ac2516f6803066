// private_work [THREADS [OPERATIONS]]: what do blocks cost threads that share nothing?
//
// Each thread has 1024 live blocks and replaces random ones. The operations are divided among the
// threads, so the work is the same on any number of them.
#include "team.hpp"

#include <array>
#include <cstddef>
#include <cstdlib>

namespace {

using namespace bench;

const pareto_sizes<256> sizes;

void replace_blocks(std::size_t seed, std::size_t operations)
{
    random_source random(seed);
    std::array<void*, 1024> live{};
    for (; operations > 0; --operations) {
        void*& place = live[random.below(live.size())];
        std::free(place);
        place = allocate(sizes.draw(random));
    }
    for (void* block : live) std::free(block);
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 8'000'000);
    const double seconds =
        run_on(threads, [&](std::size_t i) { replace_blocks(i, operations / threads); });
    report_operation(seconds, operations);
}
