// static_tls PLUGIN_WITH_DYNAMIC_TLS PLUGIN FILLER...: libraries with copies of binmalloc, opened
// when other libraries have used up the space for static TLS.
#include <binmalloc/heap.hpp>

#include "../support/threads.hpp"
#include "exchange.hpp"
#include "library.hpp"
#include "plugin.hpp"

#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr const plugin& program = plugin_of<binmalloc::heap>;

void* open_or_null(const char* path)
{
    void* const handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        const char* const error = dlerror();
        expect(std::strstr(error, "static TLS") != nullptr, error);
    }
    return handle;
}

/// The library works in the thread that opened it, in new ones, and in a child.
void use_library(const char* path)
{
    const library opened(path);
    const plugin& functions = *opened.find<get_plugin>("plugin_functions")();
    const auto use = [&functions] {
        free_blocks(program, make_blocks(functions, 1));
        free_blocks(functions, make_blocks(program, 2));
        free_blocks(functions, make_blocks(functions, 3));
    };
    use();
    exchange(program, functions, 4, 3);
    run_forked(use);
}

} // namespace

int main(int argc, char** argv)
{
    alarm(100);
    const char* const with_dynamic_tls = argv[1];
    const char* const with_static_tls = argv[2];
    free_blocks(program, make_blocks(program, 1));

    // From large to small, so that less is left than the last one needs.
    std::vector<void*> fillers;
    bool refused = false;
    for (int i = 3; i < argc; ++i) {
        void* const handle = open_or_null(argv[i]);
        refused = handle == nullptr;
        if (handle == nullptr) continue;
        fillers.push_back(handle);
        char* const bytes = find_function<char*()>(handle, "filler")();
        *bytes = 1;
        run_thread([handle] {
            expect(*find_function<char*()>(handle, "filler")() == 0, "a thread's own");
        });
    }
    expect(refused && !fillers.empty(), "static TLS is used up, but was not at the start");

    for (int i = 0; i < 3; ++i) use_library(with_dynamic_tls);

    // Refused by the loader, with its message, and the program goes on.
    expect(open_or_null(with_static_tls) == nullptr, "no room for one that needs static TLS");
    use_library(with_dynamic_tls);

    // Given back in the order that lets the loader use it again.
    while (!fillers.empty()) {
        dlclose(fillers.back());
        fillers.pop_back();
    }
    use_library(with_static_tls);
    use_library(with_dynamic_tls);
}
