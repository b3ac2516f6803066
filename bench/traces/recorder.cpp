// Records the allocation calls of a program, in the format of format.hpp:
//
//   BINMALLOC_TRACE=FILE LD_PRELOAD=./recorder.so PROGRAM [ARGUMENT...]
//
// FILE must not exist yet. It is that of the first process alone: this takes BINMALLOC_TRACE out of
// the environment, so programs that PROGRAM starts are not recorded, nor are processes that it forks.
// More variables and signs choose otherwise:
//
//   BINMALLOC_TRACE_PROGRAM=NAME   the first process whose program was started by the name NAME
//   BINMALLOC_TRACE=FILE%p         each process (each called NAME), into a file of its own; %p stands
//                                  for its number. Forked ones only once they start a program.
//
// The recorded order is one in which the calls can have happened: an allocation is written when it
// is done, a free before it begins, all under one lock. What is not recorded passes through, and so
// do all other functions, malloc_usable_size among them; those that the C library builds on malloc
// (strdup, reallocarray, operator new) are recorded as the calls that they make.
//
// Nothing here calls malloc: memory is from mmap, and the file is written through mappings, so that
// it is whole whether the program exits, is killed or starts another in its place.
#include "format.hpp"
#include "live_blocks.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

using trace::kind;

constexpr char file_variable[] = "BINMALLOC_TRACE";
constexpr char program_variable[] = "BINMALLOC_TRACE_PROGRAM";

std::size_t page_size() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// By write(2): a stdio stream may allocate its buffer.
void complain(const char* path, const char* what, int error) noexcept
{
    char line[PATH_MAX + 200];
    const int length = std::snprintf(line, sizeof line, "recorder: %s: %s: %s\n", path, what,
                                     ::strerrordesc_np(error));
    [[maybe_unused]] const auto written =
        ::write(STDERR_FILENO, line, static_cast<std::size_t>(length));
}

/// No call changes errno but by what the real function does.
class errno_keeper {
public:
    errno_keeper() = default;
    errno_keeper(const errno_keeper&) = delete;
    errno_keeper& operator=(const errno_keeper&) = delete;
    ~errno_keeper() { errno = kept_; }

private:
    int kept_ = errno;
};

// --- the file ------------------------------------------------------------------------------------

/// The file as it grows. It is open only while a part of it is mapped: programs close descriptors
/// that they do not know, and use their numbers. Errors are errno's, 0 if there is none.
class output {
public:
    [[nodiscard]] int create(const char* path) noexcept
    {
        std::strcpy(path_, path);
        const int file = ::open(path_, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0) return errno;
        ::close(file);
        if (const int error = map_window(0)) return error;
        header_ = reinterpret_cast<trace::header*>(window_); // the first window stays for it
        std::memcpy(header_->magic, trace::magic, sizeof trace::magic);
        header_->version = trace::version;
        next_ = window_ + sizeof(trace::header);
        return 0;
    }

    [[nodiscard]] int append(const trace::event& e) noexcept
    {
        if (static_cast<std::size_t>(window_ + window_size_ - next_) < trace::encoded::most_bytes)
            if (const int error = move_window()) return error;
        const trace::encoded bytes(e);
        for (const unsigned char byte : bytes) {
            *next_++ = byte;
            checksum_.add(byte);
        }
        header_->bytes += static_cast<std::uint64_t>(bytes.end() - bytes.begin());
        header_->events += e.what != kind::thread;
        header_->checksum = checksum_.value();
        return 0;
    }

    [[nodiscard]] trace::header& header() noexcept { return *header_; }
    [[nodiscard]] const char* path() const noexcept { return path_; }

private:
    static constexpr std::size_t least_window = 64 * 1024;
    static constexpr std::size_t most_window = 4 * 1024 * 1024;

    [[nodiscard]] int move_window() noexcept
    {
        const std::size_t done = sizeof(trace::header) + header_->bytes;
        unsigned char* const old = window_;
        const std::size_t old_size = window_size_;
        const std::size_t offset = done & ~(page_size() - 1);
        if (const int error = map_window(offset)) return error;
        next_ = window_ + (done - offset);
        if (old != reinterpret_cast<unsigned char*>(header_)) ::munmap(old, old_size);
        return 0;
    }

    /// Windows grow with the file, so at most half of it is room that is not used.
    [[nodiscard]] int map_window(std::size_t offset) noexcept
    {
        const std::size_t size = std::clamp(std::bit_ceil(offset), least_window, most_window);
        const int file = ::open(path_, O_RDWR | O_CLOEXEC);
        if (file < 0) return errno;
        // Else a full disk would be a signal in the middle of the program.
        int error = ::posix_fallocate(file, static_cast<off_t>(offset), static_cast<off_t>(size));
        if (error == 0) {
            void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                                        static_cast<off_t>(offset));
            if (mapped == MAP_FAILED) {
                error = errno;
            } else {
                window_ = static_cast<unsigned char*>(mapped);
                window_size_ = size;
            }
        }
        ::close(file);
        return error;
    }

    char path_[PATH_MAX];
    trace::header* header_ = nullptr;
    unsigned char* window_ = nullptr;
    std::size_t window_size_ = 0;
    unsigned char* next_ = nullptr;
    trace::checksum checksum_;
};

// --- the recording -------------------------------------------------------------------------------

/// One more than the thread's number in the trace; 0 before its first event.
[[gnu::tls_model("initial-exec")]] constinit thread_local std::uint32_t own_number = 0;

class guard {
public:
    explicit guard(pthread_mutex_t& mutex) noexcept : mutex_(mutex)
    {
        ::pthread_mutex_lock(&mutex_);
    }
    guard(const guard&) = delete;
    guard& operator=(const guard&) = delete;
    ~guard() { ::pthread_mutex_unlock(&mutex_); }

private:
    pthread_mutex_t& mutex_;
};

/// Thread safe. It lies in memory that a forked child finds wiped, so there it is not active,
/// whatever the parent's other threads did at the time.
class recording {
public:
    [[nodiscard]] static recording* make() noexcept
    {
        void* const memory = ::mmap(nullptr, sizeof(recording), PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return nullptr;
        if (::madvise(memory, sizeof(recording), MADV_WIPEONFORK) != 0) {
            ::munmap(memory, sizeof(recording));
            return nullptr;
        }
        return new (memory) recording;
    }

    /// @return errno's value, 0 if it has started
    [[nodiscard]] int start(const char* path) noexcept
    {
        if (const int error = output_.create(path)) return error;
        if (!blocks_.start()) return ENOMEM;
        active_.store(true, std::memory_order_release);
        return 0;
    }

    [[nodiscard]] bool is_active() const noexcept
    {
        return active_.load(std::memory_order_acquire);
    }

    void allocated(kind what, const void* block, std::size_t size, std::uint8_t log2 = 0) noexcept
    {
        const guard locked(mutex_);
        add(what, block, size, log2);
    }

    void frees(const void* block) noexcept
    {
        const guard locked(mutex_);
        const std::uint64_t slot = block == nullptr ? 0 : blocks_.remove(block);
        if (block != nullptr && slot == 0)
            write({.what = kind::foreign});
        else
            give_up(slot);
    }

    /// Before the call: another thread may be given the block's address before the call is back.
    /// @return the block's slot for reallocated(), or 0 if it has none
    [[nodiscard]] std::uint64_t reallocates(const void* block) noexcept
    {
        const guard locked(mutex_);
        return blocks_.remove(block);
    }

    void reallocated(std::uint64_t slot, const void* old, const void* block,
                     std::size_t size) noexcept
    {
        const guard locked(mutex_);
        if (block == nullptr && size != 0) {
            if (slot != 0) blocks_.add_again(old, slot); // it failed, and the old one is as it was
        } else if (slot != 0 && size != 0) {
            blocks_.add_again(block, slot);
            write({.what = kind::realloc, .slot = slot, .size = size});
        } else {
            if (slot != 0)
                give_up(slot);
            else
                write({.what = kind::foreign});
            if (block != nullptr) add(kind::malloc, block, size, 0);
        }
    }

private:
    recording() = default;

    void add(kind what, const void* block, std::size_t size, std::uint8_t log2) noexcept
    {
        const std::uint64_t slot = blocks_.add(block);
        if (slot == 0) return stop(ENOMEM);
        write({.what = what, .log2 = log2, .slot = slot, .size = size});
    }

    void give_up(std::uint64_t slot) noexcept
    {
        write({.what = kind::free, .slot = slot});
        if (slot != 0 && !blocks_.give_up(slot)) stop(ENOMEM);
    }

    /// `e` without its thread, which is the one that calls.
    void write(const trace::event& e) noexcept
    {
        if (!is_active()) return;
        trace::header& header = output_.header();
        if (own_number == 0) own_number = ++header.threads;
        const std::uint32_t thread = own_number - 1;
        if (thread != last_thread_) {
            if (const int error = output_.append({.what = kind::thread, .thread = thread}))
                return stop(error);
            last_thread_ = thread;
        }
        if (const int error = output_.append(e)) return stop(error);
        header.slots = blocks_.slots();
    }

    void stop(int error) noexcept
    {
        if (active_.exchange(false)) complain(output_.path(), "the trace ends early", error);
    }

    std::atomic<bool> active_ = false;
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    trace::live_blocks blocks_;
    output output_;
    std::uint32_t last_thread_ = 0;
};

// --- when to record ------------------------------------------------------------------------------

enum class decision { open, made };
constinit std::atomic<decision> decided = decision::open;
constinit std::atomic<recording*> current = nullptr; // null where nothing is recorded

bool is_one_each(const char* file) noexcept { return std::strstr(file, "%p") != nullptr; }

/// The file that is asked for: absolute, as the program may go elsewhere; with the process's number
/// for %p, and `attempt` behind that if it is not the first.
/// @return false if it is too long
bool expand_path(char (&path)[PATH_MAX], const char* asked, int attempt) noexcept
{
    std::size_t length = 0;
    if (asked[0] != '/') {
        if (::getcwd(path, sizeof path - 1) == nullptr) return false;
        length = std::strlen(path);
        path[length++] = '/';
    }
    const char* const sign = std::strstr(asked, "%p");
    const std::size_t before =
        sign == nullptr ? std::strlen(asked) : static_cast<std::size_t>(sign - asked);
    if (before >= sizeof path - length) return false;
    std::memcpy(path + length, asked, before);
    length += before;
    path[length] = 0;
    if (sign == nullptr) return true;
    char number[32] = "";
    if (attempt > 1) std::snprintf(number, sizeof number, ".%d", attempt);
    const int rest =
        std::snprintf(path + length, sizeof path - length, "%d%s%s", ::getpid(), number, sign + 2);
    return static_cast<std::size_t>(rest) < sizeof path - length;
}

const char* wanted_file() noexcept
{
    const char* const file = ::secure_getenv(file_variable);
    const char* const program = ::secure_getenv(program_variable);
    const bool is_meant =
        program == nullptr || std::strcmp(program, ::program_invocation_short_name) == 0;
    return file != nullptr && *file != 0 && is_meant ? file : nullptr;
}

/// Begins to record, or says why not.
recording* begin(const char* file) noexcept
{
    recording* const made = recording::make();
    char path[PATH_MAX];
    int error = made == nullptr ? errno : EEXIST;
    // A process that starts another program in its place keeps its number.
    for (int attempt = 1; error == EEXIST && (attempt == 1 || is_one_each(file)); ++attempt) {
        if (!expand_path(path, file, attempt))
            error = ENAMETOOLONG;
        else
            error = made->start(path);
    }
    if (error == 0) return made;
    complain(file, "not recorded", error);
    return nullptr;
}

/// At the first call of the process; the loader's come before there is an environment to ask.
void decide() noexcept
{
    if (::environ == nullptr) return;
    if (decided.exchange(decision::made) == decision::made) return;
    if (const char* const file = wanted_file())
        current.store(begin(file), std::memory_order_release);
}

/// Not unsetenv, which shells have of their own, for variables of their own.
void remove_from_environment(const char* name) noexcept
{
    const std::size_t length = std::strlen(name);
    char** kept = ::environ;
    for (char** each = kept; *each != nullptr; ++each)
        if (std::strncmp(*each, name, length) != 0 || (*each)[length] != '=') *kept++ = *each;
    *kept = nullptr;
}

/// Not at the first call, which may be one of setenv's own.
[[gnu::constructor]] void hide_from_children() noexcept
{
    const errno_keeper keeper;
    if (decided.load() == decision::open) decide();
    const char* const file = wanted_file();
    if (file != nullptr && !is_one_each(file)) remove_from_environment(file_variable);
}

/// True while the thread is in a call already: the calls that an allocator or this file makes by
/// itself are not the program's.
[[gnu::tls_model("initial-exec")]] constinit thread_local bool is_inside = false;

/// A call of the program: what it is to be recorded in, if at all.
class call {
public:
    call() noexcept
    {
        if (is_nested_) return;
        is_inside = true;
        if (decided.load(std::memory_order_relaxed) == decision::open) [[unlikely]]
            decide();
        recording* const found = current.load(std::memory_order_acquire);
        if (found != nullptr && found->is_active()) recording_ = found;
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;
    ~call()
    {
        if (!is_nested_) is_inside = false;
    }

    [[nodiscard]] recording* in() const noexcept { return recording_; }

    /// Records an allocation that is done.
    /// @return the block
    void* allocated(kind what, void* block, std::size_t size,
                    std::size_t alignment = 1) const noexcept
    {
        const errno_keeper keeper;
        if (recording_ != nullptr && block != nullptr)
            recording_->allocated(what, block, size,
                                  static_cast<std::uint8_t>(std::bit_width(alignment - 1)));
        return block;
    }

private:
    bool is_nested_ = is_inside;
    recording* recording_ = nullptr;
};

// --- the real functions --------------------------------------------------------------------------

struct functions {
    decltype(&::malloc) malloc;
    decltype(&::free) free;
    decltype(&::calloc) calloc;
    decltype(&::realloc) realloc;
    decltype(&::posix_memalign) posix_memalign;
    decltype(&::aligned_alloc) aligned_alloc;
    decltype(&::memalign) memalign;
    decltype(&::valloc) valloc;
    decltype(&::pvalloc) pvalloc;
};
constinit functions real{};

enum class lookup { not_begun, begun, done };
constinit std::atomic<lookup> looked_up = lookup::not_begun;

template <class Function>
void find(Function& function, const char* name) noexcept
{
    function = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

/// What dlsym allocates while it looks for the real functions, and other threads meanwhile. Never
/// freed, not recorded.
class early_memory {
public:
    /// @return zeroed memory
    void* allocate(std::size_t size) noexcept
    {
        const std::size_t rounded =
            (size + block_alignment - 1) / block_alignment * block_alignment;
        if (rounded < size || rounded > sizeof bytes_) std::abort();
        const std::size_t offset = used_.fetch_add(rounded);
        if (offset > sizeof bytes_ - rounded) std::abort();
        return bytes_ + offset;
    }

    [[nodiscard]] bool has(const void* block) const noexcept
    {
        const auto address = reinterpret_cast<std::uintptr_t>(block);
        const auto first = reinterpret_cast<std::uintptr_t>(bytes_);
        return address - first < sizeof bytes_;
    }

    /// The bytes from a block to the end, its own ones among them.
    [[nodiscard]] std::size_t bytes_from(const void* block) const noexcept
    {
        return static_cast<std::size_t>(bytes_ + sizeof bytes_ - static_cast<const char*>(block));
    }

private:
    static constexpr std::size_t block_alignment = 64;
    alignas(block_alignment) char bytes_[64 * 1024] = {};
    std::atomic<std::size_t> used_ = 0;
};
constinit early_memory early;

/// Whether the real functions can be called; looks them up the first time.
bool is_ready() noexcept
{
    if (looked_up.load(std::memory_order_acquire) == lookup::done) [[likely]]
        return true;
    auto state = lookup::not_begun;
    if (!looked_up.compare_exchange_strong(state, lookup::begun)) return state == lookup::done;
    find(real.malloc, "malloc");
    find(real.free, "free");
    find(real.calloc, "calloc");
    find(real.realloc, "realloc");
    find(real.posix_memalign, "posix_memalign");
    find(real.aligned_alloc, "aligned_alloc");
    find(real.memalign, "memalign");
    find(real.valloc, "valloc");
    find(real.pvalloc, "pvalloc");
    looked_up.store(lookup::done, std::memory_order_release);
    return true;
}

/// realloc of a block from early memory.
void* move_from_early(const void* block, std::size_t size) noexcept
{
    void* const moved = std::malloc(size);
    if (moved != nullptr) std::memcpy(moved, block, std::min(size, early.bytes_from(block)));
    return moved;
}

} // namespace

// --- the calls of the program --------------------------------------------------------------------

#define TRACE_EXPORT extern "C" [[gnu::visibility("default")]]

TRACE_EXPORT void* malloc(std::size_t size) noexcept
{
    if (!is_ready()) return early.allocate(size);
    const call c;
    return c.allocated(kind::malloc, real.malloc(size), size);
}

TRACE_EXPORT void* calloc(std::size_t count, std::size_t size) noexcept
{
    if (!is_ready()) return early.allocate(count * size);
    const call c;
    return c.allocated(kind::calloc, real.calloc(count, size), count * size);
}

TRACE_EXPORT void free(void* block) noexcept
{
    if (early.has(block) || !is_ready()) return;
    const errno_keeper keeper;
    const call c;
    if (c.in() != nullptr) c.in()->frees(block);
    real.free(block);
}

TRACE_EXPORT void* realloc(void* block, std::size_t size) noexcept
{
    if (early.has(block)) return move_from_early(block, size);
    if (!is_ready()) return early.allocate(size);
    const call c;
    if (block == nullptr) return c.allocated(kind::malloc, real.realloc(nullptr, size), size);
    if (c.in() == nullptr) return real.realloc(block, size);
    const std::uint64_t slot = c.in()->reallocates(block);
    void* const result = real.realloc(block, size);
    const errno_keeper keeper;
    c.in()->reallocated(slot, block, result, size);
    return result;
}

TRACE_EXPORT int posix_memalign(void** block, std::size_t alignment, std::size_t size) noexcept
{
    if (!is_ready()) return ENOMEM;
    const call c;
    const int error = real.posix_memalign(block, alignment, size);
    if (error == 0) c.allocated(kind::aligned, *block, size, alignment);
    return error;
}

TRACE_EXPORT void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept
{
    if (!is_ready()) return early.allocate(size);
    const call c;
    return c.allocated(kind::aligned, real.aligned_alloc(alignment, size), size, alignment);
}

TRACE_EXPORT void* memalign(std::size_t alignment, std::size_t size) noexcept
{
    if (!is_ready()) return early.allocate(size);
    const call c;
    return c.allocated(kind::aligned, real.memalign(alignment, size), size, alignment);
}

TRACE_EXPORT void* valloc(std::size_t size) noexcept
{
    if (!is_ready()) return nullptr;
    const call c;
    return c.allocated(kind::aligned, real.valloc(size), size, page_size());
}

TRACE_EXPORT void* pvalloc(std::size_t size) noexcept
{
    if (!is_ready()) return nullptr;
    const call c;
    const std::size_t pages = (size + page_size() - 1) & ~(page_size() - 1);
    return c.allocated(kind::aligned, real.pvalloc(size), pages, page_size());
}
