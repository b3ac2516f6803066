// documents [SECONDS [IDLE_MS]]: does memory stay compact in a long-running program whose sizes
// shift?
//
// About 40 documents of 128 KiB to 8 MiB are alive at a time; new ones are loaded, random ones are
// dropped, for 600 simulated seconds in three phases with different sizes of objects. A few objects
// outlive their document, in a cache. A short real sleep now and then gives an allocator's delays
// their time. At last all but a quarter of the documents are dropped, and 2 s pass with little to
// do. RSS is what it has grown by since the start; live are the sizes asked for.
#include "../support.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;

std::size_t live_bytes = 0;

/// The head of every node, string and buffer.
struct object {
    object* next;
    std::uint32_t size;
};

object* make(std::size_t size)
{
    auto* const made = static_cast<object*>(allocate(size));
    made->size = static_cast<std::uint32_t>(size);
    live_bytes += size;
    return made;
}

void drop(object* o)
{
    if (o == nullptr) return;
    live_bytes -= o->size;
    std::free(o);
}

/// What a document consists of: of 1000 objects, how many are strings (128 B to 8 KiB) and buffers
/// (8 KiB to 2 MiB). All others are nodes (16 to 100 B).
struct mixture {
    std::size_t strings;
    std::size_t buffers;

    [[nodiscard]] std::size_t draw_size(random_source& random) const
    {
        const std::size_t which = random.below(1000);
        if (which < buffers) return spread_out(random, 8 * kib, 8);
        if (which < buffers + strings) return spread_out(random, 128, 6);
        return between(random, 16, 100);
    }
};

struct phase {
    const char* name;
    mixture mix;
};
constexpr std::array phases{phase{"nodes", {0, 0}}, phase{"strings", {1000, 0}},
                            phase{"mixture", {300, 1}}};

/// Objects that outlive their documents. A new one takes the place of a random one.
class cache {
public:
    void keep(object* o, random_source& random)
    {
        drop(std::exchange(objects_[random.below(objects_.size())], o));
    }

private:
    std::array<object*, 20'000> objects_{};
};

/// A table of lists, like a hash table: it goes in another order than it came.
class document {
public:
    document(std::size_t size, const mixture& mix, random_source& random)
    {
        for (std::size_t sum = 0; sum < size;) {
            object* const o = make(std::min(mix.draw_size(random), size));
            o->next = std::exchange(lists_[random.below(lists_.size())], o);
            sum += o->size;
        }
    }

    /// Drops all objects, but for a hundredth of the smaller ones, which go to `survivors`.
    void close(cache& survivors, random_source& random)
    {
        for (object* list : lists_)
            while (list != nullptr) {
                object* const o = std::exchange(list, list->next);
                if (o->size <= kib && random.one_in(100))
                    survivors.keep(o, random);
                else
                    drop(o);
            }
    }

private:
    std::array<object*, 64> lists_{};
};

class library {
public:
    void load(const mixture& mix)
    {
        const std::size_t size = spread_out(random_, 128 * kib, 6);
        open_.push_back(std::make_unique<document>(size, mix, random_));
    }

    void close_all_but(std::size_t count)
    {
        while (open_.size() > count) {
            std::swap(open_[random_.below(open_.size())], open_.back());
            open_.back()->close(survivors_, random_);
            open_.pop_back();
        }
    }

    /// One phase of the simulated life.
    void live(const mixture& mix, std::size_t seconds)
    {
        std::size_t wanted = 0;
        for (std::size_t second = 0; second < seconds; ++second) {
            if (second % 10 == 0) {
                wanted = between(random_, 36, 44);
                pause(100ms);
            }
            for (int loaded = 0; loaded < 4; ++loaded) load(mix);
            close_all_but(wanted);
        }
    }

    void idle(std::chrono::milliseconds time)
    {
        for (auto past = 0ms; past < time; past += 20ms) {
            pause(20ms);
            for (int j = 0; j < 50; ++j) survivors_.keep(make(between(random_, 16, kib)), random_);
        }
    }

    [[nodiscard]] std::size_t open() const { return open_.size(); }

private:
    random_source random_{1};
    cache survivors_;
    std::vector<std::unique_ptr<document>> open_;
};

void report_use(const char* when, std::size_t rss_at_start)
{
    char name[64];
    const auto named = [&](const char* what) {
        std::snprintf(name, sizeof name, "%s_%s", when, what);
        return name;
    };
    const std::size_t rss = resident_bytes() - rss_at_start;
    report_bytes(named("live"), live_bytes, kind::detail);
    report_bytes(named("rss"), rss, kind::detail);
    report(named("rss_per_live"), static_cast<double>(rss) / static_cast<double>(live_bytes), "x");
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t seconds = argument(argc, argv, 1, 600);
    const std::chrono::milliseconds idle_time(argument(argc, argv, 2, 2000));
    library documents;
    const std::size_t rss_at_start = resident_bytes();
    for (const phase& p : phases) {
        documents.live(p.mix, seconds / phases.size());
        report_use(p.name, rss_at_start);
    }
    documents.close_all_but(documents.open() / 4);
    report_use("closed", rss_at_start);
    documents.idle(idle_time);
    report_use("idle", rss_at_start);
}
