// one_heap LIBRARY: the program and a library with default visibility have one heap, whether the
// program was linked with the library or exports its symbols to what it opens.
#include <binmalloc/functions.hpp>

#include "../support/process.hpp"
#include "../support/span_bytes.hpp"
#include "exchange.hpp"
#include "library.hpp"
#include "plugin.hpp"

#include <atomic>
#include <cstddef>
#include <thread>

namespace {

using namespace binmalloc_test;

constexpr const plugin& program = plugin_of<binmalloc::heap>;

std::size_t live() { return binmalloc::statistics().live; }

/// Both count the same bytes, and a block freed by one is the next that the other gives.
void expect_one_heap(const plugin& library)
{
    void* const from_library = library.allocate(192 * kib, 16);
    const std::size_t with_one = live();
    expect(with_one >= 192 * kib && library.live() == with_one,
           "a span of the library counts here");
    void* const from_program = binmalloc::allocate(mib);
    expect(live() == with_one + span_bytes(mib) && library.live() == live(), "a span of the program there");
    binmalloc::deallocate(from_library);
    library.deallocate(from_program);
    expect(library.live() == live() && live() == with_one - span_bytes(192 * kib), "freed by the other");

    void* const block = library.allocate(100, 16);
    binmalloc::deallocate(block);
    void* const again = binmalloc::allocate(100);
    expect(again == block, "one cache for a thread's calls from both");
    library.deallocate(again);
    expect(library.allocate(100, 16) == block, "in both directions");
    binmalloc::deallocate(block);
}

} // namespace

int main(int, char** argv)
{
    alarm(100);
    void* const handle = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) expect(false, dlerror());
    const plugin& library = *find_function<get_plugin>(handle, "plugin_functions")();

    // The library's first call makes the heap, which must outlive the library.
    const owned_block first = make_block(library, requests[3], 1);
    const auto both_ways = [&library] {
        expect_one_heap(library);
        const owned_block block = make_block(library, requests[4], 2);
        expect_intact(block);
        binmalloc::deallocate(block.address);
    };
    both_ways();
    run_thread(both_ways);
    run_forked(both_ways);

    std::atomic<bool> closed{false};
    std::atomic<bool> leased{false};
    std::thread lives_on([&] {
        library.deallocate(library.allocate(100, 16));
        leased = true;
        closed.wait(false);
        binmalloc::deallocate(binmalloc::allocate(100));
    });
    while (!leased) std::this_thread::yield();
    dlclose(handle);
    closed = true;
    closed.notify_all();
    lives_on.join();
    expect_intact(first);
    binmalloc::deallocate(first.address);
    fork_while_others_allocate(program);
}
