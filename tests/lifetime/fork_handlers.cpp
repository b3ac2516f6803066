// Handlers for fork that were registered before the heap was made: so the heap is held for the fork
// already when the first of them is called, and still when the last is.
//
//   allocate           they allocate and free of every kind
//   wait_for_others    they take a lock under which other threads allocate, as handlers do
#include "program.hpp"

#include <pthread.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using namespace lifetime;

std::mutex shared_lock; // of some library, which keeps it for itself over a fork
std::atomic<bool> wanted_for_fork = false; // a mutex may be taken by the others again and again
bool with_lock = false;
std::atomic<unsigned> prepared = 0;
unsigned in_parent = 0;
unsigned in_child = 0;
kit made_by_prepare; // and freed by the two others

/// What brings the heap to its slow paths: the first blocks of many sizes, many of one, spans, and a
/// mapping of its own.
void allocate_a_lot(std::uint64_t id)
{
    std::array<block, 300> blocks;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        blocks[i] = make_block(i < 100 ? i * 160 : i < 290 ? 1000 : i * kib / 3, id);
    }
    const block huge = make_block(5 * mib, id);
    for (const block& each : blocks) free_block(each);
    free_block(huge);
    exercise(id, 100);
}

void prepare()
{
    if (with_lock) {
        wanted_for_fork = true;
        shared_lock.lock();
        wanted_for_fork = false;
    }
    ++prepared;
    if (with_lock) return;
    allocate_a_lot(1);
    made_by_prepare.make(2);
}

void parent()
{
    ++in_parent;
    if (with_lock) {
        shared_lock.unlock();
        return;
    }
    made_by_prepare.free_all();
    allocate_a_lot(3);
}

void child()
{
    ++in_child;
    if (with_lock) {
        shared_lock.unlock();
        return;
    }
    made_by_prepare.free_all();
    allocate_a_lot(4);
}

/// Before any constructor of any library, where the program starts with binmalloc in it.
void register_before_all(int count, char** arguments, char**)
{
    with_lock = count > 1 && std::strcmp(arguments[1], "wait_for_others") == 0;
    if (!with_lock) ::pthread_atfork(prepare, parent, child);
}
__attribute__((section(".preinit_array"),
               used)) void (*const before_all)(int, char**, char**) = register_before_all;

std::atomic<bool> stop = false;

void allocate_under_the_lock(std::uint64_t which)
{
    for (std::uint64_t life = 0; !stop; ++life) {
        if (with_lock) {
            while (wanted_for_fork) std::this_thread::yield();
            const std::lock_guard guard(shared_lock);
            exercise(which << 32 | life, 50);
        } else {
            exercise(which << 32 | life, 200);
        }
    }
}

} // namespace

int main()
{
    // In this mode: before the program's first call of the heap.
    if (with_lock) require(::pthread_atfork(prepare, parent, child) == 0, "pthread_atfork");
    end_after(50);
    require(on_binmalloc(), "another allocator");

    std::vector<std::thread> busy;
    for (std::uint64_t which = 0; which < 3; ++which) {
        busy.emplace_back([which] { allocate_under_the_lock(which); });
    }
    const unsigned forks = static_cast<unsigned>(scaled(200, 20));
    for (unsigned i = 1; i <= forks; ++i) {
        const block mine = make_block(i * 100, i);
        const pid_t pid = ::fork();
        require(pid >= 0, "fork");
        if (pid == 0) {
            end_after(20);
            require(in_child == 1 && prepared == i, "handlers in the child");
            free_block(mine);
            allocate_a_lot(5);
            ::_exit(0);
        }
        int status = 0;
        require(::waitpid(pid, &status, 0) == pid, "waitpid");
        require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's life");
        require(in_parent == i, "handlers in the parent");
        free_block(mine);
    }
    stop = true;
    for (std::thread& thread : busy) thread.join();
    return 0;
}
