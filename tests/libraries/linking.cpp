// linking new|malloc: all that an allocator must serve, in a program whose new, or malloc too, is
// binmalloc's. linking.sh builds it with one set of flags after another.
#include <binmalloc/functions.hpp>

#include "../support/pattern.hpp"

#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using binmalloc_test::opaque;

bool malloc_is_ours = false;
int failures = 0;

void expect(bool condition, const char* what)
{
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    ++failures;
}

// Before main, and after it.
const std::vector<std::string> constructed_early(100, std::string(100, 'e'));
struct checked_late {
    std::list<std::string> texts{100, std::string(50, 'l')};
    ~checked_late()
    {
        texts.emplace_back(1000, 'l');
        if (texts.size() != 101 || constructed_early[99] != std::string(100, 'e')) std::abort();
    }
} late;

void new_and_delete()
{
    for (const std::size_t size : {1, 24, 1000, 20000, 300000, 6 << 20}) {
        void* const block = ::operator new(size);
        expect(binmalloc::usable_size(block) == binmalloc::good_size(size), "new is binmalloc's");
        std::memset(block, 1, size);
        ::operator delete(block);
    }
    std::string text;
    text.append(1000, 't'); // in the C++ runtime library, where that is not inlined
    expect(binmalloc::usable_size(text.data()) == binmalloc::good_size(text.capacity() + 1),
           "whose new the C++ runtime library uses");
    struct alignas(4096) page {
        char bytes[4096];
    };
    const auto pages = std::make_unique<page[]>(3);
    expect(reinterpret_cast<std::uintptr_t>(pages.get()) % 4096 == 0, "aligned new");
    void* const none = ::operator new(opaque(SIZE_MAX / 4), std::nothrow);
    expect(opaque(none) == nullptr, "nothrow new");
}

void malloc_family()
{
    auto* block = static_cast<unsigned char*>(std::calloc(250, 4));
    expect(block != nullptr && block[0] == 0 && block[999] == 0, "calloc");
    const bool ours = malloc_usable_size(block) == 1040; // of a size class; glibc gives 1000
    expect(ours == malloc_is_ours, "whose malloc it is");
    block[999] = 9;
    block = static_cast<unsigned char*>(std::realloc(block, 100000));
    expect(block != nullptr && block[999] == 9, "realloc");
    std::free(block);
    void* aligned = nullptr;
    expect(posix_memalign(&aligned, 4096, 100) == 0, "posix_memalign");
    std::free(aligned);
    aligned = std::aligned_alloc(256, 512);
    expect(reinterpret_cast<std::uintptr_t>(aligned) % 256 == 0, "aligned_alloc");
    std::free(aligned);
    errno = 0;
    void* const none = std::malloc(opaque(SIZE_MAX / 2));
    expect(opaque(none) == nullptr && errno == ENOMEM, "malloc without memory");
    char* const line = strdup("allocated inside the C library");
    expect(std::strlen(line) == 30, "strdup");
    expect((malloc_usable_size(line) == 32) == ours, "whose malloc the C library uses"); // or 40
    std::free(line);
}

void containers()
{
    std::map<int, std::string> names;
    std::vector<int> numbers;
    for (int i = 0; i < 3000; ++i) {
        names.emplace(i * 7919 % 3001, std::to_string(i));
        numbers.push_back(i);
    }
    expect(names.size() == 3000 && names.at(7919 % 3001) == "1" && numbers[2999] == 2999,
           "containers");
}

void exceptions()
{
    bool caught = false;
    try {
        opaque(::operator new(opaque(SIZE_MAX / 4)));
    } catch (const std::bad_alloc&) {
        caught = true;
    }
    expect(caught, "bad_alloc");
    try {
        const std::string text(1000, 't');
        throw std::runtime_error(text);
    } catch (const std::exception& error) {
        expect(std::strlen(error.what()) == 1000, "an exception's text");
    }
}

/// Frees and allocates when its thread ends.
struct last_words {
    std::vector<std::string> words;
    ~last_words()
    {
        words.emplace_back(500, 'w');
        words.clear();
    }
};
thread_local last_words words;

void in_a_thread()
{
    words.words.assign(10, std::string(100, 'w'));
    containers();
    exceptions();
    malloc_family();
}

void threads()
{
    // Runs in each of its rounds, also after the heap's own hook.
    pthread_key_t key{};
    static pthread_key_t* const again = &key;
    pthread_key_create(&key, [](void* value) {
        void* const next = ::operator new(100);
        ::operator delete(value);
        static thread_local int rounds = 0;
        if (++rounds < 3) {
            pthread_setspecific(*again, next);
        } else {
            ::operator delete(next);
        }
    });
    std::vector<std::thread> started;
    for (int i = 0; i < 4; ++i) {
        started.emplace_back([&key] {
            pthread_setspecific(key, ::operator new(100));
            in_a_thread();
        });
    }
    for (std::thread& thread : started) thread.join();
    pthread_key_delete(key);
}

void child()
{
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        containers();
        std::thread(in_a_thread).join();
        _exit(failures);
    }
    int status = -1;
    expect(waitpid(pid, &status, 0) == pid && status == 0, "the child");
}

} // namespace

int main(int, char** argv)
{
    alarm(60);
    malloc_is_ours = std::strcmp(argv[1], "malloc") == 0;
    new_and_delete();
    malloc_family();
    containers();
    exceptions();
    threads();
    child();
    threads();
    return failures;
}
