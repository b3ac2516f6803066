// mixed [MIB [OPERATIONS]]: what do blocks of mixed sizes cost, in time and in memory?
//
// A live set of 200 MiB whose sizes follow a Pareto law, from 16 B to 56 KiB, in which random
// blocks are replaced by new ones. All bytes of a block are written, and its size is read before
// its end.
#include "../support.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace {

using namespace bench;

const pareto_sizes<4096> sizes;

struct block {
    std::size_t size;
};

class live_set {
public:
    explicit live_set(std::size_t bytes) : blocks_(count_blocks(bytes))
    {
        for (block*& b : blocks_.all()) b = make();
    }
    live_set(const live_set&) = delete;
    live_set& operator=(const live_set&) = delete;
    ~live_set()
    {
        for (block* b : blocks_.all()) std::free(b);
    }

    void replace_one()
    {
        block*& place = blocks_.all()[random_.below(blocks_.all().size())];
        bytes_ -= place->size;
        std::free(place);
        place = make();
    }

    [[nodiscard]] std::size_t bytes() const { return bytes_; }
    [[nodiscard]] std::size_t bytes_of_pointers() const { return blocks_.bytes(); }

private:
    /// How many blocks have `bytes` together.
    static std::size_t count_blocks(std::size_t bytes)
    {
        random_source random(1);
        std::size_t count = 0;
        for (std::size_t sum = 0; sum < bytes; ++count) sum += sizes.draw(random);
        return count;
    }

    block* make()
    {
        const std::size_t size = sizes.draw(random_);
        auto* const made = static_cast<block*>(allocate(size));
        made->size = size;
        bytes_ += size;
        return made;
    }

    random_source random_{1};
    std::size_t bytes_ = 0;
    pointers<block> blocks_;
};

} // namespace

int main(int argc, char** argv)
{
    const std::size_t bytes = argument(argc, argv, 1, 200) * mib;
    const std::size_t operations = argument(argc, argv, 2, 2'000'000);
    const std::size_t rss_at_start = resident_bytes();

    const stopwatch filling;
    live_set live(bytes);
    report("fill", filling.seconds() * 1e3, "ms");

    const stopwatch replacing;
    for (std::size_t i = 0; i < operations; ++i) live.replace_one();
    report("replace", replacing.seconds() * 1e9 / static_cast<double>(operations), "ns");

    const std::size_t rss = resident_bytes() - rss_at_start - live.bytes_of_pointers();
    report_bytes("live", live.bytes(), kind::detail);
    report("rss_per_live", static_cast<double>(rss) / static_cast<double>(live.bytes()), "x");
}
