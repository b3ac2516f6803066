// replay [--repeat N] TRACE: repeats a program's allocation calls on this process's malloc.
// replay --dump TRACE: prints the calls, one in a line.
//
// The trace is read, checked and planned (plan.hpp) before the clock runs, and all of that is in
// memory from mmap: the allocator sees nothing but the calls of the trace, and one of pthread_create
// for each thread beyond the first.
//
// What is allocated is written: a byte in each cache line of a block's first page, and a byte in
// each page behind it. Lines, as programs write their small blocks at once, and the miss that a cold
// block costs is part of what its allocator costs. Only pages behind that, as the page fault is the
// allocator's doing, and the time to fill a page is not. What realloc adds is written in the same
// way; what calloc gives must be zero in these places.
//
// A block also carries the number of its row in its first bytes, which realloc must keep, and free must
// find: an allocator that hands out the same memory twice is told, not timed.
//
// Blocks that are live at the end of the trace are freed, outside the clock, so that each repetition
// begins as empty as the first. Exit status: 0 all is well; 1 a damaged trace, or an allocator that
// failed; 2 wrong arguments.
#include "../support.hpp"
#include "mapped_array.hpp"
#include "plan.hpp"
#include "trace_file.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>

#include <pthread.h>
#include <sys/resource.h>

/// All steps of a thread, and nothing else: this is what callgrind is to count (../README.md).
extern "C" void* replay_trace(void* thread);

namespace {

using namespace std::string_view_literals;
using trace::action;
using trace::fail;
using trace::step;
using clock_type = std::chrono::steady_clock;

// --- blocks --------------------------------------------------------------------------------------

/// A row and the block in it.
struct holder {
    char* block;
    std::uint64_t taken; // the block's size, plus 1; 0 in an empty row
};

constexpr std::size_t line_size = 64;
constexpr std::size_t page_size = 4096;

constexpr std::size_t round_up(std::size_t n, std::size_t unit)
{
    return (n + unit - 1) & ~(unit - 1);
}

/// Calls `body` for each byte that is to be written in the bytes from `begin` to `end` of a block.
template <class Body>
void for_each_touched(std::size_t begin, std::size_t end, Body body)
{
    std::size_t i = round_up(begin, line_size);
    for (; i < std::min(end, page_size); i += line_size) body(i);
    for (i = round_up(i, page_size); i < end; i += page_size) body(i);
}

void touch(char* block, std::size_t begin, std::size_t end)
{
    for_each_touched(begin, end, [block](std::size_t i) { block[i] = 1; });
}

void require_zero(const char* block, std::size_t size)
{
    for_each_touched(0, size, [block](std::size_t i) {
        if (block[i] != 0) fail("calloc gave a block that is not zero");
    });
}

/// In blocks with room for it.
void stamp(const holder& h, std::uint32_t row)
{
    if (h.taken > sizeof row) std::memcpy(h.block, &row, sizeof row);
}

void require_stamp(const holder& h, std::uint32_t row, std::uint64_t kept)
{
    if (kept < sizeof row) return;
    std::uint32_t found = 0;
    std::memcpy(&found, h.block, sizeof found);
    if (found != row)
        fail("a block of %llu bytes was changed", static_cast<unsigned long long>(kept));
}

void require_aligned(const void* block, std::uint8_t log2)
{
    if (reinterpret_cast<std::uintptr_t>(block) % (std::uintptr_t{1} << log2) != 0)
        fail("a block is not aligned to %llu bytes", 1ULL << log2);
}

void put(holder& h, void* block, const step& s)
{
    if (block == nullptr && s.number != 0)
        fail("no memory for a block of %llu bytes", static_cast<unsigned long long>(s.number));
    if (h.taken != 0) fail("a row is used twice: the plan is wrong");
    h = {static_cast<char*>(block), s.number + 1};
    touch(h.block, 0, s.number);
    stamp(h, s.row);
}

void* allocate_aligned(const step& s)
{
    // What posix_memalign asks for at least.
    const std::size_t alignment = std::max(std::size_t{1} << s.log2, sizeof(void*));
    void* block = nullptr;
    return ::posix_memalign(&block, alignment, s.number) == 0 ? block : nullptr;
}

void reallocate(holder& h, const step& s)
{
    if (h.taken == 0) fail("an empty row is used: the plan is wrong");
    const std::uint64_t old = h.taken - 1;
    require_stamp(h, s.row, old);
    void* const block = std::realloc(h.block, s.number);
    if (block == nullptr)
        fail("no memory for a block of %llu bytes", static_cast<unsigned long long>(s.number));
    h = {static_cast<char*>(block), s.number + 1};
    require_stamp(h, s.row, std::min(old, s.number));
    touch(h.block, old, s.number);
    stamp(h, s.row);
}

void free_block(holder& h, std::uint32_t row)
{
    if (row != 0) {
        if (h.taken == 0) fail("an empty row is used: the plan is wrong");
        require_stamp(h, row, h.taken - 1);
        h.taken = 0;
    }
    std::free(h.block); // null in row 0
}

// --- threads -------------------------------------------------------------------------------------

/// A number that threads wait for. On a cache line of its own.
struct alignas(line_size) signal {
    std::uint32_t value;

    [[nodiscard]] std::atomic_ref<std::uint32_t> shared() { return std::atomic_ref(value); }

    /// Waits until `reached` says so of the value.
    template <class Reached>
    void wait_until(Reached reached)
    {
        for (std::uint32_t seen; !reached(seen = shared().load(std::memory_order_acquire));)
            shared().wait(seen, std::memory_order_acquire);
    }
    // Sequentially consistent, both: else the notification could be over before the value is seen.
    void set(std::uint32_t to)
    {
        shared().store(to);
        shared().notify_all();
    }
    /// For the last one to do so, the others wait.
    void count_down()
    {
        if (shared().fetch_sub(1) == 1) shared().notify_all();
    }
};
constexpr auto is_zero = [](std::uint32_t value) { return value == 0; };

class replay;

struct thread {
    replay* all;
    std::uint32_t number;
    std::uint64_t spells_over; // as far as the thread has looked
    signal done;               // steps, as published
};

/// What a pass took.
struct cost {
    double wall_ns = 0;
    double cpu_ns = 0;
    double page_faults = 0;
    std::size_t resident = 0; // at the peak of live bytes
};

class replay {
public:
    explicit replay(const trace::file& recorded)
        : plan_(recorded), thread_count_(recorded.threads())
    {
        if (!holders_.grow(plan_.rows_end()) || !threads_.grow(thread_count_ + 1)
            || !spells_.grow(plan_.spells() + 1))
            fail("not enough memory for the tables");
        // All of it is resident from now on.
        std::fill(holders_.begin(), holders_.end(), holder{});
        prepare();
    }

    /// Replays the trace once.
    cost run()
    {
        prepare();
        paused_ = {};
        rusage before{};
        rusage after{};
        ::getrusage(RUSAGE_SELF, &before);
        const auto start = clock_type::now();
        if (thread_count_ > 0) replay_trace(&threads_[0]);
        running_.wait_until(is_zero);
        const auto wall = clock_type::now() - start - paused_;
        ::getrusage(RUSAGE_SELF, &after);
        free_rest();
        return {.wall_ns = std::chrono::duration<double, std::nano>(wall).count(),
                .cpu_ns = cpu_ns(after) - cpu_ns(before),
                .page_faults = static_cast<double>(after.ru_minflt - before.ru_minflt),
                .resident = resident_};
    }

    void run_thread(thread& own);

private:
    static double cpu_ns(const rusage& used)
    {
        const auto ns = [](const timeval& t) {
            return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_usec) * 1e3;
        };
        return ns(used.ru_utime) + ns(used.ru_stime);
    }

    void prepare()
    {
        for (std::uint32_t i = 0; i < thread_count_; ++i)
            threads_[i] = {.all = this, .number = i, .spells_over = 0, .done = {}};
        for (std::uint64_t i = 0; i < plan_.spells(); ++i) spells_[i].value = plan_.threads_in(i);
        running_.value = count_started();
    }

    /// A thread all of whose calls were foreign has no steps, and does not start.
    [[nodiscard]] std::uint32_t count_started() const
    {
        std::uint32_t count = 0;
        for (std::uint32_t i = 0; i < thread_count_; ++i)
            count += i == 0 || plan_.begin(i) != plan_.end(i);
        return count;
    }

    void wait_for_spells(thread& own, std::uint64_t count)
    {
        for (; own.spells_over < count; ++own.spells_over)
            spells_[own.spells_over].wait_until(is_zero);
    }

    void start_thread(std::uint32_t number);

    void measure()
    {
        const auto start = clock_type::now();
        resident_ = bench::resident_bytes();
        paused_ += clock_type::now() - start;
    }

    void take(thread& own, const step& s);

    void free_rest()
    {
        for (std::uint32_t row = 1; row < holders_.size(); ++row)
            if (holders_[row].taken != 0) free_block(holders_[row], row);
    }

    trace::plan plan_;
    std::uint32_t thread_count_;
    trace::mapped_array<holder> holders_; // by row
    trace::mapped_array<thread> threads_;
    trace::mapped_array<signal> spells_; // how many threads are not through with it
    signal running_{};                   // threads
    std::size_t resident_ = 0;
    clock_type::duration paused_{};
};

void replay::start_thread(std::uint32_t number)
{
    pthread_attr_t detached;
    pthread_t started{};
    ::pthread_attr_init(&detached);
    // Joined only at the end, thousands of short threads would leave their stacks until then.
    ::pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    const int error = ::pthread_create(&started, &detached, replay_trace, &threads_[number]);
    if (error != 0) fail("cannot start a thread: %s", std::strerror(error));
    ::pthread_attr_destroy(&detached);
}

void replay::run_thread(thread& own)
{
    const step* const first = plan_.begin(own.number);
    const step* const last = plan_.end(own.number);
    for (const step* s = first; s != last; ++s) {
        take(own, *s);
        if (s->publishes) own.done.set(static_cast<std::uint32_t>(s - first + 1));
    }
    running_.count_down();
}

inline void replay::take(thread& own, const step& s)
{
    switch (s.what) {
    case action::malloc: return put(holders_[s.row], std::malloc(s.number), s);
    case action::calloc: {
        void* const block = std::calloc(1, s.number);
        if (block != nullptr) require_zero(static_cast<const char*>(block), s.number);
        return put(holders_[s.row], block, s);
    }
    case action::aligned: {
        void* const block = allocate_aligned(s);
        require_aligned(block, s.log2);
        return put(holders_[s.row], block, s);
    }
    case action::realloc: return reallocate(holders_[s.row], s);
    case action::free: return free_block(holders_[s.row], s.row);
    case action::enter: return wait_for_spells(own, s.number);
    case action::leave: return spells_[s.number].count_down();
    case action::wait:
        return threads_[s.row].done.wait_until(
            [&s](std::uint32_t done) { return done >= s.number; });
    case action::start: return start_thread(s.row);
    case action::measure: return measure();
    }
}

// --- commands ------------------------------------------------------------------------------------

void print(const char* name, std::uint64_t value)
{
    std::printf("%s %llu\n", name, static_cast<unsigned long long>(value));
}

/// Lines without a unit are about the trace, and the same for every allocator.
void describe(const trace::file& recorded)
{
    print("calls", recorded.found().calls);
    print("foreign", recorded.found().foreign);
    print("threads", recorded.threads());
    print("slots", recorded.slots_end() - 1);
    print("peak_bytes", recorded.found().peak_bytes);
    print("left_bytes", recorded.found().live_bytes);
    std::fflush(stdout);
}

void report(const trace::survey& found, const cost& sum, double passes, std::size_t grown)
{
    using bench::kind;
    const double calls = static_cast<double>(found.calls) * passes;
    bench::report("time_per_call", sum.wall_ns / calls, "ns");
    bench::report("cpu_per_call", sum.cpu_ns / calls, "ns", kind::detail);
    bench::report("page_faults", sum.page_faults / passes, "faults");
    if (found.peak_bytes == 0) return;
    bench::report("rss_per_live",
                  static_cast<double>(grown) / static_cast<double>(found.peak_bytes), "x");
    bench::report_bytes("rss_at_peak", grown, kind::detail);
    bench::report_bytes("live_at_peak", found.peak_bytes, kind::detail);
}

void replay_file(const char* path, std::size_t passes)
{
    const trace::file recorded(path);
    describe(recorded);
    replay all(recorded);
    if (recorded.found().calls == 0) fail("%s has no calls", path);
    const std::size_t resident_before = bench::resident_bytes();
    cost sum;
    std::size_t resident = 0;
    for (std::size_t pass = 0; pass < passes; ++pass) {
        const cost took = all.run();
        sum.wall_ns += took.wall_ns;
        sum.cpu_ns += took.cpu_ns;
        sum.page_faults += took.page_faults;
        // As in the program: the first pass finds an allocator that has done nothing yet.
        if (pass == 0) resident = took.resident;
    }
    const std::size_t grown = resident - std::min(resident, resident_before);
    report(recorded.found(), sum, static_cast<double>(passes), grown);
}

/// THREAD CALL SLOT [SIZE [LOG2]]
void dump_event(const trace::event& e)
{
    constexpr const char* names[] = {"malloc", "calloc", "aligned", "realloc", "free", "foreign"};
    std::printf("%u %s", e.thread, names[static_cast<std::size_t>(e.what)]);
    if (e.what != trace::kind::foreign)
        std::printf(" %llu", static_cast<unsigned long long>(e.slot));
    if (trace::has_size(e.what)) std::printf(" %llu", static_cast<unsigned long long>(e.size));
    if (e.what == trace::kind::aligned) std::printf(" %u", e.log2);
    std::printf("\n");
}

void dump_file(const char* path)
{
    const trace::file recorded(path);
    recorded.for_each_event([](const trace::event& e, std::uint64_t) { dump_event(e); });
}

[[noreturn]] void usage()
{
    std::fputs("usage: replay [--repeat N] TRACE\n       replay --dump TRACE\n", stderr);
    std::exit(2);
}

/// A number of 1 or more.
std::size_t parse_count(const char* text)
{
    char* end = nullptr;
    const unsigned long long count = std::strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != 0 || count == 0 || count > 1'000'000) usage();
    return count;
}

} // namespace

[[gnu::noinline]] void* replay_trace(void* own)
{
    thread& self = *static_cast<thread*>(own);
    self.all->run_thread(self);
    return nullptr;
}

int main(int argc, char** argv)
{
    // stdio's buffer would come from malloc.
    static char buffer[BUFSIZ];
    std::setvbuf(stdout, buffer, _IOFBF, sizeof buffer);

    if (argc == 3 && argv[1] == "--dump"sv)
        dump_file(argv[2]);
    else if (argc == 4 && argv[1] == "--repeat"sv)
        replay_file(argv[3], parse_count(argv[2]));
    else if (argc == 2 && argv[1][0] != '-')
        replay_file(argv[1], 1);
    else
        usage();
    if (std::fflush(stdout) != 0) fail("cannot write: %s", std::strerror(errno));
}
