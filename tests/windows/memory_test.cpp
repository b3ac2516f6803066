// VirtualAlloc behind the platform contract: what is reserved, committed and given back, as the system
// tells it.
#include <binmalloc/binmalloc.hpp>

#include "support/filled_block.hpp"
#include "support/heap.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"

#include <gtest/gtest.h>

#include <windows.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace binmalloc_test;
namespace os = binmalloc::os;

struct region_of_memory {
    void* reservation;
    std::size_t bytes;
    DWORD state;
};

region_of_memory at(const void* p)
{
    MEMORY_BASIC_INFORMATION information{};
    EXPECT_EQ(::VirtualQuery(p, &information, sizeof information), sizeof information);
    return {information.AllocationBase, information.RegionSize, information.State};
}

/// All that the process has of its own, in this state.
std::size_t bytes_in_state(DWORD state)
{
    std::size_t sum = 0;
    MEMORY_BASIC_INFORMATION now{};
    const char* p = nullptr;
    while (::VirtualQuery(p, &now, sizeof now) == sizeof now) {
        if (now.State == state && now.Type == MEM_PRIVATE) sum += now.RegionSize;
        p = static_cast<const char*>(now.BaseAddress) + now.RegionSize;
    }
    return sum;
}

/// With VirtualAlloc2, or as in a system without it.
class WindowsReserve : public testing::TestWithParam<bool> {
protected:
    void SetUp() override
    {
        found_ = os::win::virtual_alloc2.load();
        if (GetParam() && found_ == nullptr) GTEST_SKIP() << "the system has no VirtualAlloc2";
        if (!GetParam()) os::win::virtual_alloc2 = nullptr;
    }
    void TearDown() override { os::win::virtual_alloc2 = found_; }

private:
    os::win::virtual_alloc2_function* found_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(VirtualAlloc2, WindowsReserve, testing::Bool());

TEST_P(WindowsReserve, is_aligned_and_released)
{
    for (std::size_t alignment = 4 * kib; alignment <= 1024 * mib; alignment *= 4) {
        for (const std::size_t size : {4 * kib, 60 * kib, 64 * kib, 3 * mib, 100 * mib}) {
            std::vector<void*> all;
            for (int i = 0; i < 5; ++i) {
                void* const p = os::reserve(size, alignment);
                ASSERT_NE(p, nullptr) << size << " at " << alignment;
                EXPECT_TRUE(is_aligned(p, alignment)) << size << " at " << alignment;
                EXPECT_EQ(at(p).state, DWORD{MEM_RESERVE});
                EXPECT_EQ(at(p).reservation, p) << "only this can be released";
                EXPECT_EQ(at(p).bytes, size);
                all.push_back(p);
            }
            for (void* const p : all) {
                os::release(p, size);
                EXPECT_NE(at(p).reservation, p) << "still reserved";
            }
        }
    }
}

TEST_P(WindowsReserve, refuses_the_absurd)
{
    EXPECT_EQ(os::reserve(SIZE_MAX / 2 & ~std::size_t{65535}, 64 * kib), nullptr);
    EXPECT_EQ(os::reserve(SIZE_MAX & ~std::size_t{65535}, 256 * mib), nullptr);
}

TEST(WindowsMemory, is_committed_and_decommitted)
{
    constexpr std::size_t size = 64 * mib;
    constexpr std::size_t part = 16 * mib;
    auto* const p = static_cast<char*>(os::reserve(size, 64 * kib));
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(os::commit(p + part, part));
    EXPECT_EQ(at(p).state, DWORD{MEM_RESERVE});
    EXPECT_EQ(at(p + part).state, DWORD{MEM_COMMIT});
    EXPECT_EQ(at(p + part).bytes, part);
    EXPECT_EQ(at(p + 2 * part).state, DWORD{MEM_RESERVE});
    EXPECT_TRUE(all_zero(p + part, part));

    const std::size_t resident_before = memory_in_use().resident;
    fill(p + part, part, 1);
    EXPECT_TRUE(os::commit(p + part, part)) << "twice is harmless";
    EXPECT_TRUE(holds(p + part, part, 1));
    const std::size_t resident = memory_in_use().resident;

    const os::memory_range middle{p + part, part};
    ASSERT_TRUE(os::decommit(&middle, 1));
    EXPECT_EQ(at(p + part).state, DWORD{MEM_RESERVE});
    EXPECT_EQ(at(p + part).reservation, p) << "one reservation as before";
    EXPECT_LE(memory_in_use().resident + part, resident + 2 * mib);
    EXPECT_LE(memory_in_use().resident, resident_before + 2 * mib);

    ASSERT_TRUE(os::commit(p + part, part));
    EXPECT_TRUE(all_zero(p + part, part));
    os::release(p, size);
    EXPECT_NE(at(p).reservation, p);
}

TEST(WindowsMemory, shrinks_but_does_not_grow_in_place)
{
    constexpr std::size_t size = 8 * mib;
    auto* const p = static_cast<char*>(os::reserve(size, 64 * kib));
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(os::commit(p, size));
    EXPECT_FALSE(os::extend(p, size, 2 * size));
    EXPECT_TRUE(os::extend(p, size, size / 2));
    EXPECT_EQ(at(p).state, DWORD{MEM_COMMIT});
    EXPECT_EQ(at(p + size / 2).state, DWORD{MEM_RESERVE});
    os::release(p, size / 2);
    EXPECT_NE(at(p + size / 2).reservation, p) << "a reservation ends as a whole";
}

TEST(WindowsMemory, discarded_may_be_written_again)
{
    constexpr std::size_t size = 1 * mib;
    void* const p = os::reserve(size, 64 * kib);
    ASSERT_TRUE(os::commit(p, size));
    fill(p, size, 1);
    EXPECT_TRUE(os::discard(p, size));
    fill(p, size, 2);
    EXPECT_TRUE(holds(p, size, 2));
    os::release(p, size);
}

/// Blocks of a size, so many bytes of them.
class WindowsHeap : public testing::TestWithParam<std::size_t> {};

INSTANTIATE_TEST_SUITE_P(BlockSizes, WindowsHeap,
                         testing::Values(24, 1000, 20 * kib, 300 * kib, 5 * mib, 80 * mib));

TEST_P(WindowsHeap, gives_back_what_was_committed)
{
    constexpr std::size_t total = 160 * mib;
    const auto pass = [] {
        std::vector<live_block> blocks;
        blocks.reserve(total / GetParam());
        while (blocks.size() < total / GetParam())
            blocks.push_back(filled_block(GetParam(), blocks.size()));
        const std::size_t committed = bytes_in_state(MEM_COMMIT);
        for (const live_block& block : blocks) EXPECT_TRUE(free_checked(block));
        return committed;
    };
    pass();
    binmalloc::purge();
    const std::size_t committed_before = bytes_in_state(MEM_COMMIT);
    const std::size_t reserved_before = bytes_in_state(MEM_RESERVE);
    EXPECT_GE(pass(), committed_before + total - total / 16);
    binmalloc::purge();
    EXPECT_LE(bytes_in_state(MEM_COMMIT), committed_before + 2 * mib);
    EXPECT_LE(bytes_in_state(MEM_RESERVE), reserved_before + 2 * mib);
    EXPECT_LE(binmalloc::statistics().reserved, 64 * mib) << "one region may stay";
}

TEST(WindowsMemory, keeps_the_last_error_and_errno)
{
    for (const std::size_t size : {8 * kib, 100 * kib, 5 * mib, 80 * mib}) {
        void* const block = binmalloc::allocate(size);
        ASSERT_NE(block, nullptr);
        ::SetLastError(4711);
        errno = 47;
        binmalloc::deallocate(block);
        binmalloc::purge();
        EXPECT_EQ(::GetLastError(), DWORD{4711}) << size;
        EXPECT_EQ(errno, 47) << size;
    }
}

} // namespace
