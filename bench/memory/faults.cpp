// faults [MIB [MILLION_READS]]: how densely, and on how many OS pages, do live objects lie?
//
// Builds a live set of objects of 64 to 512 bytes (1024 MiB), links them in random order, follows
// the links for 20 million reads, each of which waits for the one before, and exits with all of it
// alive.
#include "../support.hpp"

#include <cstddef>
#include <span>

#include <sys/resource.h>

namespace {

using namespace bench;

struct object {
    const object* next;
};

constexpr std::size_t least_size = 64;
constexpr std::size_t most_size = 512;
constexpr std::size_t mean_size = (least_size + most_size) / 2;

/// One ring of all objects, its order that of the pointers.
void link(std::span<object* const> objects)
{
    for (std::size_t i = 0; i < objects.size(); ++i)
        objects[i]->next = objects[(i + 1) % objects.size()];
}

const object* follow(const object* o, std::size_t links)
{
    for (; links > 0; --links) o = o->next;
    return o;
}

long page_faults()
{
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    return used.ru_minflt;
}

} // namespace

int main(int argc, char** argv)
{
    const std::size_t count = argument(argc, argv, 1, 1024) * mib / mean_size;
    const std::size_t reads = argument(argc, argv, 2, 20) * 1'000'000;
    random_source random(1);
    pointers<object> objects(count);

    const long faults_before = page_faults();
    const stopwatch building;
    for (object*& o : objects.all())
        o = static_cast<object*>(allocate(between(random, least_size, most_size)));
    report("build", building.seconds(), "s");
    report("page_faults", static_cast<double>(page_faults() - faults_before), "faults");
    report_bytes("rss_live", resident_bytes() - objects.bytes(), kind::detail);

    objects.shuffle(random);
    link(objects.all());
    const stopwatch reading;
    const object* volatile last = follow(objects.all().front(), reads);
    static_cast<void>(last);
    report("random_read", reading.seconds() * 1e9 / static_cast<double>(reads), "ns");
}
