// expect: no matching (function|constructor)
// An arena's allocator must be told which arena.
#include <binmalloc/binmalloc.hpp>

#include <vector>

int main() { std::vector<int, binmalloc::arena_allocator<int>> values; }
