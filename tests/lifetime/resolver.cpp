// A function that is chosen by a resolver when the program is loaded, and a resolver that allocates:
// the main thread's thread-locals do not have their initial values by then.
#include "program.hpp"

#include <thread>

namespace {

using namespace lifetime;

// Where nothing has initialised anything: no relocation is needed to reach them.
void* from_resolver[20];
bool resolver_failed = false;

int the_answer() { return 42; }

} // namespace

extern "C" {

using answer_function = int();

// Nothing here but malloc: other functions of other libraries may have resolvers of their own.
__attribute__((used, no_sanitize("all"))) answer_function* resolve_answer()
{
    std::size_t size = 1;
    for (void*& block : from_resolver) {
        block = std::malloc(size);
        if (block == nullptr)
            resolver_failed = true;
        else
            *static_cast<char*>(block) = 1;
        size *= 2;
    }
    std::free(std::malloc(100));
    return the_answer;
}

int answer() __attribute__((ifunc("resolve_answer")));

} // extern "C"

int main()
{
    end_after(50);
    require(on_binmalloc(), "another allocator");
    require(answer() == 42, "the resolved function");
    require(!resolver_failed, "no memory in the resolver");
    std::size_t size = 1;
    for (void* const block : from_resolver) {
        require(block != nullptr, "the resolver has not run");
        require(::malloc_usable_size(block) >= size, "the size of a block of the resolver");
        fill(block, size, size);
        size *= 2;
    }
    exercise(1);
    std::thread([] { exercise(2); }).join();
    size = 1;
    for (void* const block : from_resolver) {
        require(holds(block, size, size), "a block of the resolver has changed");
        std::free(block);
        size *= 2;
    }
    exercise(3);
    return 0;
}
