// A program and a DLL, each with a copy of the heap, in the way that the first argument names:
//   exchange         they free each other's blocks, in several threads
//   unload           the DLL is unloaded, and its blocks are still there
//   threads_outlive  so do threads that have used it
//   rounds           it is loaded and unloaded again and again, at no loss
//   ends             the process ends while threads are in both heaps, again and again
//   ends_locked      it ends while a thread has a lock that the DLL's end waits for
// The second argument is the DLL. Exits with 0, or says what is wrong.
#include <binmalloc/binmalloc.hpp>

#include "plugin.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

void require(bool condition, const char* what)
{
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

class plugin {
public:
    explicit plugin(const char* path) : handle_(::LoadLibraryA(path))
    {
        require(handle_ != nullptr, "LoadLibrary");
        find(allocate, "plugin_allocate");
        find(deallocate, "plugin_deallocate");
        find(live, "plugin_live");
        find(purge, "plugin_purge");
        find(lock, "plugin_lock");
    }
    void unload() { require(::FreeLibrary(handle_) != 0, "FreeLibrary"); }

    plugin_allocate_function* allocate = nullptr;
    plugin_deallocate_function* deallocate = nullptr;
    plugin_live_function* live = nullptr;
    plugin_purge_function* purge = nullptr;
    plugin_lock_function* lock = nullptr;

private:
    template <class Function>
    void find(Function*& function, const char* name)
    {
        function = reinterpret_cast<Function*>(
            reinterpret_cast<void*>(::GetProcAddress(handle_, name)));
        require(function != nullptr, name);
    }

    HMODULE handle_;
};

std::size_t size_of_block(random_source& random)
{
    return 1 + random.size_up_to(random.one_in(100) ? 5 * mib : random.one_in(10) ? 100 * kib : 2000);
}

void exchange(const plugin& other)
{
    struct slot {
        std::mutex lock;
        live_block block;
    };
    std::vector<slot> slots(200);
    std::atomic<std::size_t> damaged = 0;
    const auto free_one = [&](const live_block& block, bool there) {
        if (block.address == nullptr) return;
        damaged += holds(block.address, block.size, block.id) ? 0 : 1;
        there ? other.deallocate(block.address) : binmalloc::deallocate(block.address);
    };
    for (int generation = 0; generation < 5; ++generation) {
        run_threads(6, [&](std::size_t me) {
            random_source random(seed() + me);
            for (std::uint64_t step = 0; step < scaled(20000, 1000); ++step) {
                live_block block{nullptr, size_of_block(random), 0, std::uint64_t{me} << 32 | step};
                block.address = random.one_in(2) ? other.allocate(block.size)
                                                 : binmalloc::allocate(block.size);
                require(block.address != nullptr, "no memory");
                fill(block.address, block.size, block.id);
                {
                    slot& place = slots[random.below(slots.size())];
                    const std::lock_guard held(place.lock);
                    std::swap(place.block, block);
                }
                free_one(block, random.one_in(2));
            }
        });
    }
    for (std::size_t i = 0; i < slots.size(); ++i) free_one(slots[i].block, i % 2 == 0);
    require(damaged == 0, "blocks are damaged");
    // What lies in inboxes and outboxes is the only rest.
    other.purge();
    binmalloc::purge();
    require(other.live() < 4 * mib, "the library has not got its blocks back");
    require(binmalloc::statistics().live < 4 * mib, "the program has not got its blocks back");
}

std::vector<live_block> blocks_of(const plugin& other)
{
    random_source random(seed());
    std::vector<live_block> blocks(500);
    for (live_block& block : blocks) {
        block = {nullptr, size_of_block(random), 0, static_cast<std::uint64_t>(&block - blocks.data())};
        block.address = other.allocate(block.size);
        require(block.address != nullptr, "no memory");
        fill(block.address, block.size, block.id);
    }
    return blocks;
}

void free_here(const std::vector<live_block>& blocks)
{
    for (const live_block& block : blocks) {
        require(holds(block.address, block.size, block.id), "a block is damaged");
        binmalloc::deallocate(block.address);
    }
}

void unload(plugin& other)
{
    const std::vector<live_block> blocks = blocks_of(other);
    other.unload();
    free_here(blocks);
}

// The system would call back into the library, at the end of each of these threads.
void threads_outlive(plugin& other)
{
    constexpr std::size_t threads = 20; // more than there are leases
    std::atomic<std::size_t> ready = 0;
    std::atomic<bool> unloaded = false;
    std::vector<std::vector<live_block>> blocks(threads);
    std::vector<std::thread> running;
    for (std::size_t me = 0; me < threads; ++me) {
        running.emplace_back([&, me] {
            blocks[me] = blocks_of(other);
            ++ready;
            while (!unloaded) std::this_thread::yield();
            free_here(blocks[me]);
        });
    }
    while (ready != threads) std::this_thread::yield();
    other.unload();
    unloaded = true;
    for (std::thread& thread : running) thread.join();
}

void rounds(const char* path)
{
    const auto round = [path] {
        plugin other(path);
        run_threads(3, [&](std::size_t) {
            for (const live_block& block : blocks_of(other)) other.deallocate(block.address);
        });
        for (const live_block& block : blocks_of(other)) other.deallocate(block.address);
        other.unload();
    };
    for (int i = 0; i < 5; ++i) round();
    const std::size_t resident = memory_in_use().resident;
    for (std::size_t i = 0; i < scaled(200, 40); ++i) round();
    require(memory_in_use().resident < resident + 8 * mib, "each round leaves memory behind");
}

constexpr DWORD status_thread_is_terminating = 0xc000004b;

// Ends with the process, wherever they are.
void allocate_without_end(const plugin& other, std::atomic<std::size_t>& steps)
{
    for (std::size_t me = 0; me < 4; ++me) {
        std::thread([&steps, other, me] {
            random_source random(seed() + me);
            for (;; ++steps) {
                const std::size_t size = size_of_block(random);
                binmalloc::deallocate(opaque(binmalloc::allocate(size)));
                other.deallocate(opaque(other.allocate(size)));
            }
        }).detach();
    }
}

void end_in_the_middle(const plugin& other)
{
    static std::atomic<std::size_t> steps = 0;
    allocate_without_end(other, steps);
    while (steps < 1000) std::this_thread::yield();
    other.deallocate(opaque(other.allocate(100)));
}

void end_locked(const plugin& other)
{
    std::atomic<bool> locked = false;
    std::thread([&locked, other] {
        other.lock();
        locked = true;
        for (;;) ::Sleep(1000);
    }).detach();
    while (!locked) std::this_thread::yield();
}

// Returns: the status that such a process ends with.
DWORD status_of(const char* program, const char* mode, const char* library)
{
    std::string command = "\"" + std::string(program) + "\" " + mode + " \"" + library + "\"";
    STARTUPINFOA startup{};
    startup.cb = sizeof startup;
    PROCESS_INFORMATION child{};
    require(::CreateProcessA(program, command.data(), nullptr, nullptr, TRUE, 0, nullptr, nullptr,
                             &startup, &child)
                != 0,
            "CreateProcess");
    const bool ended = ::WaitForSingleObject(child.hProcess, 20000) == WAIT_OBJECT_0;
    if (!ended) ::TerminateProcess(child.hProcess, 1);
    require(ended, "a process does not end");
    DWORD status = 1;
    ::GetExitCodeProcess(child.hProcess, &status);
    ::CloseHandle(child.hThread);
    ::CloseHandle(child.hProcess);
    return status;
}

void ends(const char* program, const char* library)
{
    for (std::size_t i = 0; i < scaled(200, 20); ++i) {
        const DWORD status = status_of(program, "end_in_the_middle", library);
        require(status == 0 || status == status_thread_is_terminating, "a process ends otherwise");
    }
}

} // namespace

int main(int count, char** arguments)
{
    require(count == 3, "needs a mode and a library");
    const char* const mode = arguments[1];
    if (std::strcmp(mode, "rounds") == 0) {
        rounds(arguments[2]);
        return 0;
    }
    char program[MAX_PATH];
    ::GetModuleFileNameA(nullptr, program, MAX_PATH);
    if (std::strcmp(mode, "ends") == 0) {
        ends(program, arguments[2]);
        return 0;
    }
    if (std::strcmp(mode, "ends_locked") == 0) {
        require(status_of(program, "end_locked", arguments[2]) == status_thread_is_terminating,
                "the process ends otherwise");
        return 0;
    }
    plugin other(arguments[2]);
    if (std::strcmp(mode, "exchange") == 0)
        exchange(other);
    else if (std::strcmp(mode, "unload") == 0)
        unload(other);
    else if (std::strcmp(mode, "threads_outlive") == 0)
        threads_outlive(other);
    else if (std::strcmp(mode, "end_in_the_middle") == 0)
        end_in_the_middle(other);
    else if (std::strcmp(mode, "end_locked") == 0)
        end_locked(other);
    else
        require(false, "unknown mode");
    return 0;
}
