// One way of using the heap each time, right or wrong; memcheck.sh says what valgrind must find.
//   memcheck CASE
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/threads.hpp"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <list>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace binmalloc_test;

/// Of every kind, with room behind them.
constexpr std::size_t sizes[] = {13, 100, 1001, 9001, 20001, 100001, 9000001};

/// Calls `body` with each of them as a constant: valgrind reports each place in the code once.
template <class Body, std::size_t... Index>
void each_size(Body body, std::index_sequence<Index...>)
{
    (body(std::integral_constant<std::size_t, sizes[Index]>{}), ...);
}
template <class Body>
void each_size(Body body)
{
    each_size(body, std::make_index_sequence<std::size(sizes)>{});
}

struct odd_node {
    char bytes[41];
};

/// Valgrind drops a load whose result is not used by any instruction.
volatile char used;

char read_byte(const void* block, std::size_t offset)
{
    const char byte = static_cast<const volatile char*>(opaque(block))[offset];
    used = byte;
    return byte;
}

void require(bool condition)
{
    if (condition) return;
    std::puts("memcheck: damaged");
    std::exit(1);
}

void right_program()
{
    for (int round = 0; round < 2; ++round) {
        for (const std::size_t size : sizes) {
            void* block = binmalloc::allocate(size);
            fill(block, size, size);
            block = binmalloc::reallocate(block, size + 1);
            require(holds_prefix(block, size, size));
            fill(block, size + 1, size);
            block = binmalloc::reallocate(block, 3 * size);
            require(holds_prefix(block, size, size));
            fill(block, binmalloc::usable_size(block), size);
            require(holds(block, binmalloc::usable_size(block), size));
            binmalloc::deallocate(block);
            void* const zeroed = binmalloc::allocate_zeroed(size, 64);
            require(all_zero(zeroed, size));
            binmalloc::deallocate(zeroed, size, 64);
        }
        binmalloc::purge();
    }
    std::list<odd_node, binmalloc::allocator<odd_node>> nodes(1000);
    for (odd_node& node : nodes) fill(&node, sizeof node, 1);
    binmalloc::arena arena;
    for (int round = 0; round < 2; ++round) {
        for (const std::size_t size : sizes) fill(arena.allocate(size), size, size);
        arena.clear();
    }
    std::vector<void*> blocks;
    for (std::size_t size = 1; size < 1000; ++size) {
        blocks.push_back(binmalloc::allocate(size));
        fill(blocks.back(), size, size);
    }
    run_thread([&] {
        for (std::size_t size = 1; size < 1000; ++size) {
            require(holds(blocks[size - 1], size, size));
            binmalloc::deallocate(blocks[size - 1]);
        }
    });
}

void read_after_free()
{
    each_size([](auto size) {
        void* const block = binmalloc::allocate(size);
        fill(block, size, size);
        binmalloc::deallocate(block);
        read_byte(block, size / 2);
    });
}

void read_after_free_of_what_was_not_asked_for()
{
    each_size([](auto size) {
        void* const block = binmalloc::allocate(size);
        const std::size_t usable = binmalloc::usable_size(block);
        fill(block, usable, size);
        binmalloc::deallocate(block);
        read_byte(block, usable - 1);
    });
}

void read_past_the_end()
{
    each_size([](auto size) {
        void* const block = binmalloc::allocate(size);
        fill(block, size, size);
        read_byte(block, size);
        binmalloc::deallocate(block);
    });
}

void read_past_a_grown_block()
{
    each_size([](auto size) {
        const auto grown = size + size / 16 + 1;
        void* const block = binmalloc::reallocate(binmalloc::allocate(size), grown);
        fill(block, grown, size);
        read_byte(block, grown);
        binmalloc::deallocate(block);
    });
}

void read_of_a_freed_node()
{
    odd_node* const node = binmalloc::allocator<odd_node>{}.allocate(1);
    fill(node, sizeof(odd_node), 1);
    binmalloc::allocator<odd_node>{}.deallocate(node, 1);
    read_byte(node, 20);
}

void read_past_a_node()
{
    odd_node* const node = binmalloc::allocator<odd_node>{}.allocate(1);
    fill(node, sizeof(odd_node), 1);
    read_byte(node, sizeof(odd_node));
    binmalloc::allocator<odd_node>{}.deallocate(node, 1);
}

void branch_on_what_was_never_written()
{
    each_size([](auto size) {
        // The second one lies where the first was, which was written.
        void* const first = binmalloc::allocate(size);
        fill(first, size, size);
        binmalloc::deallocate(first);
        void* const block = binmalloc::allocate(size);
        if (read_byte(block, size / 2) == 1) std::puts("one");
        binmalloc::deallocate(block);
    });
}

void leak()
{
    // In another thread, whose stack and registers do not keep them.
    run_thread([] {
        each_size([](auto size) { *static_cast<char*>(opaque(binmalloc::allocate(size))) = 1; });
    });
}

} // namespace

int main(int argument_count, char** arguments)
{
    const std::string_view wanted = argument_count == 2 ? arguments[1] : "";
    const struct {
        std::string_view name;
        void (*run)();
    } cases[] = {{"right_program", right_program},
                 {"read_after_free", read_after_free},
                 {"read_after_free_of_what_was_not_asked_for",
                  read_after_free_of_what_was_not_asked_for},
                 {"read_past_the_end", read_past_the_end},
                 {"read_past_a_grown_block", read_past_a_grown_block},
                 {"read_of_a_freed_node", read_of_a_freed_node},
                 {"read_past_a_node", read_past_a_node},
                 {"branch_on_what_was_never_written", branch_on_what_was_never_written},
                 {"leak", leak}};
    for (const auto& each : cases) {
        if (each.name != wanted) continue;
        each.run();
        std::puts("memcheck: done");
        return 0;
    }
    std::fprintf(stderr, "usage: memcheck CASE\n");
    return 2;
}
