// What the heap asks of its page source: whole pages, however large they are.
#include <binmalloc/binmalloc.hpp>

#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#    include <unistd.h>
#endif

namespace {

using namespace binmalloc_test;

/// Pages of such a size, whatever the system's are. What a kernel would refuse, or round up over a
/// neighbour, is counted.
template <std::size_t Page>
struct large_pages : binmalloc::os_pages {
    static inline std::atomic<std::size_t> calls = 0;
    static inline std::atomic<std::size_t> violations = 0;
    static inline std::atomic<std::size_t> most = SIZE_MAX; // in one piece

    static std::size_t page_size() noexcept { return Page; }
    static void* reserve(std::size_t size, std::size_t alignment) noexcept
    {
        check(nullptr, size);
        if (size > most) return nullptr;
        return os_pages::reserve(size, alignment < Page ? Page : alignment);
    }
    static bool decommit(const binmalloc::os::memory_range* ranges, std::size_t count) noexcept
    {
        for (std::size_t i = 0; i < count; ++i) check(ranges[i].begin, ranges[i].size);
        return os_pages::decommit(ranges, count);
    }
    static bool discard(void* p, std::size_t size) noexcept
    {
        check(p, size);
        return os_pages::discard(p, size);
    }
    static void release(void* p, std::size_t size) noexcept
    {
        check(p, size);
        os_pages::release(p, size);
    }
    static bool extend(void* p, std::size_t size, std::size_t new_size) noexcept
    {
        check(p, size);
        check(p, new_size);
        return os_pages::extend(p, size, new_size);
    }
    static bool move(void* p, std::size_t size, void* to, std::size_t to_size) noexcept
    {
        check(p, size);
        check(to, to_size);
        return os_pages::move(p, size, to, to_size);
    }
    static bool move_out(void* p, std::size_t size, void* to) noexcept
    {
        check(p, size);
        check(to, size);
        return os_pages::move_out(p, size, to);
    }

private:
    static void check(const void* p, std::size_t size) noexcept
    {
        ++calls;
        if (!is_aligned(p, Page) || size % Page != 0 || size == 0) ++violations;
    }
};

struct frequent_purges : binmalloc::default_footprint {
    static constexpr std::size_t dirty_floor = 256 * kib;
    static constexpr std::size_t dirty_start = 0;
    static constexpr std::size_t dirty_ceiling = 1 * mib;
};

template <std::size_t Page>
struct large_page_policy : binmalloc::default_policy {
    using page_source = large_pages<Page>;
    using footprint = frequent_purges;
};

/// Spans of every length side by side, that come, grow, shrink and go, and are zero where asked for.
template <std::size_t Page>
void use_whole_pages_alone()
{
    using heap = binmalloc::basic_heap<large_page_policy<Page>>;
    using pages = large_pages<Page>;
    if (Page < binmalloc::os_pages::page_size()) GTEST_SKIP() << "the system's pages are larger";
    random_source random(seed());
    struct kept {
        void* address = nullptr;
        std::size_t size = 0;
    };
    std::array<kept, 60> blocks;
    for (std::uint64_t step = 0; step < scaled(3000, 600); ++step) {
        const std::size_t index = random.below(blocks.size());
        kept& block = blocks[index];
        const std::size_t size = random.one_in(8)   ? 2 * mib + random.below(64) * 16 * kib
                                 : random.one_in(3) ? random.size_up_to(600)
                                                    : random.size_up_to(300 * kib);
        if (block.address != nullptr) {
            ASSERT_TRUE(holds(block.address, block.size, index)) << "step " << step;
        }
        if (block.address != nullptr && random.one_in(3)) {
            const std::size_t prefix = size < block.size ? size : block.size;
            block.address = heap::reallocate(block.address, size);
            ASSERT_NE(block.address, nullptr);
            ASSERT_TRUE(holds_prefix(block.address, prefix, index)) << "step " << step;
        } else {
            heap::deallocate(block.address);
            const bool zeroed = random.one_in(2);
            block.address = zeroed ? heap::allocate_zeroed(size) : heap::allocate(size);
            ASSERT_NE(block.address, nullptr);
            if (zeroed) {
                ASSERT_TRUE(all_zero(block.address, size)) << "step " << step;
            }
        }
        block.size = size;
        fill(block.address, size, index);
        if (random.one_in(100)) heap::purge();
    }
    for (std::size_t index = 0; index < blocks.size(); ++index) {
        const kept& block = blocks[index];
        if (block.address == nullptr) continue;
        EXPECT_TRUE(holds(block.address, block.size, index));
        heap::deallocate(block.address);
    }
    heap::purge();
    EXPECT_GT(pages::calls.load(), 10U);
    EXPECT_EQ(pages::violations.load(), 0U) << "of " << pages::calls.load() << " calls";
}

TEST(PageSource, whole_pages_of_16_kib) { use_whole_pages_alone<16 * kib>(); }
TEST(PageSource, whole_pages_of_64_kib) { use_whole_pages_alone<64 * kib>(); }

TEST(PageSource, whole_pages_where_address_space_is_short)
{
    large_pages<64 * kib>::most = binmalloc::detail::first_region_size - 1;
    use_whole_pages_alone<64 * kib>();
}

void decommit_every_second_piece()
{
    using pages = binmalloc::os_pages;
    constexpr std::size_t piece = 64 * kib;
    constexpr std::size_t pieces = 50;
    auto* const memory = static_cast<std::byte*>(pages::reserve(pieces * piece, piece));
    ASSERT_NE(memory, nullptr);
    ASSERT_TRUE(pages::commit(memory, pieces * piece));
    std::vector<binmalloc::os::memory_range> ranges;
    for (std::size_t i = 0; i < pieces; ++i) {
        fill(memory + i * piece, piece, i);
        if (i % 2 == 0) ranges.push_back({memory + i * piece, piece});
    }
    ASSERT_TRUE(pages::decommit(ranges.data(), ranges.size()));
    for (const auto& range : ranges) {
        ASSERT_TRUE(pages::commit(range.begin, range.size));
        EXPECT_TRUE(all_zero(range.begin, range.size));
    }
    for (std::size_t i = 1; i < pieces; i += 2) {
        EXPECT_TRUE(holds(memory + i * piece, piece, i)) << "between two that went";
    }
    pages::release(memory, pieces * piece);
}

TEST(PageSource, several_ranges_are_given_back)
{
    decommit_every_second_piece();
#if defined(__linux__) && defined(SYS_process_madvise)
    // As a kernel would have it that cannot do so in one call.
    binmalloc::os::can_decommit_at_once = false;
    decommit_every_second_piece();
#endif
}

#if defined(__unix__) || defined(__APPLE__)

TEST(PageSource, the_system_is_asked_for_its_page_size)
{
    EXPECT_EQ(binmalloc::os_pages::page_size(), static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
    // What qemu was told, if it was: so a leg for large pages has them.
    if (const char* const told = std::getenv("QEMU_PAGESIZE"); emulated && told != nullptr) {
        EXPECT_EQ(binmalloc::os_pages::page_size(), std::strtoull(told, nullptr, 0));
    }
}

#endif

} // namespace
