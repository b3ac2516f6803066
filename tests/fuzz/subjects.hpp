// Everything that allocates, under one interface. Alignment 0 stands for the subject's own rule.
#pragma once

#include "input.hpp"

#include <binmalloc/binmalloc.h>
#include <binmalloc/binmalloc.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace binmalloc_fuzz {

[[noreturn]] inline void fail(const char* what)
{
    std::fprintf(stderr, "fuzz: FAILED: %s\n", what);
    std::abort();
}

inline void require(bool condition, const char* what)
{
    if (!condition) fail(what);
}

/// A block, and how many bytes of it may be used.
struct allocation {
    void* address = nullptr;
    std::size_t size = 0;
};

class subject {
public:
    virtual ~subject() = default;

    virtual void* allocate(std::size_t size, std::size_t alignment) = 0;
    virtual void* allocate_zeroed(std::size_t size, std::size_t alignment) = 0;
    virtual allocation allocate_at_least(std::size_t size, std::size_t alignment) = 0;
    virtual void* reallocate(void* block, std::size_t size, std::size_t alignment) = 0;
    virtual void deallocate(void* block) = 0;
    /// With what the allocation was asked for.
    virtual void deallocate(void* block, std::size_t size, std::size_t alignment) = 0;
    virtual std::size_t usable_size(void* block) = 0;
    /// The usable size that a new block for such a request has, 0 where the subject does not say.
    virtual std::size_t good_size(std::size_t size, std::size_t alignment) = 0;
    virtual void purge() = 0;

    /// What a block without a wish is aligned to.
    virtual std::size_t natural_alignment(std::size_t size) { return size > 8 ? 16 : 8; }
    /// Whether reallocate() takes an alignment.
    virtual bool reallocates_aligned() { return true; }
};

template <class Heap>
class heap_subject final : public subject {
public:
    void* allocate(std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? Heap::allocate(size) : Heap::allocate(size, alignment);
    }
    void* allocate_zeroed(std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? Heap::allocate_zeroed(size)
                              : Heap::allocate_zeroed(size, alignment);
    }
    allocation allocate_at_least(std::size_t size, std::size_t alignment) override
    {
        const auto result = alignment == 0 ? Heap::allocate_at_least(size)
                                           : Heap::allocate_at_least(size, alignment);
        return {result.ptr, result.count};
    }
    void* reallocate(void* block, std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? Heap::reallocate(block, size)
                              : Heap::reallocate(block, size, alignment);
    }
    void deallocate(void* block) override { Heap::deallocate(block); }
    void deallocate(void* block, std::size_t size, std::size_t alignment) override
    {
        if (alignment == 0) {
            Heap::deallocate(block, size);
        } else {
            Heap::deallocate(block, size, alignment);
        }
    }
    std::size_t usable_size(void* block) override { return Heap::usable_size(block); }
    std::size_t good_size(std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? Heap::good_size(size) : Heap::good_size(size, alignment);
    }
    void purge() override { Heap::purge(); }
};

/// The process heap through its C functions, each chosen by the request. Those that fail must set
/// errno, those that free must keep it.
class c_subject final : public subject {
public:
    void* allocate(std::size_t size, std::size_t alignment) override
    {
        return checked([&]() -> void* {
            if (alignment == 0) return bin_malloc(size);
            if (alignment == 4 * kib && size % 2 == 0) return bin_valloc(size);
            if (alignment == 4 * kib) return bin_pvalloc(size);
            if (size % 3 == 0) return bin_memalign(alignment, size);
            if (size % 3 == 1 || alignment < sizeof(void*))
                return bin_aligned_alloc(alignment, size);
            void* result = nullptr;
            int error = 0;
            keeping_errno([&] { error = bin_posix_memalign(&result, alignment, size); });
            errno = error;
            return result;
        });
    }
    void* allocate_zeroed(std::size_t size, std::size_t alignment) override
    {
        if (alignment != 0) return process_.allocate_zeroed(size, alignment);
        return checked(
            [&] { return size % 24 == 0 ? bin_calloc(size / 24, 24) : bin_calloc(1, size); });
    }
    allocation allocate_at_least(std::size_t size, std::size_t alignment) override
    {
        void* const block = allocate(size, alignment);
        return {block, bin_malloc_usable_size(block)};
    }
    void* reallocate(void* block, std::size_t size, std::size_t) override
    {
        if (size == 0) size = 1; // 0 would free it
        return checked([&] {
            return size % 8 == 0 ? bin_reallocarray(block, size / 8, 8) : bin_realloc(block, size);
        });
    }
    void deallocate(void* block) override
    {
        keeping_errno([&] { bin_free(block); });
    }
    void deallocate(void* block, std::size_t size, std::size_t alignment) override
    {
        keeping_errno([&] {
            if (alignment == 0) {
                bin_free_sized(block, size);
            } else {
                bin_free_aligned_sized(block, alignment, size);
            }
        });
    }
    std::size_t usable_size(void* block) override { return bin_malloc_usable_size(block); }
    std::size_t good_size(std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? bin_malloc_good_size(size) : 0;
    }
    void purge() override { bin_malloc_trim(0); }
    bool reallocates_aligned() override { return false; }

private:
    static constexpr int untouched = 4711;

    template <class Call>
    static void keeping_errno(Call call)
    {
        errno = untouched;
        call();
        require(errno == untouched, "a C function that must keep errno changed it");
    }

    template <class Call>
    static void* checked(Call call)
    {
        errno = 0;
        void* const block = call();
        require(block != nullptr || errno == ENOMEM || errno == EINVAL,
                "a C function failed without an errno");
        return block;
    }

    heap_subject<binmalloc::heap> process_;
};

template <class Arena>
class arena_subject final : public subject {
public:
    void* allocate(std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? arena_.allocate(size) : arena_.allocate(size, alignment);
    }
    void* allocate_zeroed(std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? arena_.allocate_zeroed(size) : arena_.allocate(size, alignment);
    }
    allocation allocate_at_least(std::size_t size, std::size_t alignment) override
    {
        void* const block = allocate(size, alignment);
        return {block, Arena::usable_size(block)};
    }
    void* reallocate(void* block, std::size_t size, std::size_t) override
    {
        return arena_.reallocate(block, size);
    }
    void deallocate(void* block) override { arena_.deallocate(block); }
    void deallocate(void* block, std::size_t, std::size_t) override
    {
        binmalloc::deallocate(block); // which any thread may
    }
    std::size_t usable_size(void* block) override { return Arena::usable_size(block); }
    std::size_t good_size(std::size_t size, std::size_t alignment) override
    {
        return alignment == 0 ? binmalloc::good_size(size) : binmalloc::good_size(size, alignment);
    }
    void purge() override { binmalloc::purge(); }
    bool reallocates_aligned() override { return false; }

    void clear() { arena_.clear(); }

private:
    Arena arena_;
};

class pages_subject final : public subject {
public:
    ~pages_subject() override
    {
        require(pages_.statistics().live == 0, "a page allocator without a span says it has some");
    }
    void* allocate(std::size_t size, std::size_t alignment) override
    {
        return pages_.allocate(size, alignment == 0 ? natural_alignment(size) : alignment);
    }
    void* allocate_zeroed(std::size_t size, std::size_t alignment) override
    {
        bool zeroed = false;
        void* const block =
            pages_.allocate(size, alignment == 0 ? natural_alignment(size) : alignment, &zeroed);
        if (block != nullptr && !zeroed) std::memset(block, 0, size);
        return block;
    }
    allocation allocate_at_least(std::size_t size, std::size_t alignment) override
    {
        void* const block = allocate(size, alignment);
        return {block, pages_.usable_size(block)};
    }
    void* reallocate(void* block, std::size_t size, std::size_t) override
    {
        return pages_.reallocate(block, size);
    }
    void deallocate(void* block) override { pages_.deallocate(block); }
    void deallocate(void* block, std::size_t, std::size_t) override { pages_.deallocate(block); }
    std::size_t usable_size(void* block) override { return pages_.usable_size(block); }
    std::size_t good_size(std::size_t, std::size_t) override { return 0; }
    void purge() override { pages_.purge(); }
    std::size_t natural_alignment(std::size_t) override { return 16 * kib; }
    bool reallocates_aligned() override { return false; }

private:
    binmalloc::page_allocator pages_;
};

// --- the heaps that are nobody else's: what they hold at the end of a script must be nothing

struct odd_sizes {
    static constexpr std::array<std::uint32_t, 8> sizes{4, 8, 24, 48, 136, 1040, 6000, 12304};
};
struct odd_footprint : binmalloc::default_footprint {
    static constexpr std::uint64_t purge_delay_ms = 1;
    static constexpr std::size_t dirty_floor = 64 * kib;
    static constexpr std::size_t dirty_start = 0;
    static constexpr std::size_t dirty_ceiling = 256 * kib;
    static constexpr std::size_t stash_bytes = 1024 * kib;
    static constexpr std::size_t purge_step = 128 * kib;
    static constexpr std::size_t outbox_bytes = 2 * kib;
    static constexpr std::uint32_t outbox_blocks = 5;
};
struct odd_policy : binmalloc::default_policy {
    using size_classes = odd_sizes;
    using footprint = odd_footprint;
};
using odd_heap = binmalloc::basic_heap<odd_policy>;
using single_heap = binmalloc::basic_heap<binmalloc::single_cache_policy>;

// --- nodes of containers

template <std::size_t Size, std::size_t Alignment>
struct alignas(Alignment) node {
    unsigned char bytes[Size];
};

/// One node, by an allocator that knows its type.
struct node_kind {
    std::size_t size;
    std::size_t alignment;
    void* (*allocate)();
    void (*deallocate)(void*);
};

template <class Heap, class Node>
inline constexpr node_kind node_of{
    sizeof(Node), alignof(Node),
    [] { return static_cast<void*>(binmalloc::heap_allocator<Node, Heap>{}.allocate(1)); },
    [](void* p) { binmalloc::heap_allocator<Node, Heap>{}.deallocate(static_cast<Node*>(p), 1); }};

template <class Heap>
inline constexpr std::array<node_kind, 8> nodes_of{
    node_of<Heap, node<4, 4>>,    node_of<Heap, node<8, 8>>,     node_of<Heap, node<24, 8>>,
    node_of<Heap, node<40, 8>>,   node_of<Heap, node<56, 8>>,    node_of<Heap, node<96, 32>>,
    node_of<Heap, node<1000, 8>>, node_of<Heap, node<20000, 16>>};

} // namespace binmalloc_fuzz
