// own_copy TEST LIBRARY...: libraries with their own copies of binmalloc in a program with its own.
#include <binmalloc/heap.hpp>

#include "../support/scale.hpp"
#include "exchange.hpp"
#include "library.hpp"

#include <barrier>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::size_t thread_count = 4;

constexpr const plugin& program = plugin_of<binmalloc::heap>;

struct opened_plugin : library {
    explicit opened_plugin(const char* path) : library(path) {}

    const plugin& functions = *find<get_plugin>("plugin_functions")();
};

/// Threads that take one step after another, together with the thread that made them.
class stepping_threads {
public:
    template <class Step>
    stepping_threads(std::size_t count, Step step)
        : stepping_(static_cast<std::ptrdiff_t>(count + 1))
    {
        for (std::size_t index = 0; index < count; ++index) {
            threads_.emplace_back([this, step, index] {
                for (;;) {
                    stepping_.arrive_and_wait();
                    if (end_) return;
                    step(index);
                    stepping_.arrive_and_wait();
                }
            });
        }
    }
    ~stepping_threads()
    {
        end_ = true;
        stepping_.arrive_and_wait();
        for (std::thread& thread : threads_) thread.join();
    }
    stepping_threads(const stepping_threads&) = delete;
    stepping_threads& operator=(const stepping_threads&) = delete;

    void step()
    {
        stepping_.arrive_and_wait();
        stepping_.arrive_and_wait();
    }

private:
    std::barrier<> stepping_;
    bool end_ = false;
    std::vector<std::thread> threads_;
};

/// The program's heap goes on, in old and new threads and in a child.
void use_the_program()
{
    const auto use = [] { free_blocks(program, make_blocks(program, 7)); };
    use();
    std::thread(use).join();
    run_forked([use] {
        use();
        std::thread(use).join();
    });
}

/// Blocks go both ways between the program and the library; nothing of either is lost.
void exchange_blocks(const std::vector<const char*>& paths)
{
    const opened_plugin opened(paths[0]);
    // They are two heaps.
    const std::size_t program_live = live_after_purge(program);
    const std::size_t library_live = live_after_purge(opened.functions);
    program.deallocate(program.allocate(64 * kib, 16));
    void* const span = opened.functions.allocate(64 * kib, 16);
    expect(opened.functions.live() >= library_live + 64 * kib, "a span of the library's heap");
    expect(program.live() < program_live + 64 * kib, "no span of the program's heap");
    program.deallocate(span);

    exchange(program, opened.functions, thread_count, scaled(10, 2));
    expect_at_most(live_after_purge(opened.functions), library_live, "the library's live bytes");
    expect_at_most(live_after_purge(program), program_live, "the program's live bytes");
    run_forked([&] {
        free_blocks(program, make_blocks(opened.functions, 1));
        free_blocks(opened.functions, make_blocks(program, 2));
    });
}

/// The library goes while its blocks live in the program and the program's threads hold leases of
/// its heap.
void outlive_the_library(const std::vector<const char*>& paths)
{
    for (std::size_t round = 0; round < 5; ++round) {
        opened_plugin opened(paths[0]);
        const plugin& functions = opened.functions;
        std::vector<std::vector<owned_block>> of_threads(thread_count);
        bool unloaded = false;
        std::vector<owned_block> of_main = make_blocks(functions, 100);
        std::vector<owned_block> for_the_child = make_blocks(functions, 101);
        {
            stepping_threads threads(thread_count, [&](std::size_t index) {
                std::vector<owned_block>& mine = of_threads[index];
                if (!unloaded) {
                    mine = make_blocks(functions, index);
                    // Through its outboxes and inboxes.
                    free_blocks(functions, make_blocks(program, index));
                    free_blocks(program, make_blocks(functions, index));
                    return;
                }
                // Half of its own blocks, half of its neighbour's.
                const std::size_t next = (index + 1) % thread_count;
                for (std::size_t i = 0; i < mine.size(); ++i) {
                    free_block(program, of_threads[i % 2 == 0 ? index : next][i]);
                }
            });
            threads.step();
            opened.close();
            unloaded = true;
            for (const auto& blocks : of_threads) {
                for (const owned_block& block : blocks) expect_intact(block);
            }
            run_forked([&] { free_blocks(program, for_the_child); });
            threads.step();
            use_the_program();
        } // the threads end
        use_the_program();
        free_blocks(program, of_main);
        free_blocks(program, for_the_child);
        use_the_program();
    }
}

/// Threads end that had been in the library, after it went, and no block outlived it.
void end_threads(const std::vector<const char*>& paths)
{
    for (std::size_t round = 0; round < 20; ++round) {
        opened_plugin opened(paths[0]);
        stepping_threads threads(thread_count, [&](std::size_t index) {
            free_blocks(opened.functions, make_blocks(opened.functions, index));
        });
        threads.step();
        opened.close();
    }
    use_the_program();
}

/// The process's only thread opens, uses and closes it, a thousand times and more.
void rounds_of_one_thread(const std::vector<const char*>& paths)
{
    const auto run = [&](std::size_t rounds) {
        for (std::size_t round = 0; round < rounds; ++round) {
            const opened_plugin opened(paths[0]);
            for (std::size_t i = 0; i < 8; ++i) { // all but the huge ones
                free_block(i % 2 == 0 ? opened.functions : program,
                           make_block(opened.functions, requests[i], round));
                free_block(opened.functions, make_block(program, requests[i], round));
            }
        }
    };
    run(100);
    const std::size_t keys = available_keys();
    const std::size_t rounds = scaled(1100, 1100);
    const footprint start;
    run(rounds);
    footprint().expect_bounded(start, rounds, kib - 1, 4);
    expect(available_keys() == keys, "no key is left");
    use_the_program();
}

/// As above, and other threads come into the library in each round and live on.
void rounds_beside_threads(const std::vector<const char*>& paths)
{
    const opened_plugin* current = nullptr;
    stepping_threads threads(2, [&](std::size_t index) {
        for (std::size_t i = 0; i < 8; ++i) {
            free_block(current->functions, make_block(current->functions, requests[i], index));
        }
    });
    const auto run = [&](std::size_t rounds) {
        for (std::size_t round = 0; round < rounds; ++round) {
            const opened_plugin opened(paths[0]);
            current = &opened;
            threads.step();
            free_block(program, make_block(opened.functions, requests[3], round));
        }
    };
    run(50);
    const std::size_t keys = available_keys();
    const std::size_t rounds = scaled(1100, 1100);
    const footprint start;
    run(rounds);
    footprint().expect_bounded(start, rounds, 32 * kib, 3 * rounds); // the pool
    expect(available_keys() == keys, "no key is left");
    use_the_program();
}

/// Two libraries that exchange blocks with each other and go in either order, while blocks of both
/// live in the program.
void two_libraries(const std::vector<const char*>& paths)
{
    for (std::size_t round = 0; round < 10; ++round) {
        opened_plugin one(paths[0]);
        opened_plugin other(paths[1]);
        exchange(one.functions, other.functions, thread_count, 2);
        const std::vector<owned_block> of_one = make_blocks(one.functions, 1);
        const std::vector<owned_block> of_other = make_blocks(other.functions, 2);
        opened_plugin& first = round % 2 == 0 ? one : other;
        opened_plugin& last = round % 2 == 0 ? other : one;
        const std::vector<owned_block>& of_first = round % 2 == 0 ? of_one : of_other;
        const std::vector<owned_block>& of_last = round % 2 == 0 ? of_other : of_one;

        stepping_threads threads(thread_count, [&](std::size_t index) {
            free_blocks(last.functions, make_blocks(last.functions, index));
        });
        free_blocks(first.functions, make_blocks(last.functions, 3));
        threads.step();
        first.close();
        // What was in the first copy is freed through the last one.
        for (std::size_t i = 0; i < of_first.size(); i += 2)
            free_block(last.functions, of_first[i]);
        exchange(last.functions, program, thread_count, 1);
        threads.step();
        last.close();
        for (std::size_t i = 1; i < of_first.size(); i += 2) free_block(program, of_first[i]);
        free_blocks(program, of_last);
        use_the_program();
    }
}

/// Two libraries built without a thought of visibility. The loader gives those of g++ one heap,
/// whose variables are in the first, which therefore stays; its code is in both, and the second
/// goes.
void ordinary_libraries(const std::vector<const char*>& paths)
{
    struct ordinary {
        void* handle;
        const plugin& functions;
    };
    const auto open = [](const char* path) {
        void* const handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (handle == nullptr) expect(false, dlerror());
        return ordinary{handle, *find_function<get_plugin>(handle, "plugin_functions")()};
    };
    for (const bool second_goes : {true, false}) {
        run_forked([&] {
            const ordinary one = open(paths[0]);
            const ordinary two = open(paths[1]);
            const ordinary& goes = second_goes ? two : one;
            const ordinary& stays = second_goes ? one : two;
            // The one that goes makes the heap.
            const std::vector<owned_block> blocks = make_blocks(goes.functions, 1);
            exchange(goes.functions, stays.functions, thread_count, 2);
            {
                bool closed = false;
                stepping_threads threads(thread_count, [&](std::size_t index) {
                    const plugin& copy = closed ? stays.functions : goes.functions;
                    free_blocks(copy, make_blocks(copy, index));
                });
                threads.step();
                dlclose(goes.handle);
                closed = true;
                threads.step();
            } // the threads end
            free_blocks(stays.functions, blocks);
            exchange(stays.functions, program, thread_count, 2);
            fork_while_others_allocate(stays.functions);
            dlclose(stays.handle);
            use_the_program();
        });
    }
}

} // namespace

int main(int argc, char** argv)
{
    alarm(100);
    const std::map<std::string, void (*)(const std::vector<const char*>&)> tests{
        {"exchange", exchange_blocks},
        {"outlive", outlive_the_library},
        {"end_threads", end_threads},
        {"rounds", rounds_of_one_thread},
        {"rounds_beside_threads", rounds_beside_threads},
        {"two", two_libraries},
        {"ordinary", ordinary_libraries},
    };
    tests.at(argv[1])(std::vector<const char*>(argv + 2, argv + argc));
}
