// spawn [THREADS [TOTAL]]: what does a thread cost that makes a single allocation?
//
// Starts 8000 threads in all, in waves of THREADS that live at the same time.
#include "../support.hpp"

#include <cstddef>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

using namespace bench;

void use_one_block()
{
    // The compiler must not see that nobody needs it.
    void* volatile block = allocate(100);
    std::free(block);
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t threads = argument(argc, argv, 1, 1);
    const std::size_t waves = argument(argc, argv, 2, 8000) / threads;

    const stopwatch time;
    for (std::size_t i = 0; i < waves; ++i) {
        std::vector<std::jthread> wave;
        for (std::size_t j = 0; j < threads; ++j) wave.emplace_back(use_one_block);
    }
    report("thread", time.seconds() * 1e6 / static_cast<double>(waves * threads), "us");
}
