// policies LIBRARY...: heaps of different policies, in the program and in libraries with copies of
// their own, at work in one process: no block, no byte and no lease of one is another's.
#include <binmalloc/heap.hpp>

#include "../support/scale.hpp"
#include "../support/threads.hpp"
#include "exchange.hpp"
#include "library.hpp"
#include "policies.hpp"

#include <barrier>
#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::size_t thread_count = 4;

using heaps = std::vector<const plugin*>;

/// Each thread frees, through their own heaps, the blocks of all heaps that its neighbour made.
void use_all(const heaps& all, std::size_t rounds)
{
    std::vector<std::vector<std::vector<owned_block>>> parcels(thread_count);
    std::barrier ready(static_cast<std::ptrdiff_t>(thread_count));
    run_threads(thread_count, [&](std::size_t index) {
        for (std::size_t round = 0; round < rounds; ++round) {
            parcels[index].clear();
            for (const plugin* heap : all) {
                const std::uint64_t id =
                    (round * thread_count + index) * all.size() + parcels[index].size();
                parcels[index].push_back(make_blocks(*heap, id));
            }
            ready.arrive_and_wait();
            const auto& received = parcels[(index + 1) % thread_count];
            for (std::size_t i = 0; i < all.size(); ++i) free_blocks(*all[i], received[i]);
            ready.arrive_and_wait();
        }
    });
}

/// What one gives, no other counts.
void expect_separate(const heaps& all)
{
    for (const plugin* heap : all) {
        std::vector<std::size_t> before;
        for (const plugin* each : all) before.push_back(each->live());
        const owned_block block = make_block(*heap, {mib - 5 * kib, 16}, 1);
        for (std::size_t i = 0; i < all.size(); ++i) {
            const std::size_t added = all[i]->live() - before[i];
            // Rounded up to units, also with room for its color and a checked heap's note behind it.
            expect(added == (all[i] == heap ? mib : 0), "a span counts in its own heap alone");
        }
        free_block(*heap, block);
    }
}

void expect_empty(const heaps& all, const std::vector<std::size_t>& live_at_start)
{
    for (std::size_t i = 0; i < all.size(); ++i)
        expect_at_most(live_after_purge(*all[i]), live_at_start[i], "a heap's live bytes");
}

} // namespace

int main(int argc, char** argv)
{
    alarm(100);
    std::list<library> libraries;
    heaps all{&plugin_of<binmalloc::heap>, &plugin_of<binmalloc::basic_heap<few_sizes_policy>>,
              &plugin_of<binmalloc::basic_heap<binmalloc::single_cache_policy>>};
    for (int i = 1; i < argc; ++i) {
        libraries.emplace_back(argv[i]);
        all.push_back(libraries.back().find<get_plugin>("plugin_functions")());
    }
    std::vector<std::size_t> live_at_start;
    for (const plugin* heap : all) live_at_start.push_back(live_after_purge(*heap));

    expect_separate(all);
    use_all(all, scaled(3, 2));
    expect_empty(all, live_at_start);
    run_forked([&] {
        expect_separate(all);
        use_all(all, 1);
    });

    while (!libraries.empty()) {
        libraries.pop_back();
        all.pop_back();
        use_all(all, 1);
        expect_separate(all);
        expect_empty(all, live_at_start);
    }
}
