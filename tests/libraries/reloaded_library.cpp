// A library that knows nothing of binmalloc and allocates wherever a library's code can run: in
// static constructors, in threads that these and its functions start, in thread_local destructors.
// Its static destructors free.
#include "../support/pattern.hpp"

#include <malloc.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace binmalloc_test;

constexpr std::array<std::size_t, 7> sizes{3, 24, 100, 2000, 15000, 50000, 300000};

bool intact = true;

/// Blocks of the malloc family; each is checked when it is freed.
class blocks {
public:
    void add(std::size_t size)
    {
        void* const block = std::malloc(size);
        intact = intact && block != nullptr;
        if (block == nullptr) return;
        fill(block, size, size);
        blocks_.push_back({block, size});
    }
    void add_all()
    {
        for (const std::size_t size : sizes) add(size);
    }
    ~blocks()
    {
        for (const auto& [block, size] : blocks_) {
            intact = intact && holds(block, size, size);
            std::free(block);
        }
        // Nobody can ask any more.
        if (!intact) std::abort();
    }

private:
    struct entry {
        void* block;
        std::size_t size;
    };
    std::vector<entry> blocks_;
};

std::mutex left_mutex;
std::list<std::string> left_by_threads;

struct thread_state {
    std::map<int, std::string> names;
    blocks own;

    ~thread_state()
    {
        blocks last;
        last.add_all();
        const std::lock_guard held(left_mutex);
        left_by_threads.push_back(std::string(200, 'l'));
    }
};

thread_local thread_state state;

struct statics {
    std::vector<std::string> texts;
    blocks own;

    statics()
    {
        for (std::size_t i = 0; i < 50; ++i) texts.emplace_back(10 * i, 's');
        own.add_all();
        // Without a thread_local: registering its destructor would wait for the loader's lock.
        std::thread([this] { own.add_all(); }).join();
    }
};

const statics constructed;

} // namespace

/// Returns: whether malloc here is binmalloc and all blocks were as they should be.
extern "C" bool reloaded_run()
{
    void* const block = std::malloc(1000);
    const bool ours = malloc_usable_size(block) == 1040;
    std::free(block);

    std::array<std::thread, 3> threads;
    for (std::thread& thread : threads) {
        thread = std::thread([] {
            for (int i = 0; i < 20; ++i) state.names.emplace(i, std::string(40, 't'));
            state.own.add_all();
        });
    }
    for (std::thread& thread : threads) thread.join();
    return ours && intact && left_by_threads.size() == threads.size()
           && constructed.texts.size() == 50;
}
