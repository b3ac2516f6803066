// The end of memory: limits of the process, a system that refuses any call, too many mappings,
// absurd sizes. Null and bad_alloc are right answers there; a crash, a hang and lost memory are not.
#define BINMALLOC_DEFINE_C_API
#include <binmalloc/binmalloc.h>
#include <binmalloc/binmalloc.hpp>

#include "support/deadline.hpp"
#include "support/failing_pages.hpp"
#include "support/in_child.hpp"
#include "support/live_blocks.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/scale.hpp"
#include "support/threads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if BINMALLOC_HAS_MEMORY_RESOURCE
#    include <memory_resource>
#endif

#if defined(__linux__)
#    include <pthread.h>
#    include <sys/mman.h>
#    include <sys/resource.h>
#    include <unistd.h>
#endif

namespace {

using namespace binmalloc_test;

// --- limits of the process

#if defined(__linux__)

/// A heap that nothing else in this process has used.
template <int Which>
struct fresh_policy : binmalloc::default_policy {};
template <int Which>
struct fresh_single_policy : binmalloc::single_cache_policy {};

/// Few leases where processors are few.
struct few_caches : binmalloc::default_footprint {
    static constexpr unsigned least_cpus = 1;
};
struct few_caches_policy : binmalloc::default_policy {
    using footprint = few_caches;
};

/// Blocks of all kinds in a list through themselves, so that nothing but the heap uses memory.
template <class Heap>
class chain {
public:
    explicit chain(std::uint64_t which) noexcept : random_(seed() + which) {}

    /// Allocates until hardly anything is to be had. False: a block was damaged.
    bool fill_up() noexcept
    {
        constexpr unsigned enough = 30;
        for (unsigned nulls = 0; nulls < enough;) {
            const std::size_t size = sizeof(entry)
                                     + (random_.one_in(60)  ? random_.size_up_to(8 * mib)
                                        : random_.one_in(8) ? random_.size_up_to(64 * kib)
                                                            : random_.size_up_to(2 * kib));
            if (first_ != nullptr && random_.one_in(10)) {
                if (!intact(first_)) return false;
                const std::size_t old_size = first_->size;
                auto* const moved = static_cast<entry*>(Heap::reallocate(first_, size));
                if (moved == nullptr) {
                    ++nulls;
                    if (!intact(first_)) return false;
                    continue;
                }
                if (!holds_prefix(moved + 1, std::min(filled(old_size), filled(size)), moved->id))
                    return false;
                first_ = moved;
                bytes_ += size - old_size;
                note(moved, size);
            } else {
                auto* const block =
                    static_cast<entry*>(random_.one_in(5)   ? Heap::allocate(size, 256)
                                        : random_.one_in(5) ? Heap::allocate_zeroed(size)
                                                            : Heap::allocate(size));
                if (block == nullptr) {
                    ++nulls;
                    continue;
                }
                block->next = first_;
                first_ = block;
                bytes_ += size;
                note(block, size);
            }
            nulls = 0;
        }
        return true;
    }

    /// Frees about one block in n. False: a block was damaged.
    bool free_one_in(std::size_t n) noexcept
    {
        for (entry** place = &first_; *place != nullptr;) {
            entry* const block = *place;
            if (!intact(block)) return false;
            if (!random_.one_in(n)) {
                place = &block->next;
                continue;
            }
            *place = block->next;
            bytes_ -= block->size;
            Heap::deallocate(block);
        }
        return true;
    }

    std::size_t bytes() const noexcept { return bytes_; }

private:
    struct entry {
        entry* next;
        std::size_t size;
        std::uint64_t id;
    };
    // Not all of a large block: what counts here is address space.
    static std::size_t filled(std::size_t size) noexcept
    {
        return std::min(size - sizeof(entry), 4 * kib);
    }
    static bool intact(const entry* block) noexcept
    {
        return holds(block + 1, filled(block->size), block->id);
    }
    void note(entry* block, std::size_t size) noexcept
    {
        block->size = size;
        block->id = ++ids_;
        fill(block + 1, filled(size), block->id);
    }

    random_source random_;
    entry* first_ = nullptr;
    std::size_t bytes_ = 0;
    std::uint64_t ids_ = 0;
};

enum child_error : int {
    none,
    no_limit,  // it could not be set
    no_thread, // one that was to be there before the limit
    damaged_block,
    little_at_first,
    little_again,   // after some or all was freed
    memory_kept,    // alive for the heap, though all was freed
    addresses_kept, // mapped by the process
};

/// Threads that fill their chains up together, then free each other's, step by step.
template <class Heap, std::size_t Threads>
class exhausted_heap {
public:
    /// The limit comes when all threads are there. Twice to the end and back.
    template <class SetLimit>
    child_error run(std::size_t room, SetLimit set_limit) noexcept
    {
        pthread_barrier_init(&together_, nullptr, Threads + 1);
        std::array<argument, Threads> arguments{};
        std::array<pthread_t, Threads> threads{};
        for (std::size_t me = 0; me < Threads; ++me) {
            arguments[me] = {this, me};
            if (pthread_create(&threads[me], nullptr, start, &arguments[me]) != 0) return no_thread;
        }
        if (!set_limit(room)) return no_limit;
        const std::size_t addresses_before = memory_in_use().address_space;
        together();
        together(); // filled up
        if (bytes() < room / 2) note(little_at_first);
        one_more_thread();
        together();
        together(); // freed one in two, and filled up
        if (bytes() < room / 2) note(little_again);
        together();
        together(); // freed all, and filled up
        if (bytes() < room / 2) note(little_again);
        together();
        for (const pthread_t thread : threads) pthread_join(thread, nullptr);
        Heap::purge();
        if (Heap::statistics().live > 256 * kib) note(memory_kept);
        if (memory_in_use().address_space > addresses_before + 4 * mib) note(addresses_kept);
        return error_.load();
    }

private:
    struct argument {
        exhausted_heap* self;
        std::size_t me;
    };
    static void* start(void* given) noexcept
    {
        const auto& [self, me] = *static_cast<argument*>(given);
        self->live(me);
        return nullptr;
    }

    void live(std::size_t me) noexcept
    {
        auto& mine = chains_[me];
        auto& theirs = chains_[(me + 1) % Threads];
        const auto check = [&](bool intact) {
            if (!intact) note(damaged_block);
        };
        together();
        check(mine.fill_up());
        together();
        together();
        check(theirs.free_one_in(2));
        check(theirs.fill_up());
        together();
        together();
        check(mine.free_one_in(1));
        among_themselves();
        check(mine.fill_up());
        together();
        together();
        check(theirs.free_one_in(1));
    }

    // It may not come to be, but if it does, all must be well.
    void one_more_thread() noexcept
    {
        pthread_attr_t small;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 128 * kib);
        pthread_t thread{};
        const auto body = [](void*) -> void* {
            for (const std::size_t size : {std::size_t{100}, 100 * kib, 10 * mib})
                Heap::deallocate(opaque(Heap::allocate(size)));
            return nullptr;
        };
        if (pthread_create(&thread, &small, body, nullptr) == 0) pthread_join(thread, nullptr);
        pthread_attr_destroy(&small);
    }

    void together() noexcept { pthread_barrier_wait(&together_); }
    // Without main.
    void among_themselves() noexcept
    {
        ++arrived_;
        while (arrived_.load() % Threads != 0) ::usleep(100);
    }
    void note(child_error error) noexcept
    {
        child_error nothing = none;
        error_.compare_exchange_strong(nothing, error);
    }
    std::size_t bytes() const noexcept
    {
        std::size_t sum = 0;
        for (const auto& one : chains_) sum += one.bytes();
        return sum;
    }

    static constexpr auto make_chains = []<std::size_t... I>(std::index_sequence<I...>)
    {
        return std::array<chain<Heap>, Threads>{chain<Heap>(I)...};
    };
    std::array<chain<Heap>, Threads> chains_ = make_chains(std::make_index_sequence<Threads>{});
    pthread_barrier_t together_{};
    std::atomic<std::size_t> arrived_ = 0;
    std::atomic<child_error> error_ = none;
};

bool lower(__rlimit_resource resource, std::size_t to) noexcept
{
    rlimit limit{};
    ::getrlimit(resource, &limit);
    limit.rlim_cur = to;
    return ::setrlimit(resource, &limit) == 0;
}
bool leave_address_space(std::size_t room) noexcept
{
    return lower(RLIMIT_AS, memory_in_use().address_space + room);
}
bool leave_data(std::size_t room) noexcept
{
    return lower(RLIMIT_DATA, memory_in_use().data + room);
}

template <class Heap, std::size_t Threads, class SetLimit>
void exhaust(const char* which, SetLimit set_limit, const std::vector<std::size_t>& rooms)
{
    for (const std::size_t room : rooms) {
        exhausted_heap<Heap, Threads> heap;
        EXPECT_EQ(in_child([&] { return heap.run(room, set_limit); }), none)
            << which << ", room for " << room / mib << " MiB, " << Threads << " threads";
    }
}

// With 32 bits regions are small, and whatever is refused then, is looked for at more places.
constexpr bool narrow = sizeof(void*) < 8;
const std::vector<std::size_t> all_rooms = narrow ? std::vector{64 * mib, 96 * mib}
                                                  : std::vector{64 * mib, 128 * mib, 512 * mib};

TEST(Exhaustion, of_address_space)
{
    if (sanitized) GTEST_SKIP() << "shadow memory needs the address space";
    using leased = binmalloc::basic_heap<fresh_policy<0>>;
    using single = binmalloc::basic_heap<fresh_single_policy<0>>;
    exhaust<leased, 1>("leased caches", leave_address_space, all_rooms);
    exhaust<single, 1>("single cache", leave_address_space, all_rooms);
}

TEST(Exhaustion, of_address_space_by_several_threads)
{
    if (sanitized) GTEST_SKIP() << "shadow memory needs the address space";
    using leased = binmalloc::basic_heap<fresh_policy<1>>;
    exhaust<leased, 4>("leased caches", leave_address_space, all_rooms);
    using few = binmalloc::basic_heap<few_caches_policy>;
    exhaust<few, 24>("more than leases", leave_address_space, {(narrow ? 64 : 128) * mib});
}

TEST(Exhaustion, of_data)
{
    if (sanitized) GTEST_SKIP() << "shadow memory is data, too";
    using leased = binmalloc::basic_heap<fresh_policy<2>>;
    using single = binmalloc::basic_heap<fresh_single_policy<2>>;
    exhaust<leased, 1>("leased caches", leave_data, {64 * mib, 512 * mib});
    exhaust<leased, 4>("leased caches", leave_data, {128 * mib});
    exhaust<single, 4>("single cache", leave_data, {128 * mib});
}

// --- as many mappings as a process may have

/// Mappings that no neighbour merges with, until there are no more.
class used_up_mappings {
public:
    used_up_mappings() noexcept
    {
        bytes_ = 2 * (most() + 1000) * page;
        first_ = static_cast<char*>(
            ::mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (first_ == MAP_FAILED) return;
        for (; (used_ + 2) * page < bytes_; used_ += 2) {
            if (::mprotect(first_ + (used_ + 1) * page, page, PROT_READ) != 0) {
                reached_ = true;
                return;
            }
        }
    }
    ~used_up_mappings() { ::munmap(first_, bytes_); }
    used_up_mappings(const used_up_mappings&) = delete;
    used_up_mappings& operator=(const used_up_mappings&) = delete;

    /// Whether the system really refused another one.
    bool reached() const noexcept { return reached_; }

    void free_some(std::size_t count) noexcept
    {
        for (; count != 0 && used_ != 0; --count, used_ -= 2)
            ::mprotect(first_ + (used_ - 1) * page, page, PROT_NONE);
    }

private:
    static constexpr std::size_t page = 4 * kib;

    static std::size_t most() noexcept
    {
        unsigned long limit = 65530;
        if (std::FILE* const file = std::fopen("/proc/sys/vm/max_map_count", "r")) {
            if (std::fscanf(file, "%lu", &limit) != 1) limit = 65530;
            std::fclose(file);
        }
        return limit;
    }

    char* first_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t used_ = 0;
    bool reached_ = false;
};

enum mapping_error : int {
    all_well,
    not_reached, // the number of mappings has no limit here
    block_damaged,
    null_afterwards,
    heap_keeps_memory, // by its own account
    process_keeps_memory,
    process_keeps_addresses,
};

/// Blocks that need mappings: huge ones, and enough spans for further regions. Frees what it got, in
/// any order. Returns whether none was damaged.
template <class Heap>
bool use_mappings(std::uint64_t which, std::size_t* nulls)
{
    constexpr auto filled = [](std::size_t size) { return std::min(size, 128 * kib); };
    random_source random(seed() + which);
    std::array<live_block, 120> blocks{};
    bool intact = true;
    for (std::uint64_t step = 0; step < 600; ++step) {
        live_block& block = blocks[random.below(blocks.size())];
        const std::size_t size =
            random.one_in(2) ? 4 * mib + random.below(3 * mib) : random.size_up_to(3 * mib);
        if (block.address == nullptr) {
            block = {Heap::allocate(size), size, 0, step};
            if (block.address == nullptr)
                ++*nulls;
            else
                fill(block.address, filled(size), step);
            continue;
        }
        intact = intact && holds(block.address, filled(block.size), block.id);
        if (!random.one_in(3)) {
            Heap::deallocate(std::exchange(block.address, nullptr));
            continue;
        }
        void* const moved = Heap::reallocate(block.address, size);
        if (moved == nullptr) {
            ++*nulls;
            continue;
        }
        const std::size_t kept = std::min(filled(size), filled(block.size));
        intact = intact && holds_prefix(moved, kept, block.id);
        block = {moved, size, 0, step};
        fill(moved, filled(size), step);
    }
    for (const live_block& block : blocks) {
        if (block.address == nullptr) continue;
        intact = intact && holds(block.address, filled(block.size), block.id);
        Heap::deallocate(block.address);
    }
    return intact;
}

template <class Heap>
mapping_error run_out_of_mappings(std::size_t left_over)
{
    std::size_t nulls = 0;
    const auto lives = [&](std::uint64_t which) {
        return use_mappings<Heap>(which, &nulls) && use_mappings<Heap>(which + 1, &nulls);
    };
    if (!lives(1)) return block_damaged;
    if (nulls != 0) return null_afterwards;
    Heap::purge();
    const process_memory before = memory_in_use();
    {
        used_up_mappings used_up;
        if (!used_up.reached()) return not_reached;
        used_up.free_some(left_over);
        for (std::uint64_t round = 0; round < 2; ++round) {
            if (!lives(round)) return block_damaged;
            Heap::purge();
        }
    }
    nulls = 0;
    if (!lives(1)) return block_damaged;
    if (nulls != 0) return null_afterwards;
    Heap::purge();
    const auto heap = Heap::statistics();
    if (heap.live + heap.dirty > 1 * mib) return heap_keeps_memory;
    const process_memory after = memory_in_use();
    if (after.resident > before.resident + 2 * mib) return process_keeps_memory;
    if (after.address_space > before.address_space + 64 * mib) return process_keeps_addresses;
    return all_well;
}

TEST(Exhaustion, of_mappings)
{
    if (sanitized) GTEST_SKIP() << "the tool's own memory needs mappings";
    using leased = binmalloc::basic_heap<fresh_policy<3>>;
    using single = binmalloc::basic_heap<fresh_single_policy<3>>;
    for (const std::size_t left_over : {0U, 2U, 20U})
        EXPECT_EQ(in_child([&] { return run_out_of_mappings<leased>(left_over); }), all_well)
            << "with room for about " << 2 * left_over << " mappings";
    EXPECT_EQ(in_child([] { return run_out_of_mappings<single>(5); }), all_well) << "single cache";
}

#endif

// --- a system that refuses any call

/// Grows a container by `count` elements, each a try. What is in it afterwards is what went in.
template <class Container, class Add>
void grow(Container& container, int count, Add add)
{
    std::vector<int> expected;
    for (int i = 0; i < count; ++i) {
        try {
            add(container, i);
            expected.push_back(i);
        } catch (const std::bad_alloc&) {} // the strong guarantee: nothing has changed
    }
    EXPECT_TRUE(std::equal(container.begin(), container.end(), expected.begin(), expected.end()));
}

constexpr auto push_back = [](auto& container, int value) { container.push_back(value); };

template <class Heap>
void containers()
{
    std::vector<int, binmalloc::heap_allocator<int, Heap>> vector;
    grow(vector, 20000, push_back);
    std::list<int, binmalloc::heap_allocator<int, Heap>> list;
    grow(list, 2000, push_back);
    using entry = std::pair<const int, int>;
    std::map<int, int, std::less<>, binmalloc::heap_allocator<entry, Heap>> map;
    for (int i = 0; i < 1000; ++i) {
        const std::size_t before = map.size();
        try {
            map.emplace(i, -i);
            EXPECT_EQ(map.size(), before + 1);
        } catch (const std::bad_alloc&) {
            EXPECT_EQ(map.size(), before);
        }
    }
    for (const auto& [key, value] : map) EXPECT_EQ(value, -key);
    using string =
        std::basic_string<char, std::char_traits<char>, binmalloc::heap_allocator<char, Heap>>;
    string text;
    std::string expected;
    for (int i = 0; i < 3000; ++i) {
        const char letter = static_cast<char>('a' + i % 26);
        try {
            text.append(40, letter);
            expected.append(40, letter);
        } catch (const std::bad_alloc&) {}
    }
    EXPECT_TRUE(std::equal(text.begin(), text.end(), expected.begin(), expected.end()));
}

#if BINMALLOC_HAS_MEMORY_RESOURCE
template <class Heap>
void pmr_containers()
{
    binmalloc::heap_resource<Heap> resource;
    std::pmr::vector<int> vector(&resource);
    grow(vector, 20000, push_back);
    std::pmr::list<int> list(&resource);
    grow(list, 2000, push_back);
}
#endif

template <class Heap>
void arenas()
{
    binmalloc::basic_arena<Heap, binmalloc::detail::no_lock> arena;
    random_source random(seed());
    for (int round = 0; round < 2; ++round) {
        std::vector<live_block> blocks;
        for (std::uint64_t step = 0; step < 150; ++step) {
            const std::size_t size = 1 + random.size_up_to(random.one_in(20) ? 9 * mib : 32 * kib);
            if (!blocks.empty() && random.one_in(3)) {
                live_block& last = blocks.back();
                EXPECT_TRUE(holds(last.address, last.size, last.id));
                if (random.one_in(2)) {
                    arena.deallocate(last.address);
                    blocks.pop_back();
                    continue;
                }
                void* const moved = arena.reallocate(last.address, size);
                if (moved == nullptr) {
                    EXPECT_TRUE(holds(last.address, last.size, last.id));
                    continue;
                }
                EXPECT_TRUE(holds_prefix(moved, std::min(size, last.size), last.id));
                last = {moved, size, 0, step};
                fill(moved, size, step);
                continue;
            }
            void* const block = arena.allocate(size);
            if (block == nullptr) continue;
            blocks.push_back({block, size, 0, step});
            fill(block, size, step);
        }
        for (const live_block& block : blocks)
            EXPECT_TRUE(holds(block.address, block.size, block.id));
        arena.clear();
    }
    std::list<int, binmalloc::arena_allocator<int, decltype(arena)>> list(arena);
    grow(list, 2000, push_back);
}

/// Threads that begin, end, and free each other's blocks meanwhile.
template <class Heap>
void threads()
{
    std::vector<live_block> left;
    for (std::uint64_t which = 0; which < 3; ++which) {
        run_thread([&] {
            for (const live_block& block : std::exchange(left, {})) {
                EXPECT_TRUE(holds(block.address, block.size, block.id));
                Heap::deallocate(block.address);
            }
            life_with_failures<Heap>(which);
            for (const std::size_t size : {std::size_t{4}, std::size_t{100}, 3 * kib, 50 * kib}) {
                void* const block = Heap::allocate(size, 4);
                if (block == nullptr) continue;
                fill(block, size, which);
                left.push_back({block, size, 0, which});
            }
        });
    }
    run_threads(2, [](std::size_t me) { life_with_failures<Heap>(me); });
    for (const live_block& block : left) Heap::deallocate(block.address);
}

/// Refuses call after call until a run is not reached by the refusal any more: every call that it
/// makes has then failed once.
template <class Heap>
void refuse_every_call(const char* which, void (*run)())
{
    SCOPED_TRACE(which);
    const deadline no_hang(100);
    run();
    Heap::purge();
    const std::size_t reserved_before = reserved_bytes.load();
    for (const bool for_good : {true, false}) {
        bool happened = true;
        // In a run of a tenth every tenth.
        const std::size_t step = scale() < 1 ? static_cast<std::size_t>(1 / scale()) : 1;
        std::size_t n = 0;
        for (; happened; n += step) {
            {
                const refusal refuse(n, for_good);
                run();
                happened = refuse.happened();
            }
            Heap::purge();
            ASSERT_EQ(Heap::statistics().live, 0U) << "lost by refusal of call " << n;
            ASSERT_LE(reserved_bytes.load(), reserved_before) << "kept by refusal of call " << n;
            ASSERT_FALSE(testing::Test::HasFailure())
                << "refusal of call " << n << (for_good ? " and all after it" : "");
        }
        EXPECT_GE(n, 2 * step) << "the source was hardly ever asked";
    }
    run();
}

template <class Heap>
void refuse_every_call_of_all()
{
    refuse_every_call<Heap>("blocks", [] { life_with_failures<Heap>(1); });
    refuse_every_call<Heap>("containers", containers<Heap>);
#if BINMALLOC_HAS_MEMORY_RESOURCE
    refuse_every_call<Heap>("pmr containers", pmr_containers<Heap>);
#endif
    refuse_every_call<Heap>("arenas", arenas<Heap>);
    refuse_every_call<Heap>("threads", threads<Heap>);
}

TEST(RefusedCalls, every_single_one_of_leased_caches)
{
    refuse_every_call_of_all<binmalloc::basic_heap<failing_policy<300, false>>>();
}

TEST(RefusedCalls, every_single_one_of_the_single_cache)
{
    refuse_every_call_of_all<binmalloc::basic_heap<failing_policy<300, true>>>();
}

// --- sizes that no machine has, through the front ends that large_test.cpp and c_api_test.cpp leave

constexpr std::size_t largest_object = PTRDIFF_MAX;

const std::vector<std::size_t>& absurd_sizes()
{
    static const std::vector<std::size_t> sizes = [] {
        std::vector<std::size_t> all;
        for (std::size_t less = 0; less <= 64 * kib; less = less * 2 + 1) {
            all.push_back(SIZE_MAX - less);
            all.push_back(largest_object - less);
            all.push_back(largest_object + 1 + less);
        }
        return all;
    }();
    return sizes;
}

template <class T, class Allocator>
void expect_no_arrays(Allocator allocator)
{
    for (const std::size_t bytes : absurd_sizes()) {
        for (const std::size_t n : {bytes, bytes / sizeof(T), bytes / sizeof(T) + 1}) {
            if (n > SIZE_MAX / sizeof(T)) {
                EXPECT_THROW(opaque(allocator.allocate(opaque(n))), std::bad_array_new_length) << n;
            } else if (n * sizeof(T) >= largest_object - 64 * kib) {
                try {
                    opaque(allocator.allocate(opaque(n)));
                    ADD_FAILURE() << n << " objects of " << sizeof(T) << " bytes";
                } catch (const std::bad_array_new_length&) {
                    ADD_FAILURE() << "the product does not overflow: " << n;
                } catch (const std::bad_alloc&) {}
            }
        }
    }
    std::vector<T, Allocator> vector(3, T{}, allocator);
    EXPECT_THROW(vector.reserve(vector.max_size()), std::bad_alloc);
    EXPECT_THROW(vector.reserve(opaque(SIZE_MAX)), std::length_error);
    EXPECT_THROW(vector.resize(vector.max_size() - 1), std::bad_alloc);
    EXPECT_EQ(vector.size(), 3U);
}

struct alignas(4096) page_of_bytes {
    char bytes[4096];
};
struct odd_bytes {
    char bytes[23];
};

template <class Heap>
void expect_no_arrays_of_any_type()
{
    expect_no_arrays<char>(binmalloc::heap_allocator<char, Heap>{});
    expect_no_arrays<double>(binmalloc::heap_allocator<double, Heap>{});
    expect_no_arrays<odd_bytes>(binmalloc::heap_allocator<odd_bytes, Heap>{});
    expect_no_arrays<page_of_bytes>(binmalloc::heap_allocator<page_of_bytes, Heap>{});
    binmalloc::basic_arena<Heap, binmalloc::detail::no_lock> arena;
    expect_no_arrays<char>(binmalloc::arena_allocator<char, decltype(arena)>(arena));
    expect_no_arrays<odd_bytes>(binmalloc::arena_allocator<odd_bytes, decltype(arena)>(arena));
}

TEST(AbsurdSizes, container_allocators_throw)
{
    expect_no_arrays_of_any_type<binmalloc::heap>();
    expect_no_arrays_of_any_type<binmalloc::basic_heap<binmalloc::single_cache_policy>>();
    for (const std::size_t bytes : absurd_sizes()) {
        EXPECT_THROW(opaque(binmalloc::allocator<char>{}.allocate_at_least(bytes).ptr),
                     std::bad_alloc);
        EXPECT_THROW(opaque(binmalloc::allocator<double>{}.allocate_at_least(bytes).ptr),
                     std::bad_array_new_length);
    }
}

#if BINMALLOC_HAS_MEMORY_RESOURCE
TEST(AbsurdSizes, memory_resources_throw)
{
    binmalloc::arena arena;
    binmalloc::arena_resource<> of_arena(arena);
    for (std::pmr::memory_resource* const resource :
         {binmalloc::get_memory_resource(), static_cast<std::pmr::memory_resource*>(&of_arena)}) {
        for (const std::size_t size : absurd_sizes()) {
            for (const std::size_t alignment : {1U, 16U, 4096U, 1U << 30})
                EXPECT_THROW(opaque(resource->allocate(size, alignment)), std::bad_alloc) << size;
        }
        std::pmr::vector<std::pmr::string> strings(3, resource);
        EXPECT_THROW(strings.reserve(strings.max_size()), std::bad_alloc);
        EXPECT_THROW(strings[0].reserve(strings[0].max_size()), std::bad_alloc);
        EXPECT_EQ(strings.size(), 3U);
    }
}
#endif

TEST(AbsurdSizes, arenas_and_page_allocators_give_null_and_keep_what_they_have)
{
    binmalloc::arena arena;
    binmalloc::page_allocator pages;
    for (const std::size_t kept : {1 * kib, 100 * kib, 10 * mib}) {
        void* const in_arena = arena.allocate(kept);
        void* const in_pages = pages.allocate(kept);
        fill(in_arena, kept, 1);
        fill(in_pages, kept, 2);
        for (std::size_t size : absurd_sizes()) {
            size = opaque(size);
            EXPECT_EQ(arena.allocate(size), nullptr) << size;
            EXPECT_EQ(arena.allocate(size, 4096), nullptr) << size;
            EXPECT_EQ(arena.allocate_zeroed(size), nullptr) << size;
            EXPECT_EQ(arena.reallocate(in_arena, size), nullptr) << size;
            EXPECT_EQ(pages.allocate(size), nullptr) << size;
            EXPECT_EQ(pages.allocate(size, 1 * mib), nullptr) << size;
            EXPECT_EQ(pages.reallocate(in_pages, size), nullptr) << size;
        }
        EXPECT_TRUE(holds(in_arena, kept, 1));
        EXPECT_TRUE(holds(in_pages, kept, 2));
    }
}

TEST(AbsurdSizes, c_functions_say_enomem_as_glibc_does)
{
    void* const kept = bin_malloc(1000);
    fill(kept, 1000, 1);
    const auto expect_no_memory = [](std::size_t size, const char* what, void* answer) {
        EXPECT_EQ(answer, nullptr) << what << ' ' << size;
        EXPECT_EQ(std::exchange(errno, 0), ENOMEM) << what << ' ' << size;
    };
    errno = 0;
    for (std::size_t size : absurd_sizes()) {
        size = opaque(size);
        expect_no_memory(size, "malloc", bin_malloc(size));
        expect_no_memory(size, "calloc", bin_calloc(1, size));
        expect_no_memory(size, "calloc", bin_calloc(size, 1));
        expect_no_memory(size, "calloc", bin_calloc(size / 3 + 1, 3));
        expect_no_memory(size, "calloc", bin_calloc(size, size));
        expect_no_memory(size, "realloc", bin_realloc(nullptr, size));
        expect_no_memory(size, "realloc", bin_realloc(kept, size));
        expect_no_memory(size, "reallocarray", bin_reallocarray(kept, size / 5 + 1, 5));
        expect_no_memory(size, "reallocarray", bin_reallocarray(kept, size, size));
        expect_no_memory(size, "aligned_alloc", bin_aligned_alloc(32, size));
        expect_no_memory(size, "memalign", bin_memalign(1 * mib, size));
        expect_no_memory(size, "valloc", bin_valloc(size));
        expect_no_memory(size, "pvalloc", bin_pvalloc(size));
        void* untouched = kept;
        EXPECT_EQ(bin_posix_memalign(&untouched, 64, size), ENOMEM) << size;
        EXPECT_EQ(untouched, kept);
        EXPECT_EQ(errno, 0) << "posix_memalign returns its error";
    }
    // Products that wrap to something small.
    const std::size_t half = std::size_t{1} << (std::numeric_limits<std::size_t>::digits / 2);
    expect_no_memory(half, "calloc", bin_calloc(opaque(half), half));
    expect_no_memory(half, "calloc", bin_calloc(opaque(half), half + 1));
    expect_no_memory(half, "reallocarray", bin_reallocarray(kept, opaque(half), half));
    expect_no_memory(half, "reallocarray", bin_reallocarray(nullptr, opaque(half) + 1, half));
    EXPECT_EQ(bin_reallocarray(bin_malloc(10), 0, opaque(SIZE_MAX)), nullptr)
        << "no bytes: it frees";
    EXPECT_EQ(errno, 0);
    void* const empty = bin_calloc(0, opaque(SIZE_MAX));
    EXPECT_NE(empty, nullptr);
    bin_free(empty);
    EXPECT_TRUE(holds(kept, 1000, 1));
    bin_free(kept);
}

} // namespace
