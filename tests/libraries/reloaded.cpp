// lifetime LIBRARY: opens and closes lifetime_library a thousand times; memory must stay flat. The
// malloc of both is binmalloc's: by LD_PRELOAD, or because the program brings it.
#include "../support/process.hpp"
#include "../support/scale.hpp"
#include "library.hpp"

#include <malloc.h>

#include <cstddef>

namespace {

using namespace binmalloc_test;

void run_rounds(const char* path, std::size_t rounds)
{
    for (std::size_t round = 0; round < rounds; ++round) {
        const library opened(path);
        expect(opened.find<bool()>("reloaded_run")(), "blocks of binmalloc, intact");
    }
}

} // namespace

int main(int, char** argv)
{
    alarm(100);
    run_rounds(argv[1], 100);
    malloc_trim(0); // what waits for reuse is not what grows
    const std::size_t rounds = scaled(1000, 1000);
    const std::size_t keys = available_keys();
    const footprint start;
    run_rounds(argv[1], rounds);
    malloc_trim(0);
    footprint().expect_bounded(start, rounds, 2 * kib, 4);
    expect(available_keys() == keys, "no key is left");
}
