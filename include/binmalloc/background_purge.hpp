// binmalloc: a thread that gives memory back while the program rests.
//
// Layer: front ends. Each object belongs to one thread at a time.
//
// A heap looks after what it keeps as it is used, so a program that stops calling it keeps what waited
// for reuse then. Where that matters, an object of this class in main() looks after it from then on:
//
//   int main() { binmalloc::background_purge purging; ... }
//
// Nothing else in the library needs it. In a forked child there is no such thread; the child may make
// an object of its own.
#ifndef BINMALLOC_BACKGROUND_PURGE_HPP
#define BINMALLOC_BACKGROUND_PURGE_HPP

#include <binmalloc/heap.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace binmalloc {

template <class Heap = heap>
class basic_background_purge {
public:
    /// Effects: from now on calls Heap::purge_aged() every `interval`. Throws: std::system_error where
    /// no thread is to be had.
    explicit basic_background_purge(
        std::chrono::milliseconds interval = std::chrono::milliseconds(500))
        : thread_([this, interval] { run(interval); })
    {
    }
    basic_background_purge(const basic_background_purge&) = delete;
    basic_background_purge& operator=(const basic_background_purge&) = delete;

    /// Effects: ends the thread, at once.
    ~basic_background_purge()
    {
        {
            const std::lock_guard held(mutex_);
            stop_ = true;
        }
        stopped_.notify_one();
        thread_.join();
    }

private:
    void run(std::chrono::milliseconds interval)
    {
        std::unique_lock held(mutex_);
        while (!stopped_.wait_for(held, interval, [this] { return stop_; })) Heap::purge_aged();
    }

    std::mutex mutex_;
    std::condition_variable stopped_;
    bool stop_ = false;
    std::thread thread_; // last: it uses the others
};

/// For the process heap.
using background_purge = basic_background_purge<>;

} // namespace binmalloc

#endif
