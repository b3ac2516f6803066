// typed_node N: allocates and frees one 24-byte node N times through the typed allocator, while
// another node of its size lives. See budget.sh.
#include <binmalloc/binmalloc.hpp>

#include <cstdlib>

namespace {

struct node {
    void* links[2];
    int value;
};

} // namespace

int main(int, char** argv)
{
    binmalloc::allocator<node> nodes;
    node* other = nodes.allocate(1);
    for (long i = std::atol(argv[1]); i > 0; --i) {
        node* p = nodes.allocate(1);
        asm volatile("" : : "r"(p) : "memory"); // or the compiler removes the pair
        nodes.deallocate(p, 1);
    }
    nodes.deallocate(other, 1);
}
