// give_back [MIB [PAUSE_MS [KEEP_PERCENT]]]: does freed memory go back to the system?
//
// Allocates 2048 MiB in small pieces, writes all of it, frees the pieces in random order, and
// sleeps for 2 s without a call to the allocator. Then it makes a few thousand small allocations,
// as an allocator may give memory back only when it is called. A part of the pieces, chosen at
// random, may stay alive.
#include "../support.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <span>

namespace {

using namespace bench;

/// A piece knows its size.
struct piece {
    std::size_t size;
};

std::size_t draw_size(random_source& random)
{
    const std::size_t percentile = random.below(100);
    if (percentile < 90) return between(random, 16, 512);
    if (percentile < 99) return between(random, 512, 4 * kib);
    return between(random, 4 * kib, 32 * kib);
}

/// How many pieces drawn from `random` have `bytes` together.
std::size_t count_pieces(random_source random, std::size_t bytes)
{
    std::size_t count = 0;
    for (std::size_t sum = 0; sum < bytes; ++count) sum += draw_size(random);
    return count;
}

std::size_t total_size(std::span<piece* const> pieces)
{
    std::size_t sum = 0;
    for (const piece* p : pieces) sum += p->size;
    return sum;
}

void use_a_little(random_source& random)
{
    std::array<void*, 4000> blocks;
    for (void*& b : blocks) b = allocate(between(random, 16, 512));
    for (void* b : blocks) std::free(b);
}

} // namespace

int main(int argc, char** argv)
{
    const std::chrono::milliseconds rest(argument(argc, argv, 2, 2000));
    const std::size_t percent = argument(argc, argv, 3, 0);

    random_source random(1);
    pointers<piece> pieces(count_pieces(random, argument(argc, argv, 1, 2048) * mib));
    const auto report_rss = [&](const char* name, kind k = kind::result) {
        report_bytes(name, resident_bytes() - pieces.bytes(), k);
    };

    const stopwatch allocating;
    for (piece*& p : pieces.all()) {
        const std::size_t size = draw_size(random);
        p = static_cast<piece*>(allocate(size));
        p->size = size;
    }
    report("allocate", allocating.seconds(), "s");
    report_rss("rss_full", kind::detail);

    pieces.shuffle(random);
    const std::size_t kept = pieces.all().size() * percent / 100;
    const stopwatch freeing;
    for (piece* p : pieces.all().subspan(kept)) std::free(p);
    report("free", freeing.seconds(), "s");
    report_rss("rss_freed");

    pause(rest);
    report_rss("rss_after_pause");
    use_a_little(random);
    report_rss("rss_used_again");

    if (percent > 0) {
        const std::size_t live = total_size(pieces.all().first(kept));
        const auto rss = static_cast<double>(resident_bytes() - pieces.bytes());
        report_bytes("live", live, kind::detail);
        report("rss_per_live", rss / static_cast<double>(live), "x", kind::detail);
    }
}
