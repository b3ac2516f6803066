// Starts threads together and waits for all of them.
#pragma once

#include <cstddef>
#include <latch>
#include <thread>
#include <vector>

namespace binmalloc_test {

/// Runs body(0) .. body(count - 1), each in its own thread; none begins before the last one exists.
template <class Body>
void run_threads(std::size_t count, Body body)
{
    std::latch all_started(static_cast<std::ptrdiff_t>(count));
    std::vector<std::thread> threads;
    threads.reserve(count);
    for (std::size_t index = 0; index < count; ++index) {
        threads.emplace_back([&all_started, &body, index] {
            all_started.arrive_and_wait();
            body(index);
        });
    }
    for (std::thread& thread : threads) thread.join();
}

/// Runs `body` in a thread of its own, to its end.
template <class Body>
void run_thread(Body body)
{
    std::thread(std::move(body)).join();
}

} // namespace binmalloc_test
