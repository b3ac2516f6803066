// server [THREADS [OPERATIONS]]: what does a server cost that hands blocks between its threads and
// replaces the threads?
//
// After Larson and Krishnan, "Memory allocation for long-running server applications" (ISMM 1998):
// a thread replaces random ones of its 1024 blocks; after 10,000 operations it starts a successor,
// which takes over the blocks, and ends. Beyond that, one in 16 new blocks is exchanged for one of
// another thread.
#include "team.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace {

using namespace bench;

constexpr std::size_t operations_per_thread = 10'000;

const pareto_sizes<256> sizes;
std::array<std::atomic<void*>, 256> exchanged{};

/// What a thread leaves to its successor. On cache lines of its own.
class alignas(64) desk {
public:
    desk(std::size_t seed, std::size_t operations) : random_(seed), left_(operations)
    {
        for (void*& block : live_) block = allocate(sizes.draw(random_));
    }
    desk(const desk&) = delete;
    desk& operator=(const desk&) = delete;
    ~desk()
    {
        for (void* block : live_) std::free(block);
    }

    void serve_a_while()
    {
        const std::size_t operations = std::min(left_, operations_per_thread);
        for (std::size_t i = 0; i < operations; ++i) serve_once();
        left_ -= operations;
    }

    [[nodiscard]] bool is_done() const { return left_ == 0; }

private:
    void serve_once()
    {
        void*& place = live_[random_.below(live_.size())];
        std::free(place);
        place = allocate(sizes.draw(random_));
        if (random_.one_in(16)) place = exchanged[random_.below(exchanged.size())].exchange(place);
    }

    random_source random_;
    std::size_t left_;
    std::array<void*, 1024> live_{};
};

void serve(desk& d, std::latch& all_done)
{
    d.serve_a_while();
    if (d.is_done())
        all_done.count_down();
    else
        std::thread(serve, std::ref(d), std::ref(all_done)).detach();
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 4'000'000);

    std::vector<std::unique_ptr<desk>> desks;
    for (std::size_t i = 0; i < threads; ++i)
        desks.push_back(std::make_unique<desk>(i, operations / threads));

    std::latch all_done(static_cast<std::ptrdiff_t>(threads));
    const stopwatch time;
    for (const auto& d : desks) std::thread(serve, std::ref(*d), std::ref(all_done)).detach();
    all_done.wait();
    report_operation(time.seconds(), operations);

    for (auto& place : exchanged) std::free(place.load());
}
