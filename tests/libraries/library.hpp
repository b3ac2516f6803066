// What the programs here share: checks that end the process, and a library that is opened and
// closed.
#pragma once

#include "../support/process.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace binmalloc_test {

/// Ends the process with a line on stderr if the condition does not hold.
inline void expect(bool condition, const char* what)
{
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::_Exit(1);
}

inline void expect_at_most(std::size_t value, std::size_t limit, const char* what)
{
    if (value <= limit) return;
    std::fprintf(stderr, "failed: %s: %zu, at most %zu\n", what, value, limit);
    std::_Exit(1);
}

template <class Function>
Function* find_function(void* handle, const char* name)
{
    void* const symbol = dlsym(handle, name);
    expect(symbol != nullptr, name);
    Function* function = nullptr;
    std::memcpy(&function, &symbol, sizeof function);
    return function;
}

/// A library opened privately. close() proves that it is gone, so that what is tested after it
/// runs without the library's code and data.
class library {
public:
    explicit library(const char* path) : path_(path), handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL))
    {
        if (handle_ == nullptr) expect(false, dlerror());
    }
    ~library()
    {
        if (handle_ != nullptr) close();
    }
    library(const library&) = delete;
    library& operator=(const library&) = delete;

    template <class Function>
    Function* find(const char* name) const
    {
        return find_function<Function>(handle_, name);
    }

    void close()
    {
        expect(dlclose(handle_) == 0, "dlclose");
        handle_ = nullptr;
        expect(!is_loaded(path_.c_str()), "the closed library is unloaded");
    }

    static bool is_loaded(const char* path)
    {
        void* const handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
        if (handle == nullptr) return false;
        dlclose(handle);
        return true;
    }

private:
    std::string path_;
    void* handle_;
};

/// How many more pthread keys the process can create.
inline std::size_t available_keys()
{
    std::vector<pthread_key_t> keys;
    for (pthread_key_t key{}; pthread_key_create(&key, nullptr) == 0;) keys.push_back(key);
    for (const pthread_key_t key : keys) pthread_key_delete(key);
    return keys.size();
}

/// Runs `body` in a forked child, which must come to its end.
template <class Body>
void run_forked(Body body)
{
    const pid_t child = fork();
    expect(child >= 0, "fork");
    if (child == 0) {
        alarm(20);
        body();
        _exit(0);
    }
    int status = -1;
    expect(waitpid(child, &status, 0) == child && status == 0, "the forked child's end");
}

/// The lines of /proc/self/maps.
inline std::size_t mapping_count()
{
    std::FILE* const file = std::fopen("/proc/self/maps", "r");
    expect(file != nullptr, "/proc/self/maps");
    std::size_t lines = 0;
    for (int c = 0; (c = std::fgetc(file)) != EOF;) lines += c == '\n' ? 1 : 0;
    std::fclose(file);
    return lines;
}

/// What must not grow as libraries come and go.
struct footprint {
    std::size_t resident = memory_in_use().resident;
    std::size_t mappings = mapping_count();

    /// Ends the process if more came since `start` than `rounds` may add.
    void expect_bounded(const footprint& start, std::size_t rounds, std::size_t bytes_per_round,
                        std::size_t new_mappings) const
    {
        const auto growth = [](std::size_t from, std::size_t to) {
            return to > from ? to - from : 0;
        };
        std::fprintf(stderr, "%zu rounds: %zu bytes, %zu mappings more\n", rounds,
                     growth(start.resident, resident), growth(start.mappings, mappings));
        expect_at_most(growth(start.resident, resident), rounds * bytes_per_round,
                       "growth of resident memory");
        expect_at_most(growth(start.mappings, mappings), new_mappings, "new mappings");
    }
};

} // namespace binmalloc_test
