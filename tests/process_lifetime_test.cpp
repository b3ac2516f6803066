// The heap before main, after it, while the process ends, and in little address space.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
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
    if (sanitized) GTEST_SKIP() << "threads and fork do not go together under these tools";
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
