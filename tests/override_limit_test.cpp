// malloc and new at the heap's limit, and near the largest size, where the override replaces them.
#if !defined(BINMALLOC_TEST_NO_OVERRIDE)
#    if defined(_WIN32)
#        define BINMALLOC_OVERRIDE_NEW_DELETE // malloc stays the C library's
#    else
#        define BINMALLOC_OVERRIDE_MALLOC
#    endif
#endif
#include <binmalloc/binmalloc.hpp>

#include "support/heap.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/scale.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#    include <malloc.h>
#endif

namespace {

using namespace binmalloc_test;

constexpr std::align_val_t cache_line{64};

/// All forms of new, by number.
constexpr std::size_t form_count = 8;
constexpr bool throws(std::size_t form) { return form % 2 == 0; }
void* create(std::size_t form, std::size_t size)
{
    switch (form) {
    case 0: return ::operator new(size);
    case 1: return ::operator new(size, std::nothrow);
    case 2: return ::operator new[](size);
    case 3: return ::operator new[](size, std::nothrow);
    case 4: return ::operator new(size, cache_line);
    case 5: return ::operator new(size, cache_line, std::nothrow);
    case 6: return ::operator new[](size, cache_line);
    default: return ::operator new[](size, cache_line, std::nothrow);
    }
}
void destroy(std::size_t form, void* block)
{
    if (form >= 4)
        ::operator delete(block, cache_line);
    else
        ::operator delete(block);
}

void* reserve = nullptr;
int handler_calls = 0;

class OverrideLimit : public testing::Test {
protected:
    void SetUp() override
    {
        void* const block = opaque(::operator new(5 * mib));
        const bool is_ours = binmalloc::statistics().live >= 5 * mib;
        ::operator delete(block);
        if (sanitized) GTEST_SKIP() << "the tool replaces malloc itself";
        ASSERT_TRUE(is_ours) << "new is not the heap";
        handler_calls = 0;
    }
    void TearDown() override
    {
        std::set_new_handler(nullptr);
        binmalloc::set_limit(SIZE_MAX);
        binmalloc::deallocate(std::exchange(reserve, nullptr));
    }

    /// Room for so many more bytes than are in use.
    static void leave(std::size_t room)
    {
        binmalloc::set_limit(heap::held_bytes_after_purge() + room);
    }
};

TEST_F(OverrideLimit, new_throws_or_gives_null)
{
    leave(8 * mib);
    for (std::size_t form = 0; form < form_count; ++form) {
        if (throws(form)) {
            EXPECT_THROW(opaque(create(form, 12 * mib)), std::bad_alloc) << form;
        } else {
            EXPECT_EQ(opaque(create(form, 12 * mib)), nullptr) << form;
        }
        void* const block = opaque(create(form, 4 * mib));
        EXPECT_NE(block, nullptr) << form;
        destroy(form, block);
    }
}

TEST_F(OverrideLimit, a_new_handler_that_frees_memory_lets_new_succeed)
{
    for (std::size_t form = 0; form < form_count; ++form) {
        reserve = binmalloc::allocate(16 * mib);
        ASSERT_NE(reserve, nullptr);
        handler_calls = 0;
        leave(4 * mib);
        std::set_new_handler([] {
            ++handler_calls;
            if (reserve == nullptr) throw std::bad_alloc();
            binmalloc::deallocate(std::exchange(reserve, nullptr));
        });
        void* const block = opaque(create(form, 12 * mib));
        EXPECT_NE(block, nullptr) << form;
        EXPECT_EQ(handler_calls, 1) << form;
        EXPECT_LE(heap::held_bytes(), binmalloc::limit());
        destroy(form, block);
        binmalloc::set_limit(SIZE_MAX);
    }
}

TEST_F(OverrideLimit, a_new_handler_may_raise_the_limit)
{
    for (std::size_t form = 0; form < form_count; ++form) {
        handler_calls = 0;
        leave(4 * mib);
        std::set_new_handler([] {
            ++handler_calls;
            binmalloc::set_limit(binmalloc::limit() + 5 * mib);
        });
        void* const block = opaque(create(form, 16 * mib));
        EXPECT_NE(block, nullptr) << form;
        EXPECT_GE(handler_calls, 2) << form;
        EXPECT_LE(handler_calls, 4) << form;
        destroy(form, block);
    }
}

#if !defined(_WIN32)
TEST_F(OverrideLimit, malloc_says_enomem)
{
    leave(8 * mib);
    const auto expect_no_memory = [](const char* what, void* answer) {
        EXPECT_EQ(answer, nullptr) << what;
        EXPECT_EQ(std::exchange(errno, 0), ENOMEM) << what;
    };
    void* const kept = std::malloc(4 * mib);
    ASSERT_NE(kept, nullptr);
    fill(kept, 4 * mib, 1);
    errno = 0;
    expect_no_memory("malloc", opaque(std::malloc(12 * mib)));
    expect_no_memory("calloc", opaque(std::calloc(12, 1 * mib)));
    expect_no_memory("realloc", std::realloc(opaque(kept), 20 * mib));
    expect_no_memory("aligned_alloc", opaque(std::aligned_alloc(4096, 12 * mib)));
    EXPECT_TRUE(holds(kept, 4 * mib, 1));
    std::free(kept);
}
#endif

#if defined(__linux__)
TEST_F(OverrideLimit, answers_near_the_largest_size_are_glibcs)
{
    constexpr std::size_t largest = PTRDIFF_MAX;
    void* const kept = std::malloc(100);
    fill(kept, 100, 1);
    errno = 0;
    const auto expect_error = [](int error, const char* what, std::size_t size, void* answer) {
        EXPECT_EQ(answer, nullptr) << what << ' ' << size;
        EXPECT_EQ(std::exchange(errno, 0), error) << what << ' ' << size;
    };
    for (std::size_t size : {largest - 4096, largest - 1, largest, largest + 1, SIZE_MAX - 4096,
                             SIZE_MAX - 64, SIZE_MAX - 1, SIZE_MAX}) {
        size = opaque(size);
        expect_error(ENOMEM, "malloc", size, std::malloc(size));
        expect_error(ENOMEM, "calloc", size, std::calloc(size, 1));
        expect_error(ENOMEM, "calloc", size, std::calloc(size / 2, 3));
        expect_error(ENOMEM, "realloc", size, std::realloc(nullptr, size));
        expect_error(ENOMEM, "realloc", size, std::realloc(opaque(kept), size));
        expect_error(ENOMEM, "reallocarray", size, ::reallocarray(opaque(kept), size / 4 + 1, 4));
        expect_error(ENOMEM, "aligned_alloc", size, std::aligned_alloc(64, size));
        expect_error(ENOMEM, "memalign", size, ::memalign(64, size));
        expect_error(ENOMEM, "valloc", size, ::valloc(size));
        expect_error(ENOMEM, "pvalloc", size, ::pvalloc(size));
        void* untouched = kept;
        EXPECT_EQ(::posix_memalign(&untouched, 64, size), ENOMEM) << size;
        EXPECT_EQ(untouched, kept);
        EXPECT_EQ(errno, 0) << "posix_memalign leaves errno alone";
        for (std::size_t form = 0; form < form_count; ++form) {
            if (throws(form)) {
                EXPECT_THROW(opaque(create(form, size)), std::bad_alloc) << form << ' ' << size;
            } else {
                EXPECT_EQ(create(form, size), nullptr) << form << ' ' << size;
            }
        }
        errno = 0; // what new leaves there is nobody's business
    }
    // Arrays whose bytes no size can say; which bad_alloc it is, the compiler decides.
    EXPECT_THROW(opaque(new double[opaque(SIZE_MAX / 4)]), std::bad_alloc);
    EXPECT_EQ(new (std::nothrow) double[opaque(largest / 8)], nullptr);
    // Alignments no address has.
    expect_error(ENOMEM, "memalign", 1, ::memalign(opaque(largest / 2 + 1), 1));
    EXPECT_EQ(::malloc_usable_size(kept), binmalloc::usable_size(kept));
    EXPECT_TRUE(holds(kept, 100, 1));
    std::free(kept);
}
#endif

} // namespace
