// fork_join [THREADS [OPERATIONS]]: what do phases of parallel work cost, each on new threads, when
// blocks survive their thread?
//
// There are 40 phases. Of what a thread allocates it keeps 256 blocks at a time and frees the
// oldest, but every fourth block survives it: two phases later another thread frees it.
#include "team.hpp"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

namespace {

using namespace bench;

constexpr std::size_t phases = 40;

const pareto_sizes<256> sizes;

struct block {
    block* next;
};

/// The blocks that one thread has left. On a cache line of its own.
class alignas(64) estate {
public:
    estate() = default;
    estate(const estate&) = delete;
    estate& operator=(const estate&) = delete;
    ~estate() { free_all(); }

    void leave(block* b) { b->next = std::exchange(first_, b); }

    void free_all()
    {
        for (block* b = std::exchange(first_, nullptr); b != nullptr;)
            std::free(std::exchange(b, b->next));
    }

private:
    block* first_ = nullptr;
};

void work(estate& own, estate& others, std::size_t operations, random_source random)
{
    others.free_all();
    std::array<block*, 256> kept{};
    for (std::size_t i = 0; i < operations; ++i) {
        auto* const b = static_cast<block*>(allocate(sizes.draw(random)));
        if (i % 4 == 0)
            own.leave(b);
        else
            std::free(std::exchange(kept[i % kept.size()], b));
    }
    for (block* b : kept) std::free(b);
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 4'000'000);
    const std::size_t operations_each = operations / phases / threads;

    std::array<std::vector<estate>, 3> estates{
        std::vector<estate>(threads), std::vector<estate>(threads), std::vector<estate>(threads)};
    const stopwatch time;
    for (std::size_t phase = 0; phase < phases; ++phase)
        run_on(threads, [&](std::size_t i) {
            estate& own = estates[phase % 3][i];
            estate& others = estates[(phase + 1) % 3][(i + 1) % threads];
            work(own, others, operations_each, random_source(phase * threads + i));
        });
    report_operation(time.seconds(), operations);
}
