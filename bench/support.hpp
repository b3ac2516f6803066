// What the programs here have in common: blocks, time, memory, and a line for each result. Nothing
// here allocates but allocate(): what is measured is the program's own use of its malloc.
#pragma once

#include "../tests/support/process.hpp"
#include "../tests/support/random.hpp"

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <thread>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace bench {

using binmalloc_test::kib;
using binmalloc_test::mib;
using binmalloc_test::random_source;

/// A block with all its bytes written.
inline void* allocate(std::size_t size)
{
    void* block = std::malloc(size);
    if (block == nullptr) std::abort();
    return std::memset(block, 1, size);
}

/// A block whose first and last byte are written.
inline void* allocate_touched(std::size_t size)
{
    auto* const block = static_cast<volatile char*>(std::malloc(size));
    if (block == nullptr) std::abort();
    block[0] = 1;
    block[size - 1] = 1;
    return const_cast<char*>(block);
}

inline std::size_t between(random_source& random, std::size_t least, std::size_t most)
{
    return least + random.below(most - least + 1);
}

/// A size from `least` to least * 2^doublings, each doubling as likely as the next.
inline std::size_t spread_out(random_source& random, std::size_t least, std::size_t doublings)
{
    const std::size_t start = least << random.below(doublings);
    return start + random.below(start);
}

/// Sizes by a Pareto law, P(size > s) = (16 / s) ^ 1.1, as its `Count` quantiles: many small ones
/// and a few large ones. Half of all are under 31 bytes; the largest of 256 is 4.5 KiB, of 4096 it
/// is 56 KiB. Drawing one costs little.
template <std::size_t Count>
class pareto_sizes {
public:
    pareto_sizes()
    {
        for (std::size_t i = 0; i < Count; ++i) {
            const double quantile = (static_cast<double>(i) + 0.5) / static_cast<double>(Count);
            sizes_[i] = static_cast<std::uint16_t>(16 * std::pow(quantile, -1 / 1.1));
        }
    }

    [[nodiscard]] std::size_t draw(random_source& random) const
    {
        return sizes_[random.below(Count)];
    }

private:
    std::array<std::uint16_t, Count> sizes_;
};

/// Pointers to blocks, in memory that is not from the allocator; all of it is resident at once.
template <class T>
class pointers {
public:
    explicit pointers(std::size_t count) : count_(count)
    {
        void* const mapped = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (mapped == MAP_FAILED) std::abort();
        first_ = static_cast<T**>(mapped);
    }
    pointers(const pointers&) = delete;
    pointers& operator=(const pointers&) = delete;
    ~pointers() { ::munmap(first_, bytes()); }

    void shuffle(random_source& random)
    {
        for (std::size_t i = count_ - 1; i > 0; --i)
            std::swap(first_[i], first_[random.below(i + 1)]);
    }

    [[nodiscard]] std::size_t bytes() const { return count_ * sizeof(T*); }
    [[nodiscard]] std::span<T*> all() const { return {first_, count_}; }

private:
    T** first_ = nullptr;
    std::size_t count_;
};

inline std::size_t resident_bytes() { return binmalloc_test::memory_in_use().resident; }

class stopwatch {
public:
    [[nodiscard]] double seconds() const
    {
        return std::chrono::duration<double>(clock::now() - start_).count();
    }

private:
    using clock = std::chrono::steady_clock;
    clock::time_point start_ = clock::now();
};

inline void pause(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

enum class kind {
    result,
    detail // says more about another line, which counts already
};

/// Prints a line that compare.sh reads, by write(2): a stdio buffer would come from malloc.
inline void report(const char* name, double value, const char* unit, kind k = kind::result)
{
    char line[128];
    const int length = std::snprintf(line, sizeof line, "%s %.6g %s%s\n", name, value, unit,
                                     k == kind::detail ? " detail" : "");
    if (::write(STDOUT_FILENO, line, static_cast<std::size_t>(length)) != length) std::abort();
}

inline void report_bytes(const char* name, std::size_t bytes, kind k = kind::result)
{
    report(name, static_cast<double>(bytes) / mib, "MiB", k);
}

/// The argument at `index`, or a default.
inline std::size_t argument(int argc, char** argv, int index, std::size_t otherwise)
{
    return index < argc ? std::strtoull(argv[index], nullptr, 10) : otherwise;
}

} // namespace bench
