// The byte limit: set_limit() and limit(), BINMALLOC_LIMIT, and the limit of the process's cgroup.
#define BINMALLOC_DEFINE_C_API
#include <binmalloc/binmalloc.h>
#include <binmalloc/binmalloc.hpp>

#include "support/deadline.hpp"
#include "support/heap.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/span_bytes.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <list>
#include <new>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#if defined(__linux__)
#    include <unistd.h>
#endif

namespace {

using namespace binmalloc_test;

/// A heap for each test, which nothing else has used.
template <int Which>
struct leased_policy : binmalloc::default_policy {};
template <int Which>
struct single_policy : binmalloc::single_cache_policy {};

template <class Heap>
std::size_t held() noexcept
{
    const auto now = Heap::statistics();
    return now.live + now.dirty;
}

/// A heap's limit while it lives.
template <class Heap>
class limited {
public:
    explicit limited(std::size_t bytes) noexcept { Heap::set_limit(bytes); }
    ~limited() { Heap::set_limit(SIZE_MAX); }
    limited(const limited&) = delete;
    limited& operator=(const limited&) = delete;
};

/// Blocks of one size until there are no more; freed with it. Looks after each whether the heap is
/// within its limit.
template <class Heap>
class blocks_up_to_the_limit {
public:
    explicit blocks_up_to_the_limit(std::size_t size, std::size_t alignment = 8) : size_(size)
    {
        const std::size_t in_a_unit = size < 16 * kib ? 16 * kib / size : 1;
        while (void* const block = Heap::allocate(size, alignment)) {
            if (blocks_.size() % in_a_unit == 0) {
                EXPECT_LE(held<Heap>(), Heap::limit()) << "size " << size;
            }
            fill(block, std::min(size, 4 * kib), blocks_.size());
            blocks_.push_back(block);
            if (testing::Test::HasFailure()) return;
        }
    }
    ~blocks_up_to_the_limit() { free_from(0); }
    blocks_up_to_the_limit(const blocks_up_to_the_limit&) = delete;
    blocks_up_to_the_limit& operator=(const blocks_up_to_the_limit&) = delete;

    bool intact() const
    {
        for (std::size_t i = 0; i < blocks_.size(); ++i)
            if (!holds(blocks_[i], std::min(size_, 4 * kib), i)) return false;
        return true;
    }
    void free_from(std::size_t first)
    {
        while (blocks_.size() > first) {
            Heap::deallocate(blocks_.back());
            blocks_.pop_back();
        }
    }
    std::size_t count() const { return blocks_.size(); }
    std::size_t bytes() const { return blocks_.size() * size_; }

private:
    std::size_t size_;
    std::vector<void*> blocks_;
};

template <class Heap>
class Limit : public testing::Test {
protected:
    void SetUp() override
    {
        Heap::set_limit(SIZE_MAX);
        Heap::purge();
        ASSERT_EQ(Heap::statistics().live, 0U) << "an earlier test has lost something";
    }

private:
    const deadline no_hang_{100};
};

class heap_names {
public:
    template <class Heap>
    static std::string GetName(int)
    {
        using threading = typename Heap::policy::threading;
        return std::is_same_v<threading, binmalloc::single_cache> ? "single_cache"
                                                                  : "leased_caches";
    }
};
using heaps = testing::Types<binmalloc::basic_heap<leased_policy<0>>,
                             binmalloc::basic_heap<single_policy<0>>>;
TYPED_TEST_SUITE(Limit, heaps, heap_names);

constexpr std::size_t bytes = 24 * mib; // enough for some huge blocks
constexpr std::array<std::size_t, 8> kinds{24,       100,       1000,    16 * kib,
                                           40 * kib, 700 * kib, 3 * mib, 5 * mib};

TYPED_TEST(Limit, is_none_until_one_is_set)
{
    using heap = TypeParam;
    EXPECT_EQ(heap::limit(), SIZE_MAX);
    heap::set_limit(12345678);
    EXPECT_EQ(heap::limit(), 12345678U);
    heap::set_limit(SIZE_MAX);
    EXPECT_EQ(heap::limit(), SIZE_MAX);
    void* const block = heap::allocate(bytes);
    EXPECT_NE(block, nullptr);
    heap::deallocate(block);
}

TYPED_TEST(Limit, is_never_passed_and_nearly_reached_by_blocks_of_every_kind)
{
    // Each kind finds what the one before has left in caches and dirty spans.
    using heap = TypeParam;
    const limited<heap> limit(bytes);
    for (int round = 0; round < 2; ++round) {
        for (const std::size_t size : kinds) {
            const blocks_up_to_the_limit<heap> all(size, 4);
            EXPECT_GE(all.bytes(), bytes / 4 * 3) << "size " << size;
            EXPECT_LE(all.bytes(), bytes) << "size " << size;
            EXPECT_TRUE(all.intact()) << "size " << size;
        }
    }
}

TYPED_TEST(Limit, holds_for_the_smallest_blocks)
{
    using heap = TypeParam;
    const limited<heap> limit(1 * mib);
    for (int round = 0; round < 2; ++round) {
        const blocks_up_to_the_limit<heap> all(4, 4);
        EXPECT_GE(all.bytes(), 1 * mib / 4 * 3);
        EXPECT_TRUE(all.intact());
    }
}

TYPED_TEST(Limit, purges_dirty_memory_before_it_fails)
{
    using heap = TypeParam;
    const limited<heap> limit(bytes);
    for (const std::size_t first : kinds) {
        for (const std::size_t then : {600 * kib, 6 * mib}) {
            blocks_up_to_the_limit<heap>(first, 4).free_from(0);
            void* const block = heap::allocate(then);
            EXPECT_NE(block, nullptr) << first << " then " << then;
            EXPECT_LE(held<heap>(), bytes);
            heap::deallocate(block);
        }
    }
}

TYPED_TEST(Limit, holds_while_blocks_grow)
{
    using heap = TypeParam;
    constexpr auto filled = [](std::size_t size) { return std::min(size, 32 * kib); };
    const limited<heap> limit(bytes);
    // In place where the neighbourhood allows, else moved. The last two stay in a region.
    for (const auto& [first, step] : std::initializer_list<std::pair<std::size_t, std::size_t>>{
             {10, 3000}, {20 * kib, 20 * kib}, {5 * mib, 300 * kib}, {5 * mib, 3 * mib}}) {
        for (const bool in_the_way : {false, true}) {
            SCOPED_TRACE(std::to_string(first) + " + n * " + std::to_string(step)
                         + (in_the_way ? ", something in the way" : ""));
            std::vector<void*> others;
            std::size_t size = first;
            void* block = heap::allocate(size);
            ASSERT_NE(block, nullptr);
            for (;;) {
                fill(block, filled(size), 1);
                if (in_the_way && others.size() < 50) others.push_back(heap::allocate(40 * kib));
                void* const grown = heap::reallocate(block, size + step);
                if (grown == nullptr) break;
                ASSERT_LE(held<heap>(), bytes);
                ASSERT_TRUE(holds(grown, filled(size), 1)) << size;
                block = grown;
                size += step;
            }
            EXPECT_TRUE(holds(block, filled(size), 1)) << "a failed reallocate keeps the block";
            EXPECT_GE(size, bytes / 3);
            heap::deallocate(block);
            for (void* const other : others) heap::deallocate(other);
        }
    }
}

TYPED_TEST(Limit, below_what_is_live_leaves_blocks_alone_and_refuses_new_pages)
{
    using heap = TypeParam;
    for (const std::size_t size : kinds) {
        SCOPED_TRACE("size " + std::to_string(size));
        const limited<heap> limit(bytes);
        blocks_up_to_the_limit<heap> all(size, 4);
        constexpr std::size_t less = bytes / 2;
        heap::set_limit(less);
        EXPECT_EQ(heap::limit(), less);
        EXPECT_TRUE(all.intact());
        for (const std::size_t wanted : {40 * kib, 1 * mib, 5 * mib})
            EXPECT_EQ(heap::allocate(wanted), nullptr) << wanted;
        all.free_from(all.count() / 8);
        EXPECT_TRUE(all.intact());
        void* const block = heap::allocate(1 * mib);
        EXPECT_NE(block, nullptr) << "enough was freed";
        EXPECT_LE(held<heap>(), less);
        heap::deallocate(block);
    }
}

TYPED_TEST(Limit, below_what_waits_for_reuse_gives_it_back)
{
    using heap = TypeParam;
    void* const block = heap::allocate(3 * mib);
    fill(block, 3 * mib, 1);
    heap::deallocate(block);
    const limited<heap> limit(1 * mib);
    EXPECT_LE(held<heap>(), 1 * mib);
}

TYPED_TEST(Limit, of_nothing_refuses_everything_that_needs_pages)
{
    using heap = TypeParam;
    void* const block = heap::allocate(1000);
    fill(block, 1000, 1);
    {
        const limited<heap> limit(0);
        for (const std::size_t size : {50 * kib, 1 * mib, 5 * mib}) {
            EXPECT_EQ(heap::allocate(size), nullptr);
            EXPECT_EQ(heap::allocate_zeroed(size), nullptr);
            EXPECT_EQ(heap::reallocate(nullptr, size), nullptr);
            EXPECT_EQ(heap::reallocate(block, size), nullptr);
        }
        EXPECT_EQ(heap::allocate(100), nullptr) << "a class without a slab";
        EXPECT_TRUE(holds(block, 1000, 1));
        heap::deallocate(block);
    }
    void* const again = heap::allocate(1 * mib);
    EXPECT_NE(again, nullptr);
    heap::deallocate(again);
}

TYPED_TEST(Limit, makes_containers_throw_and_keep_what_they_have)
{
    using heap = TypeParam;
    const limited<heap> limit(8 * mib);
    std::list<std::size_t, binmalloc::heap_allocator<std::size_t, heap>> list;
    std::size_t count = 0;
    EXPECT_THROW(
        {
            for (; count < 10 * mib; ++count) list.push_back(count);
        },
        std::bad_alloc);
    EXPECT_EQ(list.size(), count);
    EXPECT_GE(count, 8 * mib / 24 / 4 * 3) << "nodes of 24 bytes";
    std::size_t expected = 0;
    for (const std::size_t one : list) ASSERT_EQ(one, expected++);
}

TYPED_TEST(Limit, holds_for_arenas)
{
    using heap = TypeParam;
    const limited<heap> limit(bytes);
    binmalloc::basic_arena<heap, binmalloc::detail::no_lock> arena;
    for (const std::size_t size : kinds) {
        std::size_t total = 0;
        while (void* const block = arena.allocate(size, 4)) {
            opaque(block);
            total += size;
            ASSERT_LE(held<heap>(), bytes);
        }
        EXPECT_GE(total, bytes / 4 * 3) << "size " << size;
        EXPECT_EQ(arena.reallocate(nullptr, 5 * mib), nullptr);
        arena.clear();
    }
}

TYPED_TEST(Limit, is_never_passed_by_threads_that_race_for_it)
{
    using heap = TypeParam;
    const limited<heap> limit(bytes);
    std::atomic<std::size_t> most = 0;
    std::atomic<std::size_t> damaged = 0;
    std::atomic<std::size_t> nulls = 0;
    std::atomic<std::size_t> successes = 0;
    const auto look = [&] {
        const std::size_t now = held<heap>();
        std::size_t known = most.load();
        while (known < now && !most.compare_exchange_weak(known, now)) {}
    };
    constexpr std::size_t workers = 6;
    std::atomic<std::size_t> working = workers;
    latch all_hold_theirs(workers);
    run_threads(workers + 1, [&](std::size_t me) {
        if (me == workers) {
            while (working.load() != 0) look();
            return;
        }
        random_source random(seed() + me);
        std::vector<live_block> blocks(200);
        for (std::size_t step = 0; step < scaled(20000, 8000); ++step) {
            live_block& block = blocks[random.below(blocks.size())];
            const std::size_t size = random.size_up_to(random.one_in(50) ? 6 * mib : 64 * kib);
            if (block.address != nullptr) {
                damaged += holds(block.address, block.size, block.id) ? 0 : 1;
                if (random.one_in(2)) {
                    heap::deallocate(std::exchange(block.address, nullptr));
                    continue;
                }
            }
            void* const got = heap::reallocate(block.address, size);
            if (got == nullptr) {
                ++nulls;
                continue;
            }
            look();
            ++successes;
            const std::size_t kept = std::min(size, block.size);
            if (block.address != nullptr) damaged += holds_prefix(got, kept, block.id) ? 0 : 1;
            block = {got, size, 0, std::uint64_t{me} << 32 | step};
            fill(got, size, block.id);
        }
        all_hold_theirs.arrive_and_wait();
        for (const live_block& block : blocks) heap::deallocate(block.address);
        --working;
    });
    EXPECT_LE(most.load(), bytes);
    EXPECT_EQ(damaged.load(), 0U);
    EXPECT_GT(nulls.load(), 0U) << "they never came to the limit";
    EXPECT_GT(successes.load(), nulls.load() / 10);
    heap::purge();
    EXPECT_EQ(heap::statistics().live, 0U);
}

/// Leaves slabs without a live block in the caches of several threads that have ended.
template <class Heap>
void fill_idle_caches()
{
    constexpr std::size_t threads = 3;
    barrier all_leased(threads);
    run_threads(threads, [&](std::size_t) {
        std::vector<void*, binmalloc::allocator<void*>> blocks;
        for (std::size_t size = 8; size <= 16 * kib; size += size / 8 + 8)
            for (std::size_t i = 0; i < 200 * kib / size + 1; ++i)
                blocks.push_back(Heap::allocate(size));
        all_leased.arrive_and_wait();
        for (void* const block : blocks) Heap::deallocate(block);
    });
}

TEST(LimitOfOneHeap, is_not_used_up_by_what_lies_in_idle_caches)
{
    using heap = binmalloc::basic_heap<leased_policy<1>>;
    for (const std::size_t block_size : {std::size_t{512}, 96 * kib, 1 * mib}) {
        fill_idle_caches<heap>();
        const auto before = heap::statistics();
        ASSERT_GT(before.live, 3 * mib) << "nothing lies there";
        const std::size_t all = before.live + before.dirty;
        const limited<heap> limit(all + 1 * mib);
        // A page that is larger than a unit cannot be given back while one of its units is in use.
        const std::size_t kept = binmalloc::os_pages::page_size() > 16 * kib ? 4 * mib : 1 * mib;
        const std::size_t each = block_size > 16 * kib ? span_bytes(block_size) : block_size;
        std::vector<void*> blocks;
        for (std::size_t sum = 0; sum + each + kept <= all; sum += each) {
            blocks.push_back(heap::allocate(block_size));
            ASSERT_NE(blocks.back(), nullptr) << sum << " of " << all;
        }
        EXPECT_LE(held<heap>(), heap::limit());
        for (void* const block : blocks) heap::deallocate(block);
    }
}

TEST(LimitOfOneHeap, does_not_hold_for_others)
{
    using one = binmalloc::basic_heap<leased_policy<2>>;
    using other = binmalloc::basic_heap<leased_policy<3>>;
    const limited<one> limit(1 * mib);
    EXPECT_EQ(other::limit(), SIZE_MAX);
    void* const block = other::allocate(3 * mib);
    EXPECT_NE(block, nullptr);
    other::deallocate(block);
    EXPECT_EQ(one::allocate(3 * mib), nullptr);
}

TEST(LimitOfPages, holds_for_a_page_allocator)
{
    binmalloc::page_allocator pages;
    EXPECT_EQ(pages.limit(), SIZE_MAX);
    pages.set_limit(bytes);
    EXPECT_EQ(pages.limit(), bytes);
    const auto within = [&] {
        const auto now = pages.statistics();
        return now.live + now.dirty <= bytes;
    };
    for (const std::size_t size : {16 * kib, 100 * kib, 3 * mib, 5 * mib}) {
        std::vector<void*> blocks;
        while (void* const block = pages.allocate(size)) {
            ASSERT_TRUE(within());
            blocks.push_back(block);
        }
        EXPECT_GE(blocks.size() * size, bytes / 4 * 3);
        EXPECT_EQ(pages.reallocate(blocks[0], bytes), nullptr);
        for (void* const block : blocks) pages.deallocate(block);
    }
    pages.set_limit(SIZE_MAX);
    void* const block = pages.allocate(2 * bytes);
    EXPECT_NE(block, nullptr);
    pages.deallocate(block);
}

TEST(LimitOfTheProcessHeap, is_that_of_the_functions_and_of_c)
{
    const std::size_t at_first = binmalloc::limit();
    EXPECT_EQ(binmalloc::heap::limit(), at_first);
    EXPECT_EQ(bin_limit(), at_first);
    const std::size_t some = heap::held_bytes_after_purge() + 10 * mib;
    bin_set_limit(some);
    EXPECT_EQ(binmalloc::limit(), some);
    errno = 0;
    EXPECT_EQ(bin_malloc(20 * mib), nullptr);
    EXPECT_EQ(std::exchange(errno, 0), ENOMEM);
    EXPECT_EQ(bin_calloc(2, 10 * mib), nullptr);
    EXPECT_EQ(std::exchange(errno, 0), ENOMEM);
    void* block = nullptr;
    EXPECT_EQ(bin_posix_memalign(&block, 64, 20 * mib), ENOMEM);
    EXPECT_EQ(errno, 0);
    EXPECT_THROW(opaque(binmalloc::allocator<char>{}.allocate(20 * mib)), std::bad_alloc);
    block = bin_malloc(4 * mib);
    EXPECT_NE(block, nullptr);
    fill(block, 4 * mib, 1);
    EXPECT_EQ(bin_realloc(block, 20 * mib), nullptr);
    EXPECT_EQ(std::exchange(errno, 0), ENOMEM);
    EXPECT_TRUE(holds(block, 4 * mib, 1));
    EXPECT_LE(heap::held_bytes(), some);
    bin_free(block);
    binmalloc::set_limit(SIZE_MAX);
    EXPECT_EQ(bin_limit(), SIZE_MAX);
    block = bin_malloc(20 * mib);
    EXPECT_NE(block, nullptr);
    bin_free(block);
    binmalloc::set_limit(at_first);
}

#if defined(__linux__)

// --- the environment; this program is its own child: it says its limit before main

constexpr const char* say_limit = "BINMALLOC_TEST_SAY_LIMIT";

[[maybe_unused]] const bool said = [] {
    if (std::getenv(say_limit) == nullptr) return false;
    // The limit, and how many MiB of 40 can be had.
    int can_be_had = 0;
    for (; can_be_had < 40 && opaque(binmalloc::allocate(1 * mib)) != nullptr; ++can_be_had) {}
    std::printf("%zu %d\n", binmalloc::limit(), can_be_had);
    std::fflush(stdout);
    ::_exit(0);
}();

struct answer {
    std::string complaint; // all that came before
    std::size_t limit = 0;
    int can_be_had = 0;
};

/// What this program says when it is started with `value` as BINMALLOC_LIMIT.
answer started_with(const std::string& value)
{
    std::array<char, 4096> path{};
    EXPECT_GT(::readlink("/proc/self/exe", path.data(), path.size() - 1), 0);
    const std::string command =
        "BINMALLOC_LIMIT='" + value + "' " + say_limit + "=1 '" + path.data() + "' 2>&1";
    answer result;
    std::FILE* const pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) return result;
    std::array<char, 4096> line{};
    std::string last;
    while (std::fgets(line.data(), static_cast<int>(line.size()), pipe) != nullptr) {
        result.complaint += last;
        last = line.data();
    }
    EXPECT_EQ(::pclose(pipe), 0) << value;
    EXPECT_EQ(std::sscanf(last.c_str(), "%zu %d", &result.limit, &result.can_be_had), 2)
        << value << ": " << result.complaint << last;
    return result;
}

TEST(LimitFromTheEnvironment, is_a_number_with_or_without_a_suffix)
{
    if (emulated) GTEST_SKIP() << "a program that it starts would not be emulated";
    constexpr auto large = std::size_t{1} << (sizeof(std::size_t) == 8 ? 42 : 31);
    for (const auto& [text, expected] : std::initializer_list<std::pair<std::string, std::size_t>>{
             {"20000000", 20000000},
             {"20000K", 20000 * kib},
             {"20M", 20 * mib},
             {"100M", 100 * mib},
             {"3G", 3072 * mib},
             {std::to_string(large), large}}) {
        const answer child = started_with(text);
        EXPECT_EQ(child.limit, expected) << text;
        EXPECT_EQ(child.complaint, "") << text;
        if (expected < 40 * mib) {
            EXPECT_LE(child.can_be_had, static_cast<int>(expected / mib)) << text;
            EXPECT_GE(child.can_be_had, static_cast<int>(expected / mib) - 4) << text;
        } else {
            EXPECT_EQ(child.can_be_had, 40) << text;
        }
    }
}

TEST(LimitFromTheEnvironment, is_that_of_the_cgroup_on_request)
{
    if (emulated) GTEST_SKIP() << "a program that it starts would not be emulated";
    const answer child = started_with("cgroup");
    EXPECT_EQ(child.limit, binmalloc::cgroup_limit());
    EXPECT_EQ(child.complaint, "");
}

TEST(LimitFromTheEnvironment, that_makes_no_sense_is_named_and_ignored)
{
    if (emulated) GTEST_SKIP() << "a program that it starts would not be emulated";
    for (const char* const text :
         {"many", "12Q", "12MB", "12 M", "-5", "-1M", "M", "1.5G", "0x1000", "12M12", "cgroups",
          "Cgroup", "99999999999999999999999", "18446744073709551616", "99999999999999G", "1e6"}) {
        const answer child = started_with(text);
        EXPECT_EQ(child.limit, SIZE_MAX) << text;
        EXPECT_EQ(child.can_be_had, 40) << text;
        EXPECT_EQ(child.complaint.rfind("binmalloc: BINMALLOC_LIMIT", 0), 0U)
            << text << ": " << child.complaint;
        EXPECT_EQ(std::count(child.complaint.begin(), child.complaint.end(), '\n'), 1)
            << text << ": " << child.complaint;
    }
}

// --- the cgroup

/// What a cgroup's file says: bytes, SIZE_MAX for none. False: there is no such file.
bool read_limit(const std::string& file, std::size_t& bytes_allowed)
{
    std::ifstream in(file);
    std::string text;
    if (!(in >> text)) return false;
    constexpr std::size_t none_in_v1 = SIZE_MAX / 2 - 64 * kib + 1; // rounded to pages, of any size
    bytes_allowed = text == "max" ? SIZE_MAX : static_cast<std::size_t>(std::stoull(text));
    if (bytes_allowed >= none_in_v1) bytes_allowed = SIZE_MAX;
    return true;
}

/// The limits of the process's cgroup and of all above it, as far as they can be seen, the own first.
std::vector<std::size_t> cgroup_limits()
{
    std::vector<std::size_t> limits;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        // number:controllers:/path
        std::istringstream fields(line);
        std::string number, controllers, path;
        std::getline(fields, number, ':');
        std::getline(fields, controllers, ':');
        std::getline(fields, path);
        const bool v1 = ("," + controllers + ",").find(",memory,") != std::string::npos;
        if (!v1 && !controllers.empty()) continue;
        const std::string root = v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";
        const std::string file = v1 ? "/memory.limit_in_bytes" : "/memory.max";
        for (std::string place = path == "/" ? "" : path;; place.erase(place.rfind('/'))) {
            std::size_t one = 0;
            if (read_limit(root + place + file, one)) limits.push_back(one);
            if (place.empty()) break;
        }
    }
    return limits;
}

TEST(CgroupLimit, is_what_the_system_says)
{
    const std::size_t answer = binmalloc::cgroup_limit();
    const std::vector<std::size_t> limits = cgroup_limits();
    if (limits.empty()) {
        EXPECT_EQ(answer, SIZE_MAX) << "there is no memory cgroup to be seen";
        return;
    }
    EXPECT_NE(answer, 0U);
    EXPECT_LE(answer, limits.front()) << "the process's own";
    EXPECT_GE(answer, *std::min_element(limits.begin(), limits.end()));
    EXPECT_NE(std::find(limits.begin(), limits.end(), answer), limits.end())
        << answer << " is the limit of none";
}

#endif

} // namespace
