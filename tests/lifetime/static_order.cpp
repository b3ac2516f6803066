// Allocation before main and after it: static objects of three sources in every order, constructor
// functions of this program and of a library, exit handlers, a library that is opened late. What one
// of them allocates another frees.
#include "static_order.hpp"

#include <list>
#include <string>
#include <thread>

extern "C" void* library_block(std::size_t size);
extern "C" void library_free(void* block);

namespace {

using namespace lifetime;

static_kit ordinary(1);

// In the middle of the three.
[[gnu::init_priority(30000)]] static_kit in_between(2);

// By the language's own allocator.
std::list<std::string> names{"a", "name", std::string(100000, 'z')};

// The earliest and the last functions of all.
kit constructor_kit;
__attribute__((constructor(101))) void construct_early() { constructor_kit.make(3); }
__attribute__((constructor)) void construct_late() { exercise(4, 50); }
__attribute__((destructor)) void destroy_early() { exercise(5, 50); }
__attribute__((destructor(101))) void destroy_late()
{
    constructor_kit.free_all();
    exercise(6);
}

thread_local kit of_main_thread;

void at_exit_first_registered() { exercise(7); }
void at_exit_last_registered()
{
    // Another handler, registered and run while handlers run.
    require(std::atexit([] { exercise(8); }) == 0, "atexit in a handler");
    exercise(9);
}

// The C library allocates for more than a few.
void register_many_handlers()
{
    for (int i = 0; i < 200; ++i) {
        require(std::atexit([] { deallocate(opaque(allocate(300))); }) == 0, "atexit");
    }
}

} // namespace

int main(int, char** arguments)
{
    end_after(50);
    require(on_binmalloc(), "another allocator");
    require(std::atexit(at_exit_first_registered) == 0, "atexit");
    register_many_handlers();
    of_main_thread.make(10);

    exchange_blocks();
    void* const of_library = library_block(5000);
    std::thread([&] {
        library_free(of_library);
        of_main_thread.make(11);
        of_main_thread.free_all();
        exchange_blocks();
    }).join();
    library_free(std::malloc(100)); // in whichever allocator malloc is

    void* const plugin = ::dlopen(arguments[2], RTLD_NOW);
    require(plugin != nullptr, "dlopen");
    require(::dlclose(plugin) == 0, "dlclose");

    for (std::string& name : names) name += "and more";
    of_main_thread.free_all();
    require(std::atexit(at_exit_last_registered) == 0, "atexit");
    return 0;
}
