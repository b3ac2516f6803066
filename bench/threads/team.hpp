// Threads that begin together: what the programs here have in common.
#pragma once

#include "../support.hpp"

#include <barrier>
#include <cstddef>
#include <thread>
#include <vector>

namespace bench {

/// Runs work(0), work(1), ... on `count` new threads. Returns the seconds from when all are ready
/// to when the last has ended.
template <class Work>
double run_on(std::size_t count, const Work& work)
{
    stopwatch time;
    std::barrier ready(static_cast<std::ptrdiff_t>(count), [&]() noexcept { time = stopwatch(); });
    {
        std::vector<std::jthread> threads;
        threads.reserve(count);
        for (std::size_t i = 0; i < count; ++i)
            threads.emplace_back([&, i] {
                ready.arrive_and_wait();
                work(i);
            });
    }
    return time.seconds();
}

/// Prints the time of one operation of `count` that took `seconds` together.
inline void report_operation(double seconds, std::size_t count)
{
    report("operation", seconds * 1e9 / static_cast<double>(count), "ns");
}

} // namespace bench
