// Starts threads together and waits for all of them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

namespace binmalloc_test {

/// std::latch and std::barrier, but for systems without a futex, too: libstdc++ 12 loses wake-ups there.
class latch {
public:
    explicit latch(std::size_t count) : count_(count) {}

    void count_down()
    {
        const std::lock_guard held(lock_);
        if (--count_ == 0) all_arrived_.notify_all();
    }
    void wait()
    {
        std::unique_lock held(lock_);
        all_arrived_.wait(held, [&] { return count_ == 0; });
    }
    void arrive_and_wait()
    {
        count_down();
        wait();
    }

private:
    std::mutex lock_;
    std::condition_variable all_arrived_;
    std::size_t count_;
};

class barrier {
public:
    explicit barrier(std::size_t threads) : threads_(threads) {}

    void arrive_and_wait()
    {
        std::unique_lock held(lock_);
        const std::size_t phase = phase_;
        if (++arrived_ == threads_) {
            arrived_ = 0;
            ++phase_;
            all_arrived_.notify_all();
        } else {
            all_arrived_.wait(held, [&] { return phase_ != phase; });
        }
    }

private:
    std::mutex lock_;
    std::condition_variable all_arrived_;
    std::size_t threads_;
    std::size_t arrived_ = 0;
    std::size_t phase_ = 0;
};

/// Runs body(0) .. body(count - 1), each in its own thread; none begins before the last one exists.
template <class Body>
void run_threads(std::size_t count, Body body)
{
    latch all_started(count);
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
