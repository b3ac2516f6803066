// The override: every operator new and delete, malloc's family, and the libraries that live on
// them.
//
// Where the build replaces malloc for the whole program already, or a sanitizer must keep its own,
// it defines BINMALLOC_TEST_NO_OVERRIDE.
#if !defined(BINMALLOC_TEST_NO_OVERRIDE)
#    if defined(_WIN32)
#        define BINMALLOC_OVERRIDE_NEW_DELETE // malloc stays the C library's
#    else
#        define BINMALLOC_OVERRIDE_MALLOC
#    endif
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__SANITIZE_ADDRESS__)
// GCC bug 105562: a false alarm in <regex> under this sanitizer.
#    pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <binmalloc/binmalloc.hpp>

#include "support/good_size.hpp"
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
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <locale>
#include <map>
#include <memory>
#include <new>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#if defined(__linux__)
#    include <malloc.h>
#    include <search.h>
#    include <sys/resource.h>
#    include <unistd.h>
#endif

#if !defined(__cpp_sized_deallocation)
// Older compilers do not declare these, but libraries built by others call them.
void operator delete(void* block, std::size_t size) noexcept;
void operator delete[](void* block, std::size_t size) noexcept;
void operator delete(void* block, std::size_t size, std::align_val_t alignment) noexcept;
void operator delete[](void* block, std::size_t size, std::align_val_t alignment) noexcept;
#endif

namespace {

using namespace binmalloc_test;

[[maybe_unused]] constexpr int untouched = 4711; // where there is no malloc to override
constexpr std::size_t too_much = SIZE_MAX / 2 + 1;

/// Skips where a sanitizer's own malloc is in place: it keeps other contracts on purpose.
class Override : public testing::Test {
protected:
    void SetUp() override
    {
        if (sanitized) GTEST_SKIP() << "the sanitizer's malloc is in place";
    }
};

using OverrideNew = Override;
using OverrideMalloc = Override;
using OverrideLibrary = Override;

struct alignas(128) wide {
    unsigned char bytes[128];
};

/// Fills a block that the heap must know, to its usable end.
void expect_of_heap(void* block, std::size_t size, std::size_t alignment)
{
    ASSERT_NE(block, nullptr);
    ASSERT_TRUE(is_aligned(block, alignment)) << "size " << size;
    const std::size_t usable = binmalloc::usable_size(block);
    ASSERT_GE(usable, size);
    fill(block, usable, size);
    ASSERT_TRUE(holds(block, usable, size));
}

// --- operator new and delete

struct new_form {
    const char* name;
    std::size_t alignment;
    std::function<void*(std::size_t)> allocate;
};

struct delete_form {
    const char* name;
    bool aligned;
    std::function<void(void*, std::size_t)> free;
};

constexpr std::align_val_t alignment_of_forms{256};

const std::vector<new_form>& new_forms()
{
    constexpr std::size_t natural = 16;
    constexpr auto aligned = static_cast<std::size_t>(alignment_of_forms);
    static const std::vector<new_form> forms = {
        {"new", natural, [](std::size_t n) { return ::operator new(n); }},
        {"new[]", natural, [](std::size_t n) { return ::operator new[](n); }},
        {"new nothrow", natural, [](std::size_t n) { return ::operator new(n, std::nothrow); }},
        {"new[] nothrow", natural, [](std::size_t n) { return ::operator new[](n, std::nothrow); }},
        {"new aligned", aligned,
         [](std::size_t n) { return ::operator new(n, alignment_of_forms); }},
        {"new[] aligned", aligned,
         [](std::size_t n) { return ::operator new[](n, alignment_of_forms); }},
        {"new aligned nothrow", aligned,
         [](std::size_t n) { return ::operator new(n, alignment_of_forms, std::nothrow); }},
        {"new[] aligned nothrow", aligned,
         [](std::size_t n) { return ::operator new[](n, alignment_of_forms, std::nothrow); }},
    };
    return forms;
}

const std::vector<delete_form>& delete_forms()
{
    static const std::vector<delete_form> forms = {
        {"delete", false, [](void* p, std::size_t) { ::operator delete(p); }},
        {"delete[]", false, [](void* p, std::size_t) { ::operator delete[](p); }},
        {"delete sized", false, [](void* p, std::size_t n) { ::operator delete(p, n); }},
        {"delete[] sized", false, [](void* p, std::size_t n) { ::operator delete[](p, n); }},
        {"delete nothrow", false, [](void* p, std::size_t) { ::operator delete(p, std::nothrow); }},
        {"delete[] nothrow", false,
         [](void* p, std::size_t) { ::operator delete[](p, std::nothrow); }},
        {"delete aligned", true,
         [](void* p, std::size_t) { ::operator delete(p, alignment_of_forms); }},
        {"delete[] aligned", true,
         [](void* p, std::size_t) { ::operator delete[](p, alignment_of_forms); }},
        {"delete aligned sized", true,
         [](void* p, std::size_t n) { ::operator delete(p, n, alignment_of_forms); }},
        {"delete[] aligned sized", true,
         [](void* p, std::size_t n) { ::operator delete[](p, n, alignment_of_forms); }},
        {"delete aligned nothrow", true,
         [](void* p, std::size_t) { ::operator delete(p, alignment_of_forms, std::nothrow); }},
        {"delete[] aligned nothrow", true,
         [](void* p, std::size_t) { ::operator delete[](p, alignment_of_forms, std::nothrow); }},
    };
    return forms;
}

TEST_F(OverrideNew, every_form_of_new_pairs_with_every_form_of_delete)
{
    for (const new_form& create : new_forms()) {
        for (const delete_form& destroy : delete_forms()) {
            // An aligned delete may rely on the alignment; a plain one must take every block.
            if (destroy.aligned && create.alignment <= 16) continue;
            for (const std::size_t size : {0UL, 1UL, 8UL, 24UL, 1000UL, 20000UL, 3000000UL}) {
                SCOPED_TRACE(std::string(create.name) + " / " + destroy.name + ", size "
                             + std::to_string(size));
                void* const block = opaque(create.allocate(size));
                expect_of_heap(block, size,
                               size >= 16 || create.alignment > 16 ? create.alignment : 8);
                destroy.free(block, size);
            }
            destroy.free(nullptr, 0);
        }
    }
}

TEST_F(OverrideNew, new_expressions)
{
    const auto one = std::make_unique<std::string>("a string that is too long to be stored inside");
    const auto many = std::make_unique<std::string[]>(100);
    const auto lines = std::make_unique<wide[]>(10);
    EXPECT_EQ(binmalloc::usable_size(one.get()), binmalloc::good_size(sizeof(std::string)));
    EXPECT_GE(binmalloc::usable_size(one->data()), one->size() + 1);
    EXPECT_TRUE(is_aligned(lines.get(), alignof(wide)));
    EXPECT_GE(binmalloc::usable_size(lines.get()), 10 * sizeof(wide));
}

#if !defined(_WIN32)
TEST_F(OverrideNew, blocks_of_new_and_malloc_and_the_heap_are_the_same)
{
    std::free(opaque(::operator new(100)));
    std::free(opaque(::operator new[](100, alignment_of_forms)));
    ::operator delete(opaque(std::malloc(100)));
    binmalloc::deallocate(opaque(::operator new(100)));
    binmalloc::deallocate(opaque(std::malloc(100)));
    std::free(opaque(binmalloc::allocate(100)));
    ::operator delete(opaque(binmalloc::allocate(100)));
    void* const grown = std::realloc(opaque(::operator new(100)), 100000);
    ASSERT_NE(grown, nullptr);
    ::operator delete(opaque(grown));
}
#endif

// The new-handler. Each form that throws runs the loop of [new.delete.single].

int handler_calls = 0;
[[maybe_unused]] void* handler_reserve = nullptr;

struct give_up : std::bad_alloc {};

class OverrideNewHandler : public Override {
protected:
    void SetUp() override
    {
        Override::SetUp();
        handler_calls = 0;
    }
    void TearDown() override { std::set_new_handler(nullptr); }
};

TEST_F(OverrideNewHandler, without_one_new_throws_bad_alloc_and_nothrow_gives_null)
{
    std::set_new_handler(nullptr);
    for (const new_form& form : new_forms()) {
        SCOPED_TRACE(form.name);
        for (const std::size_t size :
             {opaque(SIZE_MAX), opaque(too_much), opaque(SIZE_MAX - 255)}) {
            if (std::strstr(form.name, "nothrow") != nullptr) {
                EXPECT_EQ(form.allocate(size), nullptr);
            } else {
                EXPECT_THROW(form.allocate(size), std::bad_alloc);
            }
        }
    }
}

TEST_F(OverrideNewHandler, is_called_until_it_throws)
{
    std::set_new_handler([] {
        if (++handler_calls == 5) throw give_up();
    });
    for (const new_form& form : new_forms()) {
        SCOPED_TRACE(form.name);
        handler_calls = 0;
        if (std::strstr(form.name, "nothrow") != nullptr) {
            EXPECT_EQ(form.allocate(opaque(too_much)), nullptr);
        } else {
            EXPECT_THROW(form.allocate(opaque(too_much)), give_up);
        }
        EXPECT_EQ(handler_calls, 5);
    }
}

TEST_F(OverrideNewHandler, that_removes_itself_ends_the_loop)
{
    for (const new_form& form : new_forms()) {
        SCOPED_TRACE(form.name);
        handler_calls = 0;
        std::set_new_handler([] {
            if (++handler_calls == 3) std::set_new_handler(nullptr);
        });
        if (std::strstr(form.name, "nothrow") != nullptr) {
            EXPECT_EQ(form.allocate(opaque(too_much)), nullptr);
        } else {
            EXPECT_THROW(form.allocate(opaque(too_much)), std::bad_alloc);
        }
        EXPECT_EQ(handler_calls, 3);
    }
}

#if defined(__linux__)
TEST_F(OverrideNewHandler, that_frees_memory_lets_new_succeed)
{
    if (emulated) GTEST_SKIP() << "qemu knows no limit of address space";
    handler_reserve = std::malloc(1024 * mib);
    ASSERT_NE(handler_reserve, nullptr);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
    rlimit tight = before;
    tight.rlim_cur = memory_in_use().address_space + 128 * mib;
    std::set_new_handler([] {
        ++handler_calls;
        if (handler_reserve == nullptr) throw give_up();
        std::free(std::exchange(handler_reserve, nullptr));
        binmalloc::purge();
    });
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &tight), 0);
    void* block = nullptr;
    try {
        block = ::operator new(512 * mib);
    } catch (const std::bad_alloc&) {}
    ::setrlimit(RLIMIT_AS, &before);
    EXPECT_NE(block, nullptr);
    EXPECT_EQ(handler_calls, 1);
    ::operator delete(block);
    std::free(std::exchange(handler_reserve, nullptr));
}

TEST_F(OverrideMalloc, running_into_a_limit_is_enomem_and_not_the_end)
{
    if (emulated) GTEST_SKIP() << "qemu knows no limit of address space";
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
    rlimit tight = before;
    tight.rlim_cur = memory_in_use().address_space + 64 * mib;
    std::vector<void*> blocks;
    blocks.reserve(100000);
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &tight), 0);
    errno = untouched;
    void* block = nullptr;
    while (blocks.size() < blocks.capacity() && (block = std::malloc(10000)) != nullptr)
        blocks.push_back(block);
    const int error = errno;
    ::setrlimit(RLIMIT_AS, &before);
    EXPECT_LT(blocks.size(), blocks.capacity()) << "the limit was never reached";
    EXPECT_EQ(error, ENOMEM);
    for (void* const one : blocks) std::free(one);
    block = std::malloc(1 * mib);
    EXPECT_NE(block, nullptr);
    std::free(block);
}
#endif

// --- malloc and its family

#if !defined(_WIN32)
TEST_F(OverrideMalloc, is_the_heap)
{
    for (std::size_t size = 0; size <= 40 * kib; size += size / 8 + 1) {
        errno = untouched;
        void* const block = opaque(std::malloc(size));
        expect_of_heap(block, size, size >= 16 ? 16 : 8);
        ASSERT_TRUE(is_good(binmalloc::usable_size(block), binmalloc::good_size(size))) << size;
        std::free(block);
        ASSERT_EQ(errno, untouched);
    }
}

TEST_F(OverrideMalloc, calloc_realloc_and_aligned_alloc_are_the_heap)
{
    for (int round = 0; round < 3; ++round) {
        void* const zeroed = opaque(std::calloc(100, 30));
        ASSERT_TRUE(all_zero(zeroed, 3000));
        expect_of_heap(zeroed, 3000, 16);
        fill(zeroed, 3000, 1);
        void* const grown = std::realloc(zeroed, 300000);
        ASSERT_NE(grown, nullptr);
        ASSERT_TRUE(holds_prefix(grown, 3000, 1));
        void* const shrunk = std::realloc(grown, 24);
        ASSERT_NE(shrunk, nullptr);
        ASSERT_TRUE(holds_prefix(shrunk, 24, 1));
        expect_of_heap(shrunk, 24, 16);
        std::free(shrunk);
        void* const aligned = opaque(std::aligned_alloc(4096, 8192));
        expect_of_heap(aligned, 8192, 4096);
        std::free(aligned);
    }
}

TEST_F(OverrideMalloc, failures_set_errno)
{
    const auto expect_error = [](int error, const char* what, const std::function<void*()>& call) {
        errno = untouched;
        EXPECT_EQ(call(), nullptr) << what;
        EXPECT_EQ(errno, error) << what;
    };
    expect_error(ENOMEM, "malloc", [] { return std::malloc(opaque(too_much)); });
    expect_error(ENOMEM, "calloc", [] { return std::calloc(opaque(SIZE_MAX / 4), 8); });
    expect_error(ENOMEM, "realloc", [] { return std::realloc(nullptr, opaque(too_much)); });
    expect_error(ENOMEM, "aligned_alloc", [] { return std::aligned_alloc(64, opaque(too_much)); });
    expect_error(EINVAL, "aligned_alloc",
                 [] { return std::aligned_alloc(opaque(std::size_t{48}), 96); });
    void* const block = std::malloc(100);
    fill(block, 100, 1);
    expect_error(ENOMEM, "realloc", [&] { return std::realloc(block, opaque(too_much)); });
    EXPECT_TRUE(holds(block, 100, 1));
    std::free(block);
}
#endif

#if defined(__linux__)
TEST_F(OverrideMalloc, the_platforms_own_functions_are_the_heap)
{
    void* block = nullptr;
    ASSERT_EQ(::posix_memalign(&block, 1024, 100), 0);
    expect_of_heap(block, 100, 1024);
    EXPECT_EQ(::malloc_usable_size(block), binmalloc::usable_size(block));
    std::free(block);
    EXPECT_EQ(::posix_memalign(&block, opaque(std::size_t{3}), 100), EINVAL);
    EXPECT_EQ(::posix_memalign(&block, 64, opaque(too_much)), ENOMEM);
    block = opaque(::memalign(512, 100));
    expect_of_heap(block, 100, 512);
    std::free(block);
    block = opaque(::valloc(100));
    expect_of_heap(block, 100, 4096);
    std::free(block);
    block = opaque(::pvalloc(100));
    expect_of_heap(block, 4096, 4096);
    std::free(block);
    block = opaque(::reallocarray(nullptr, 100, 10));
    expect_of_heap(block, 1000, 16);
    errno = untouched;
    EXPECT_EQ(::reallocarray(opaque(block), opaque(SIZE_MAX / 2), 4), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    std::free(block);
    EXPECT_EQ(::malloc_usable_size(nullptr), 0U);
    ::malloc_trim(0);
}
#endif

TEST_F(OverrideNew, threads_exchange_blocks)
{
    std::vector<std::atomic<char*>> slots(64);
    run_threads(8, [&](std::size_t me) {
        random_source random(seed() + me);
        for (std::size_t step = 0; step < scaled(20000); ++step) {
            auto* const mine = new char[1 + random.size_up_to(2000)];
            *mine = 1;
            delete[] slots[random.below(slots.size())].exchange(mine);
        }
    });
    for (std::atomic<char*>& slot : slots) delete[] slot.load();
}

// --- libraries above it

TEST_F(OverrideLibrary, standard_containers_and_strings)
{
    std::map<std::string, std::vector<std::string>> words;
    std::unordered_map<int, std::shared_ptr<std::string>> shared;
    for (int i = 0; i < 3000; ++i) {
        const std::string key =
            "a key long enough to need a block of its own, number " + std::to_string(i % 100);
        words[key].push_back(std::string(static_cast<std::size_t>(i), 'x'));
        shared[i] = std::make_shared<std::string>(key);
    }
    std::size_t total = 0;
    for (const auto& [key, list] : words) {
        for (const std::string& word : list) total += word.size();
    }
    EXPECT_EQ(total, 3000U * 2999U / 2);
    EXPECT_EQ(*shared.at(2999), words.rbegin()->first);
}

TEST_F(OverrideLibrary, streams_and_locales)
{
    std::ostringstream out;
    out.imbue(std::locale::classic());
    for (int i = 0; i < 1000; ++i) out << std::setw(8) << i << ' ' << i * 0.5 << '\n';
    std::istringstream in(out.str());
    int number = -1;
    double half = -1;
    int lines = 0;
    while (in >> number >> half) {
        ASSERT_EQ(number, lines++);
        ASSERT_EQ(half, number * 0.5);
    }
    EXPECT_EQ(lines, 1000);
    const std::locale combined(std::locale::classic(), new std::numpunct<char>);
    EXPECT_TRUE(std::has_facet<std::numpunct<char>>(combined));
    std::cout << std::flush;
}

TEST_F(OverrideLibrary, exceptions_in_flight)
{
    const std::function<int(int)> dive = [&](int depth) -> int {
        if (depth == 0)
            throw std::runtime_error(
                "a message that is too long for any small buffer there may be");
        return dive(depth - 1) + 1;
    };
    std::vector<std::exception_ptr> kept;
    for (int i = 0; i < 200; ++i) {
        try {
            dive(i % 20);
        } catch (const std::runtime_error& error) {
            EXPECT_EQ(std::strncmp(error.what(), "a message", 9), 0);
            kept.push_back(std::current_exception());
        }
    }
    std::thread([&] { kept.clear(); }).join();
}

TEST_F(OverrideLibrary, regular_expressions)
{
    const std::regex expression(R"((\w+)@(\w+)\.(com|org))");
    std::smatch match;
    const std::string text = "write to someone@example.org, please";
    ASSERT_TRUE(std::regex_search(text, match, expression));
    EXPECT_EQ(match.str(2), "example");
    EXPECT_EQ(std::regex_replace(text, expression, "$1"), "write to someone, please");
}

// libstdc++'s call_once needs g++'s thread_local there.
#if !(defined(_WIN32) && defined(__clang__))

TEST_F(OverrideLibrary, futures_and_threads)
{
    std::vector<std::future<std::string>> results;
    for (int i = 0; i < 50; ++i) {
        results.push_back(std::async(std::launch::async, [i] {
            return std::string(static_cast<std::size_t>(i) * 100, 'y');
        }));
    }
    for (int i = 0; i < 50; ++i)
        EXPECT_EQ(results[static_cast<std::size_t>(i)].get().size(),
                  static_cast<std::size_t>(i) * 100);
    std::promise<std::vector<int>> promise;
    auto future = promise.get_future();
    std::thread([&] { promise.set_value(std::vector<int>(1000, 3)); }).join();
    EXPECT_EQ(future.get().size(), 1000U);
}

#endif

TEST_F(OverrideLibrary, file_streams_and_paths)
{
    const std::filesystem::path place = std::filesystem::temp_directory_path();
    std::size_t entries = 0;
    for (const auto& entry : std::filesystem::directory_iterator(place))
        entries += entry.path().empty() ? 0 : 1;
    EXPECT_GE(entries, 0U);
    std::FILE* const file = std::tmpfile();
    ASSERT_NE(file, nullptr);
    for (int i = 0; i < 1000; ++i) std::fprintf(file, "line %d\n", i);
    std::rewind(file);
    char line[64];
    int lines = 0;
    while (std::fgets(line, sizeof line, file) != nullptr) ++lines;
    EXPECT_EQ(lines, 1000);
    std::fclose(file);
}

#if defined(__linux__)
TEST_F(OverrideLibrary, libc_functions_that_return_blocks)
{
    char* const copy = ::strdup("copied");
    EXPECT_STREQ(copy, "copied");
    EXPECT_GE(binmalloc::usable_size(copy), 7U);
    std::free(copy);
    char* const part = ::strndup("copied", 4);
    EXPECT_STREQ(part, "copi");
    std::free(part);

    char* formatted = nullptr;
    EXPECT_EQ(::asprintf(&formatted, "%s %0*d", "number", 1000, 7), 1007);
    EXPECT_GE(binmalloc::usable_size(formatted), 1008U);
    std::free(formatted);

    char* const directory = ::getcwd(nullptr, 0);
    ASSERT_NE(directory, nullptr);
    EXPECT_GT(binmalloc::usable_size(directory), std::strlen(directory));
    std::free(directory);
    char* const root = ::realpath("/", nullptr);
    EXPECT_STREQ(root, "/");
    std::free(root);

    char* buffer = nullptr;
    std::size_t length = 0;
    std::FILE* const memory = ::open_memstream(&buffer, &length);
    ASSERT_NE(memory, nullptr);
    for (int i = 0; i < 5000; ++i) std::fputs("0123456789", memory);
    std::fclose(memory);
    EXPECT_EQ(length, 50000U);
    EXPECT_GT(binmalloc::usable_size(buffer), length);

    std::FILE* const lines = ::fmemopen(buffer, length, "r");
    char* line = static_cast<char*>(std::malloc(1));
    std::size_t capacity = 1;
    EXPECT_EQ(::getline(&line, &capacity, lines), 50000);
    EXPECT_GT(capacity, 50000U);
    std::fclose(lines);
    std::free(line);
    std::free(buffer);
}

TEST_F(OverrideLibrary, qsort_and_search_trees)
{
    std::vector<std::array<int, 8>> rows(20000);
    random_source random(seed());
    for (auto& row : rows) row.fill(static_cast<int>(random.below(1000000)));
    const auto compare = [](const void* a, const void* b) {
        const int left = *static_cast<const int*>(a), right = *static_cast<const int*>(b);
        return left < right ? -1 : left > right ? 1 : 0;
    };
    std::qsort(rows.data(), rows.size(), sizeof rows[0], compare);
    EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));

    void* root = nullptr;
    for (const auto& row : rows) ASSERT_NE(::tsearch(row.data(), &root, compare), nullptr);
    for (const auto& row : rows) ::tdelete(row.data(), &root, compare);
    EXPECT_EQ(root, nullptr);
}

TEST_F(OverrideLibrary, environment_grows)
{
    for (int i = 0; i < 300; ++i) {
        const std::string name = "BINMALLOC_TEST_VARIABLE_" + std::to_string(i);
        ASSERT_EQ(::setenv(name.c_str(), std::string(static_cast<std::size_t>(i), 'v').c_str(), 1),
                  0);
    }
    EXPECT_EQ(std::strlen(std::getenv("BINMALLOC_TEST_VARIABLE_299")), 299U);
    for (int i = 0; i < 300; ++i)
        ::unsetenv(("BINMALLOC_TEST_VARIABLE_" + std::to_string(i)).c_str());
}
#endif

} // namespace
