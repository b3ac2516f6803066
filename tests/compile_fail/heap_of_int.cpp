// expect: heap_policy
// A heap is made from a policy, not from what it shall hold.
#include <binmalloc/binmalloc.hpp>

int main() { binmalloc::basic_heap<int>::deallocate(nullptr); }
