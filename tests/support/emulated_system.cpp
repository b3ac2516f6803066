// The system as qemu's user mode does not emulate it: calls that it answers with success and does
// nothing, or something else. Linked into emulated tests, with --wrap.
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <sys/mman.h>
#include <unistd.h>

namespace {

std::size_t page() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }
bool is_page(const void* p) noexcept { return reinterpret_cast<std::uintptr_t>(p) % page() == 0; }
std::size_t whole_pages(std::size_t size) noexcept { return (size + page() - 1) / page() * page(); }

template <class T>
T refused(T result) noexcept
{
    errno = EINVAL;
    return result;
}

} // namespace

extern "C" {

int __real_madvise(void* p, std::size_t size, int advice) noexcept;
void* __real_mremap(void* p, std::size_t size, std::size_t to_size, int flags, void* to) noexcept;
int __real_munmap(void* p, std::size_t size) noexcept;

// Kernels look for the alignment, and round the size up. What is no hint, but changes the content, is
// not done; so it is refused here, as by a kernel that doesn't know it.
int __wrap_madvise(void* p, std::size_t size, int advice) noexcept
{
    if (!is_page(p) || advice == MADV_FREE || advice == MADV_WIPEONFORK) return refused(-1);
    return __real_madvise(p, whole_pages(size), advice);
}

// With MREMAP_DONTUNMAP the old pages stay, but qemu thinks that they are gone.
void* __wrap_mremap(void* p, std::size_t size, std::size_t to_size, int flags, void* to) noexcept
{
    constexpr int known = MREMAP_MAYMOVE | MREMAP_FIXED;
    if (!is_page(p) || (flags & ~known) != 0 || ((flags & MREMAP_FIXED) != 0 && !is_page(to)))
        return refused(MAP_FAILED);
    return __real_mremap(p, whole_pages(size), whole_pages(to_size), flags, to);
}

int __wrap_munmap(void* p, std::size_t size) noexcept
{
    if (!is_page(p)) return refused(-1);
    return __real_munmap(p, whole_pages(size));
}

// Where the program has nothing mapped, qemu itself may have something. It looks into its own tables for
// what it shall read.
int __wrap_msync(void* p, std::size_t, int) noexcept
{
    if (::write(-1, p, 1) < 0 && errno != EFAULT) return 0;
    errno = ENOMEM;
    return -1;
}
}
