// How threads end here: by a TLS callback, whoever has made them; and that fibres are not threads.
#include <binmalloc/binmalloc.hpp>

#include "support/filled_block.hpp"
#include "support/footprint.hpp"
#include "support/heap.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <windows.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <set>

namespace {

using namespace binmalloc_test;

std::atomic<std::size_t> damaged = 0;
std::atomic<std::size_t> last_words = 0;

void work(std::size_t me)
{
    std::array<live_block, 50> blocks;
    for (std::size_t i = 0; i < blocks.size(); ++i)
        blocks[i] = filled_block(i % 10 == 0 ? 30 * kib : 10 + 20 * i, me << 8 | i);
    for (const live_block& block : blocks) damaged += free_checked(block) ? 0 : 1;
}

/// A thread of the system's, which the C library has not begun.
void run_plain_thread(DWORD(WINAPI* body)(void*), void* argument = nullptr)
{
    const HANDLE thread = ::CreateThread(nullptr, 0, body, argument, 0, nullptr);
    ASSERT_NE(thread, nullptr);
    EXPECT_EQ(::WaitForSingleObject(thread, 30000), DWORD{WAIT_OBJECT_0});
    ::CloseHandle(thread);
}

DWORD WINAPI returns(void*)
{
    work(1);
    return 0;
}

DWORD WINAPI exits(void*)
{
    work(2);
    ::ExitThread(0);
}

struct at_the_end {
    int armed = 0;
    ~at_the_end()
    {
        work(3);
        ++last_words;
    }
};

DWORD WINAPI works_to_the_end(void*)
{
    thread_local at_the_end last;
    last.armed = 1;
    work(4);
    return 0;
}

// Allocates in a callback of its own, before or after that of the heap.
void WINAPI work_in_callback(void*)
{
    work(5);
    ++last_words;
}
DWORD fls_index = FLS_OUT_OF_INDEXES;
DWORD WINAPI works_in_callback(void*)
{
    EXPECT_NE(::FlsSetValue(fls_index, &fls_index), 0);
    work(6);
    return 0;
}

/// Returns: in how many caches blocks lie that as many threads have allocated as there are caches. Each
/// lease is another's cache; threads without one share a quarter of them.
std::size_t caches_to_be_had()
{
    const std::size_t threads = cache_count();
    barrier everyone(threads);
    std::mutex lock;
    std::set<const void*> homes;
    run_threads(threads, [&](std::size_t) {
        void* const block = binmalloc::allocate(100);
        {
            const std::lock_guard held(lock);
            homes.insert(binmalloc::detail::header_of(block)->home);
        }
        everyone.arrive_and_wait();
        binmalloc::deallocate(block);
    });
    return homes.size();
}

/// Ends so many threads and expects what they held to be there for the next.
template <class Run>
void expect_nothing_is_lost(std::size_t threads, Run run)
{
    damaged = 0;
    const std::size_t caches = caches_to_be_had();
    for (std::size_t i = 0; i < 2 * cache_count(); ++i) run();
    const std::size_t held = heap::held_bytes_after_purge();
    const std::size_t resident = memory_in_use().resident;
    for (std::size_t i = 0; i < threads; ++i) run();
    EXPECT_GE(caches_to_be_had() + cache_count() / 4, caches) << "leases are lost";
    EXPECT_LE(heap::held_bytes_after_purge(), held + 512 * kib);
    EXPECT_LE(memory_in_use().resident, resident + 4 * mib);
    EXPECT_EQ(damaged.load(), 0U);
}

TEST(WindowsThreadEnd, of_threads_that_return)
{
    expect_nothing_is_lost(scaled(2000, 200), [] { run_plain_thread(returns); });
}

TEST(WindowsThreadEnd, of_threads_that_exit)
{
    expect_nothing_is_lost(scaled(2000, 200), [] { run_plain_thread(exits); });
}

TEST(WindowsThreadEnd, of_threads_of_the_language)
{
    expect_nothing_is_lost(scaled(2000, 200), [] { run_thread([] { work(7); }); });
}

TEST(WindowsThreadEnd, of_threads_that_allocate_when_their_thread_locals_go)
{
    last_words = 0;
    const std::size_t threads = scaled(1000, 100);
    expect_nothing_is_lost(threads, [] { run_plain_thread(works_to_the_end); });
    EXPECT_EQ(last_words.load(), threads + 2 * cache_count());
}

TEST(WindowsThreadEnd, of_threads_that_allocate_in_callbacks_before_and_after_the_heaps)
{
    last_words = 0;
    const std::size_t threads = scaled(500, 50);
    fls_index = ::FlsAlloc(work_in_callback);
    ASSERT_NE(fls_index, DWORD{FLS_OUT_OF_INDEXES});
    expect_nothing_is_lost(threads, [] { run_plain_thread(works_in_callback); });
    ::FlsFree(fls_index);
    EXPECT_GE(last_words.load(), threads + 2 * cache_count());
}

// --- fibres: threads have leases, whatever runs on them ---------------------------------------------

/// A fibre of this thread, which works once and switches back.
class fibre {
public:
    fibre() : thread_(::ConvertThreadToFiber(nullptr)), fibre_(::CreateFiber(0, body, this)) {}
    ~fibre() { ::ConvertFiberToThread(); }
    fibre(const fibre&) = delete;
    fibre& operator=(const fibre&) = delete;

    void run() { ::SwitchToFiber(fibre_); }
    void remove() { ::DeleteFiber(fibre_); } // any thread

private:
    static void WINAPI body(void* self)
    {
        work(8);
        ::SwitchToFiber(static_cast<fibre*>(self)->thread_);
    }

    void* thread_;
    void* fibre_;
};

const void* cache_of_this_thread()
{
    void* const block = binmalloc::allocate(100);
    const void* const home = binmalloc::detail::header_of(block)->home;
    binmalloc::deallocate(block);
    return home;
}

TEST(WindowsFibres, of_threads_that_end)
{
    expect_nothing_is_lost(scaled(1000, 100), [] {
        run_thread([] {
            fibre one;
            one.run();
            one.remove();
            work(9);
        });
    });
}

TEST(WindowsFibres, that_go_leave_the_lease_to_their_thread)
{
    run_thread([] {
        fibre one;
        one.run();
        const void* const mine = cache_of_this_thread();
        one.remove();
        EXPECT_EQ(cache_of_this_thread(), mine);
        run_thread([mine] { EXPECT_NE(cache_of_this_thread(), mine); });
        EXPECT_EQ(cache_of_this_thread(), mine);
    });
}

TEST(WindowsFibres, that_go_in_another_thread_take_no_lease_with_them)
{
    run_thread([] {
        fibre one;
        one.run();
        const void* const mine = cache_of_this_thread();
        run_thread([mine, &one] {
            const void* const its = cache_of_this_thread();
            EXPECT_NE(its, mine);
            one.remove();
            EXPECT_EQ(cache_of_this_thread(), its);
        });
        EXPECT_EQ(cache_of_this_thread(), mine);
        run_thread([mine] { EXPECT_NE(cache_of_this_thread(), mine); });
    });
}

} // namespace
