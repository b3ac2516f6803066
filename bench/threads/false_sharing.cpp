// false_sharing [THREADS [OPERATIONS [active|passive]]]: do blocks of different threads share cache
// lines?
//
// After cache-thrash and cache-scratch by Berger and others ("Hoard: a scalable memory allocator",
// ASPLOS 2000). Each thread allocates a block of 8 bytes, writes it 200 times and frees it, again
// and again. Active: an allocator that gives neighbouring blocks to different threads makes them
// fight for the line. Passive: the main thread has allocated the first blocks side by side; each
// thread frees one, and an allocator that lets it have the same one again keeps the fight going.
#include "team.hpp"

#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

using namespace bench;

constexpr std::size_t size = 8;
constexpr int writes = 200;

void write_and_free(void* block)
{
    for (int i = 0; i < writes; ++i) *static_cast<volatile char*>(block) = static_cast<char>(i);
    std::free(block);
}

void work(void* first, std::size_t operations)
{
    if (first != nullptr) write_and_free(first);
    for (std::size_t i = 0; i < operations; ++i) write_and_free(allocate(size));
}

} // namespace

int main(int argc, char** argv)
{
    using namespace std::string_view_literals;
    const std::size_t threads = argument(argc, argv, 1, 2);
    const std::size_t operations = argument(argc, argv, 2, 2'000'000);
    const bool is_passive = argc > 3 && argv[3] == "passive"sv;

    std::vector<void*> first(threads);
    if (is_passive)
        for (void*& block : first) block = allocate(size);
    const double seconds =
        run_on(threads, [&](std::size_t i) { work(first[i], operations / threads); });
    report_operation(seconds, operations);
}
