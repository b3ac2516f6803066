// The heap before main, after it, while the process ends, and in little address space.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#    include "support/child.hpp"

#    include <sys/resource.h>
#    include <sys/wait.h>
#    include <unistd.h>
#endif

namespace {

using namespace binmalloc_test;

/// A block of every kind, held from before main until after it.
class static_blocks {
public:
    static_blocks()
    {
        for (std::size_t size = 1; size < 2 * mib; size += size) {
            blocks_.push_back(binmalloc::allocate(size));
            fill(blocks_.back(), size, size);
        }
    }
    ~static_blocks()
    {
        // A test cannot fail any more; the exit status can.
        if (!intact()) std::_Exit(3);
        for (void* const block : blocks_) binmalloc::deallocate(block);
        void* const late = opaque(binmalloc::allocate(1000));
        if (late == nullptr) std::_Exit(4);
        binmalloc::deallocate(late);
    }
    static_blocks(const static_blocks&) = delete;
    static_blocks& operator=(const static_blocks&) = delete;

    bool intact() const
    {
        std::size_t size = 1;
        for (void* const block : blocks_) {
            if (block == nullptr || !holds(block, size, size)) return false;
            size += size;
        }
        return true;
    }

private:
    std::vector<void*, binmalloc::allocator<void*>> blocks_;
};

static_blocks from_before_main;
std::list<int, binmalloc::allocator<int>> static_list{1, 2, 3};

TEST(ProcessLifetime, blocks_from_before_main_are_intact)
{
    EXPECT_TRUE(from_before_main.intact());
    static_list.push_back(4);
    EXPECT_EQ(static_list.size(), 4U);
}

TEST(ProcessLifetimeDeathTest, exit_while_other_threads_allocate)
{
    if (sanitized || emulated)
        GTEST_SKIP() << "threads and fork do not go together under these tools";
    for (std::size_t round = 0; round < scaled(20, 5); ++round) {
        const auto end_in_the_middle = [] {
            for (std::uint64_t which = 0; which < 4; ++which) {
                std::thread([which] {
                    random_source random(seed() + which);
                    for (;;) {
                        const std::size_t size =
                            random.size_up_to(random.one_in(100) ? 1 * mib : 4 * kib);
                        binmalloc::deallocate(opaque(binmalloc::allocate(size)));
                    }
                }).detach();
            }
            for (int i = 0; i < 1000; ++i) binmalloc::deallocate(opaque(binmalloc::allocate(100)));
            std::atexit([] { binmalloc::deallocate(opaque(binmalloc::allocate(5000))); });
            std::exit(0);
        };
        EXPECT_EXIT(end_in_the_middle(), testing::ExitedWithCode(0), "") << "round " << round;
    }
}

#if defined(__unix__) || defined(__APPLE__)

/// Allocates of every kind, for a moment at which a test cannot fail any more; the status can.
void allocate_or_exit_with(int status)
{
    for (std::size_t size = 1; size < 1 * mib; size *= 3) {
        void* const block = opaque(binmalloc::allocate(size));
        if (block == nullptr) ::_exit(status);
        fill(block, size, size);
        if (!holds(block, size, size)) ::_exit(status);
        binmalloc::deallocate(block);
    }
}

/// Threads that allocate until the process ends.
void start_endless_threads()
{
    for (int which = 0; which < 3; ++which) {
        std::thread([] {
            for (;;) allocate_or_exit_with(5);
        }).detach();
    }
}

class ProcessEndDeathTest : public testing::Test {
protected:
    void SetUp() override
    {
        if (sanitized) GTEST_SKIP() << "threads and fork do not go together under these tools";
    }
};

TEST_F(ProcessEndDeathTest, quick_exit_handlers_allocate)
{
    const auto end = [] {
        start_endless_threads();
        static void* const early = opaque(binmalloc::allocate(100 * kib));
        std::at_quick_exit([] { binmalloc::deallocate(early); });
        for (int i = 0; i < 50; ++i) std::at_quick_exit([] { allocate_or_exit_with(6); });
        std::quick_exit(0);
    };
    for (std::size_t round = 0; round < scaled(20, 5); ++round)
        EXPECT_EXIT(end(), testing::ExitedWithCode(0), "") << "round " << round;
}

TEST_F(ProcessEndDeathTest, a_handler_of_abort_allocates)
{
    const auto end = [] {
        start_endless_threads();
        std::signal(SIGABRT, [](int) {
            allocate_or_exit_with(6);
            ::_exit(0);
        });
        std::abort();
    };
    for (std::size_t round = 0; round < scaled(20, 5); ++round)
        EXPECT_EXIT(end(), testing::ExitedWithCode(0), "") << "round " << round;
}

TEST_F(ProcessEndDeathTest, the_heap_is_usable_where_misuse_aborts)
{
    // The handler runs in the middle of the free that has found something wrong.
    const auto end = [](std::size_t size) {
        std::signal(SIGABRT, [](int) {
            allocate_or_exit_with(6);
            ::_exit(0);
        });
        auto* const block = static_cast<char*>(opaque(binmalloc::allocate(size)));
        binmalloc::deallocate(opaque(block + 32));
        ::_exit(7); // unnoticed
    };
    for (const std::size_t size : {100 * kib, 20 * mib})
        EXPECT_EXIT(end(size), testing::ExitedWithCode(0), "^binmalloc: ") << "size " << size;
}

TEST(ProcessLifetime, the_first_thread_ends_before_the_others)
{
    if (sanitized || emulated)
        GTEST_SKIP() << "threads and fork do not go together under these tools";
    static std::array<void*, 8> early;
    for (std::size_t which = 0; which < early.size(); ++which) {
        early[which] = binmalloc::allocate(1000 + which * 10 * kib);
        fill(early[which], 1000, which);
    }
    for (std::size_t round = 0; round < scaled(20, 5); ++round) {
        std::atomic<int> status = -1;
        std::thread([&status] {
            const pid_t child = ::fork();
            if (child > 0) status = result_of(child);
            if (child != 0) return;
            ::alarm(seconds_of_a_child);
            std::atexit([] { allocate_or_exit_with(7); });
            for (std::size_t which = 0; which < 4; ++which) {
                std::thread([which] {
                    for (int i = 0; i < 5; ++i) allocate_or_exit_with(5);
                    for (const std::size_t index : {which, which + 4}) {
                        if (!holds(early[index], 1000, index)) ::_exit(6);
                        binmalloc::deallocate(early[index]);
                    }
                }).detach();
            }
            // The child's first thread ends here, which is not the end of the child.
        }).join();
        EXPECT_EQ(status, 0) << "round " << round;
    }
    for (void* const block : early) binmalloc::deallocate(block);
}

/// A heap that nothing else in this process has used.
template <int Which>
struct fresh_policy : binmalloc::default_policy {};
template <int Which>
struct fresh_single_policy : binmalloc::single_cache_policy {};

/// In a child with `room` bytes of address space left: how many bytes can be had, in blocks of
/// `block_size`.
/// Exits with the number of MiB.
template <class Heap>
[[noreturn]] void allocate_until_it_ends(std::size_t room, std::size_t block_size)
{
    rlimit limit{};
    ::getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = memory_in_use().address_space + room;
    ::setrlimit(RLIMIT_AS, &limit);
    std::size_t bytes = 0;
    void* kept = nullptr; // a list through the blocks, so that nothing but the heap uses memory
    while (void* const block = Heap::allocate(block_size)) {
        *static_cast<void**>(block) = kept;
        kept = block;
        bytes += block_size;
    }
    while (kept != nullptr) Heap::deallocate(std::exchange(kept, *static_cast<void**>(kept)));
    void* const again = Heap::allocate(block_size);
    if (again == nullptr) ::_exit(255);
    ::_exit(static_cast<int>(bytes / mib));
}

template <class Heap>
int mib_in(std::size_t room, std::size_t block_size)
{
    const pid_t child = ::fork();
    if (child == 0) allocate_until_it_ends<Heap>(room, block_size);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
    EXPECT_NE(WEXITSTATUS(status), 255) << "nothing to be had after everything was freed";
    return WEXITSTATUS(status);
}

TEST(ShortAddressSpace, most_of_it_can_be_had)
{
    if (sanitized) GTEST_SKIP() << "shadow memory needs the address space";
    if (emulated) GTEST_SKIP() << "qemu knows no limit of address space";
    for (const std::size_t block_size : {std::size_t{64}, 1 * kib, 32 * kib}) {
        for (const std::size_t room : {20 * mib, 40 * mib, 64 * mib, 90 * mib, 200 * mib}) {
            const auto least = static_cast<int>(room / mib / 2);
            EXPECT_GE(mib_in<binmalloc::basic_heap<fresh_policy<0>>>(room, block_size), least)
                << "room for " << room / mib << " MiB, blocks of " << block_size;
            EXPECT_GE(mib_in<binmalloc::basic_heap<fresh_single_policy<0>>>(room, block_size),
                      least)
                << "single cache, room for " << room / mib << " MiB, blocks of " << block_size;
        }
    }
}

#endif

} // namespace
