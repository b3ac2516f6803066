// The format of a trace: the allocation calls of one run of a program, in the order in which they
// happened. This is the only place that knows it; recorder.cpp writes it and replay.cpp reads it.
//
// A file is a header and the events. Behind them may be room that the recorder never used, so a
// trace is whole however its program ended: the header says at any time how far the events reach.
//
// An event is a varint (seven bits in a byte, the lowest first, the top bit set in all bytes but the
// last) of `value << 3 | kind`, and for some kinds more:
//
//   kind         value    then              the call
//   0 malloc     size     slot              malloc, realloc of null
//   1 calloc     size     slot              calloc, the size being the product
//   2 aligned    size     slot, log2        posix_memalign, aligned_alloc, memalign, valloc, pvalloc;
//                                           log2 of the alignment is one byte
//   3 realloc    size     slot              realloc to a size that is not 0
//   4 free       slot                       free, realloc to the size 0; slot 0 stands for null
//   5 foreign    0                          free or realloc of a block whose allocation was not seen
//   6 thread     thread                     no call: those that follow are of this thread
//
// A slot names a block from its allocation to its free; then the number is used again. So a program
// with a thousand live blocks needs a thousand slots however many blocks it had. Slots count from 1
// and threads from 0, both without gaps in the order of their first event; the first thread is 0.
// Calls that failed are not in a trace: they changed nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trace {

enum class kind : std::uint8_t { malloc, calloc, aligned, realloc, free, foreign, thread };
inline constexpr unsigned kind_bits = 3;

/// In the byte order of the machine; on one with another order, `version` is not what it should be.
struct header {
    char magic[8];
    std::uint32_t version;
    std::uint32_t threads;
    std::uint64_t bytes;    // of all events
    std::uint64_t events;   // how many, `thread` not counted
    std::uint64_t checksum; // of the bytes of all events
    std::uint64_t slots;
};
static_assert(sizeof(header) == 48, "a header is the same everywhere");

inline constexpr char magic[8] = {'b', 'i', 'n', 't', 'r', 'a', 'c', 'e'};
inline constexpr std::uint32_t version = 1;

/// No block is larger, so a size that is has been damaged.
inline constexpr std::uint64_t most_size = std::uint64_t{1} << 47;
inline constexpr unsigned most_log2 = 46;

/// FNV-1a with 64 bits, a byte at a time: the recorder always has that of what is written so far.
class checksum {
public:
    void add(unsigned char byte) noexcept { value_ = (value_ ^ byte) * 0x100000001b3; }
    [[nodiscard]] std::uint64_t value() const noexcept { return value_; }

private:
    std::uint64_t value_ = 0xcbf29ce484222325;
};

struct event {
    kind what = kind::foreign;
    std::uint8_t log2 = 0; // of the alignment, for `aligned`
    std::uint32_t thread = 0;
    std::uint64_t slot = 0;
    std::uint64_t size = 0;
};

constexpr bool allocates(kind what) noexcept { return what <= kind::aligned; }
constexpr bool has_size(kind what) noexcept { return what <= kind::realloc; }

// --- writing -------------------------------------------------------------------------------------

/// The bytes of one event.
class encoded {
public:
    explicit encoded(const event& e) noexcept
    {
        const std::uint64_t value = has_size(e.what)         ? e.size
                                    : e.what == kind::free   ? e.slot
                                    : e.what == kind::thread ? e.thread
                                                             : 0;
        append(value << kind_bits | static_cast<std::uint64_t>(e.what));
        if (has_size(e.what)) append(e.slot);
        if (e.what == kind::aligned) bytes_[size_++] = e.log2;
    }
    [[nodiscard]] const unsigned char* begin() const noexcept { return bytes_; }
    [[nodiscard]] const unsigned char* end() const noexcept { return bytes_ + size_; }

    static constexpr std::size_t most_bytes = 2 * 10 + 1;

private:
    void append(std::uint64_t value) noexcept
    {
        for (; value >= 0x80; value >>= 7)
            bytes_[size_++] = static_cast<unsigned char>(value | 0x80);
        bytes_[size_++] = static_cast<unsigned char>(value);
    }

    unsigned char bytes_[most_bytes];
    std::size_t size_ = 0;
};

// --- reading -------------------------------------------------------------------------------------

/// Reads the events one by one, and checks each for itself. Whether they fit each other, slots
/// above all, is for the reader to say.
class decoder {
public:
    decoder(const unsigned char* first, const unsigned char* last) noexcept
        : next_(first), last_(last)
    {}

    /// The next event, `thread` left out.
    /// @return false at the end, and at damage; then problem() says which.
    bool read(event& e) noexcept
    {
        while (next_ != last_) {
            if (!read_event(e)) return false;
            if (e.what != kind::thread) return true;
        }
        return false;
    }

    /// What is wrong with the event that could not be read; null if all is well.
    [[nodiscard]] const char* problem() const noexcept { return problem_; }

    /// How many threads there were so far.
    [[nodiscard]] std::uint32_t threads() const noexcept { return threads_; }

private:
    bool read_event(event& e) noexcept
    {
        const std::uint64_t head = read_number();
        const std::uint64_t value = head >> kind_bits;
        e = {.what = static_cast<kind>(head & ((1U << kind_bits) - 1)), .thread = thread_};
        switch (e.what) {
        case kind::aligned:
        case kind::malloc:
        case kind::calloc:
        case kind::realloc:
            e.size = value;
            e.slot = read_number();
            if (value > most_size) return fails("a size that no block can have");
            if (e.slot == 0) return fails("a block without a slot");
            if (e.what == kind::aligned) e.log2 = read_byte();
            if (e.log2 > most_log2) return fails("an alignment that no block can have");
            break;
        case kind::free: e.slot = value; break;
        case kind::foreign:
            if (value != 0) return fails("a foreign block with a number");
            break;
        case kind::thread: switch_to(value); break;
        default: return fails("an event of no kind");
        }
        return problem_ == nullptr;
    }

    void switch_to(std::uint64_t thread) noexcept
    {
        if (thread > threads_)
            fails("a thread out of its turn");
        else if (thread == threads_)
            ++threads_;
        thread_ = static_cast<std::uint32_t>(thread);
    }

    std::uint64_t read_number() noexcept
    {
        std::uint64_t number = 0;
        for (unsigned shift = 0; shift < 63; shift += 7) {
            const unsigned char byte = read_byte();
            number |= std::uint64_t{byte & 0x7fU} << shift;
            if (byte < 0x80) return number;
        }
        fails("a number that is too long");
        return 0;
    }

    unsigned char read_byte() noexcept
    {
        if (next_ != last_) return *next_++;
        fails("an event that is cut off");
        return 0;
    }

    bool fails(const char* problem) noexcept
    {
        if (problem_ == nullptr) problem_ = problem;
        return false;
    }

    const unsigned char* next_;
    const unsigned char* last_;
    const char* problem_ = nullptr;
    std::uint32_t thread_ = 0;
    std::uint32_t threads_ = 1;
};

} // namespace trace
