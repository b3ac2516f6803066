// A trace in memory, checked as a whole: whatever is wrong with a file is found here, before
// anything is replayed.
#pragma once

#include "format.hpp"
#include "mapped_array.hpp"

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

namespace trace {

/// Ends the process with a message, without allocating.
[[noreturn, gnu::format(printf, 1, 2)]] inline void fail(const char* format, ...)
{
    char text[8192];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ::dprintf(STDERR_FILENO, "replay: %s\n", text);
    std::_Exit(EXIT_FAILURE);
}

/// What is to be known of a trace before it is replayed.
struct survey {
    std::uint64_t calls = 0;      // those that can be repeated
    std::uint64_t foreign = 0;    // those that cannot
    std::uint64_t live_bytes = 0; // at the end
    std::uint64_t peak_bytes = 0;
    std::uint64_t peak_event = 0; // the first one after which so many bytes are live
};

class file {
public:
    /// Reads and checks the file; fails if it is not a whole trace.
    explicit file(const char* path) : path_(path)
    {
        const int descriptor = ::open(path, O_RDONLY | O_CLOEXEC);
        struct stat status {};
        if (descriptor < 0 || ::fstat(descriptor, &status) != 0) fails();
        const auto size = static_cast<std::uint64_t>(status.st_size);
        if (size < sizeof header_) damaged("it is shorter than a header");
        read(descriptor, &header_, sizeof header_);
        check_header();
        if (header_.bytes > size - sizeof header_) damaged("it is cut off");
        if (!bytes_.grow(header_.bytes + 1)) fails();
        read(descriptor, bytes_.begin(), header_.bytes);
        ::close(descriptor);
        check_events();
    }

    [[nodiscard]] const survey& found() const noexcept { return found_; }
    [[nodiscard]] std::uint32_t threads() const noexcept { return header_.threads; }
    /// Slots are below this; 0 is null's.
    [[nodiscard]] std::size_t slots_end() const noexcept { return header_.slots + 1; }

    /// Calls `body(event, index)` for all events.
    template <class Body>
    void for_each_event(Body body) const
    {
        decoder reader = events();
        event e;
        for (std::uint64_t i = 0; reader.read(e); ++i) body(e, i);
    }

private:
    [[nodiscard]] decoder events() const noexcept
    {
        return {bytes_.begin(), bytes_.begin() + header_.bytes};
    }

    void read(int descriptor, void* to, std::uint64_t bytes) const
    {
        for (auto* next = static_cast<unsigned char*>(to); bytes > 0;) {
            const ssize_t got = ::read(descriptor, next, bytes);
            if (got == 0) damaged("it is cut off");
            if (got < 0 && errno != EINTR) fails();
            if (got < 0) continue;
            next += got;
            bytes -= static_cast<std::uint64_t>(got);
        }
    }

    [[noreturn]] void fails() const { fail("%s: %s", path_, std::strerror(errno)); }
    [[noreturn]] void damaged(const char* how) const { fail("%s is damaged: %s", path_, how); }
    [[noreturn]] void damaged_at(std::uint64_t index, const char* how) const
    {
        fail("%s is damaged: event %llu: %s", path_, static_cast<unsigned long long>(index), how);
    }

    void check_header() const
    {
        if (std::memcmp(header_.magic, magic, sizeof magic) != 0) fail("%s is not a trace", path_);
        if (header_.version != version)
            fail("%s is a trace of version %u; this reads version %u", path_, header_.version,
                 version);
        // Each slot and each thread is mentioned, so tables of that size can be afforded.
        if (header_.slots > header_.bytes
            || header_.slots > std::numeric_limits<std::uint32_t>::max())
            damaged("there are more slots than events");
        if (header_.threads > header_.bytes) damaged("there are more threads than events");
    }

    /// That they are what was written, that they fit each other, and that the header is right.
    void check_events()
    {
        checksum sum;
        for (std::uint64_t i = 0; i < header_.bytes; ++i) sum.add(bytes_[i]);
        if (sum.value() != header_.checksum) damaged("the checksum is another");

        mapped_array<std::uint64_t> taken; // the block's size, plus 1
        if (!taken.grow(slots_end())) fails();
        decoder reader = events();
        std::uint64_t count = 0;
        std::uint64_t highest = 0;
        for (event e; reader.read(e); ++count) {
            if (e.slot > header_.slots) damaged_at(count, "a slot beyond the last");
            if (allocates(e.what) && e.slot > highest && e.slot != ++highest)
                damaged_at(count, "a slot out of its turn");
            survey_event(e, count, taken[e.slot]);
        }
        if (const char* const problem = reader.problem()) damaged_at(count, problem);
        if (count != header_.events) damaged("the number of events is another");
        if (header_.threads != (count > 0 ? reader.threads() : 0))
            damaged("the number of threads is another");
        if (highest != header_.slots) damaged("the number of slots is another");
    }

    void survey_event(const event& e, std::uint64_t index, std::uint64_t& taken)
    {
        if (e.what == kind::foreign) {
            ++found_.foreign;
            return;
        }
        ++found_.calls;
        if (allocates(e.what) != (taken == 0) && e.slot != 0)
            damaged_at(index, taken == 0 ? "an empty slot is used" : "a slot is used twice");
        if (taken != 0) found_.live_bytes -= taken - 1;
        taken = has_size(e.what) ? e.size + 1 : 0;
        if (e.size > std::numeric_limits<std::int64_t>::max() - found_.live_bytes)
            damaged_at(index, "more live bytes than can be");
        found_.live_bytes += e.size;
        if (found_.live_bytes > found_.peak_bytes) {
            found_.peak_bytes = found_.live_bytes;
            found_.peak_event = index;
        }
    }

    const char* path_;
    header header_{};
    mapped_array<unsigned char> bytes_;
    survey found_;
};

} // namespace trace
