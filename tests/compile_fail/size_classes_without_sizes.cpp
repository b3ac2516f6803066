// expect: size_class_policy
// Size classes are a type with an array of sizes.
#include <binmalloc/binmalloc.hpp>

struct policy : binmalloc::default_policy {
    using size_classes = int;
};

int main()
{
    binmalloc::basic_heap<policy>::deallocate(binmalloc::basic_heap<policy>::allocate(10));
}
