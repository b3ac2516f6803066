// containers [CONTAINER [ALLOCATOR [LOG2_OF_ELEMENTS]]]: what do containers of many nodes cost,
// with which allocator in their type?
//
// CONTAINER: list, map, set, unordered_map, or vector_string, whose strings of 16 to 63 characters
// each have a block.
// ALLOCATOR:
//   standard   std::allocator, on whatever malloc the process has
//   typed      binmalloc::allocator
//   pool       a std::pmr::unsynchronized_pool_resource
//   monotonic  a std::pmr::monotonic_buffer_resource; nothing is replaced in it, as it would only
//              grow
//   mimalloc   mi_stl_allocator, where it is compiled in (-DBENCH_MI_STL=1 -lmimalloc)
//
// Three times, 2^18 elements come in random order, half of them are replaced, all are visited, and
// all go. Times are per element; the memory is what RSS has grown by after the first filling.
#include "containers.hpp"
#include "../support.hpp"

#include <binmalloc/binmalloc.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#if BENCH_MI_STL
#    include <mimalloc.h>
#endif

namespace {

using namespace bench;

// A family makes the allocators of one container.

template <template <class> class Allocator>
struct stateless {
    static constexpr bool can_replace = true;
    template <class T>
    using of = Allocator<T>;
    template <class T>
    of<T> get()
    {
        return {};
    }
};

template <class Resource, bool CanReplace>
struct pmr {
    static constexpr bool can_replace = CanReplace;
    template <class T>
    using of = std::pmr::polymorphic_allocator<T>;
    template <class T>
    of<T> get()
    {
        return &resource;
    }
    Resource resource;
};

template <class Action>
double seconds_of(const Action& action)
{
    const stopwatch time;
    action();
    return time.seconds();
}

template <class Family, class Container>
void measure(std::size_t count)
{
    constexpr int rounds = 3;
    double filling = 0, replacing = 0, visiting = 0, clearing = 0;
    const std::size_t rss_at_start = resident_bytes();
    for (int round = 0; round < rounds; ++round) {
        std::optional<Family> family(std::in_place);
        std::optional<Container> container(std::in_place, *family, count);
        filling += seconds_of([&] {
            for (std::size_t i = 0; i < count; ++i) container->add(i);
        });
        if (round == 0)
            report("rss_per_element",
                   static_cast<double>(resident_bytes() - rss_at_start)
                       / static_cast<double>(count),
                   "B");
        if constexpr (Family::can_replace)
            replacing += seconds_of([&] {
                for (std::size_t i = 0; i < count / 2; ++i) container->replace(i);
            });
        visiting += seconds_of([&] {
            if (container->visit() == 0) std::abort();
        });
        clearing += seconds_of([&] {
            container.reset();
            family.reset();
        });
    }
    const double unit = 1e9 / rounds / static_cast<double>(count);
    report("fill", filling * unit, "ns");
    if constexpr (Family::can_replace) report("replace", replacing * 2 * unit, "ns");
    report("visit", visiting * unit, "ns");
    report("clear", clearing * unit, "ns");
}

template <class Family>
void measure_container(std::string_view name, std::size_t count)
{
    using key = std::uint32_t;
    using set_allocator = typename Family::template of<key>;
    using map_allocator = typename Family::template of<std::pair<const key, key>>;
    if (name == "list")
        measure<Family, list_of<Family>>(count);
    else if (name == "map")
        measure<Family, keyed<std::map<key, key, std::less<>, map_allocator>>>(count);
    else if (name == "set")
        measure<Family, keyed<std::set<key, std::less<>, set_allocator>>>(count);
    else if (name == "unordered_map")
        measure<
            Family,
            keyed<std::unordered_map<key, key, std::hash<key>, std::equal_to<>, map_allocator>>>(
            count);
    else if (name == "vector_string")
        measure<Family, strings_of<Family>>(count);
    else
        std::abort();
}

} // namespace

int main(int argc, char** argv)
{
    const std::string_view container = argc > 1 ? argv[1] : "list";
    const std::string_view allocator = argc > 2 ? argv[2] : "standard";
    const std::size_t count = std::size_t{1} << argument(argc, argv, 3, 18);

    if (allocator == "standard")
        measure_container<stateless<std::allocator>>(container, count);
    else if (allocator == "typed")
        measure_container<stateless<binmalloc::allocator>>(container, count);
    else if (allocator == "pool")
        measure_container<pmr<std::pmr::unsynchronized_pool_resource, true>>(container, count);
    else if (allocator == "monotonic")
        measure_container<pmr<std::pmr::monotonic_buffer_resource, false>>(container, count);
#if BENCH_MI_STL
    else if (allocator == "mimalloc")
        measure_container<stateless<mi_stl_allocator>>(container, count);
#endif
    else
        std::abort();
}
