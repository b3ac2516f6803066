// An array of plain objects in memory from mmap: neither the allocator that is recorded nor the one
// that is measured sees anything of it.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include <sys/mman.h>

namespace trace {

template <class T>
class mapped_array {
    static_assert(std::is_trivially_copyable_v<T>, "mremap moves it");

public:
    mapped_array() = default;
    mapped_array(const mapped_array&) = delete;
    mapped_array& operator=(const mapped_array&) = delete;
    ~mapped_array()
    {
        if (first_ != nullptr) ::munmap(first_, size_ * sizeof(T));
    }

    /// Makes room for `count` objects, at least one; new ones are zero.
    /// @return false if the system has no memory; then all is as before
    [[nodiscard]] bool grow(std::size_t count) noexcept
    {
        void* const moved =
            first_ == nullptr
                ? ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                : ::mremap(first_, size_ * sizeof(T), count * sizeof(T), MREMAP_MAYMOVE);
        if (moved == MAP_FAILED) return false;
        first_ = static_cast<T*>(moved);
        size_ = count;
        return true;
    }

    void swap(mapped_array& other) noexcept
    {
        std::swap(first_, other.first_);
        std::swap(size_, other.size_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] T* begin() const noexcept { return first_; }
    [[nodiscard]] T* end() const noexcept { return first_ + size_; }
    T& operator[](std::size_t index) const noexcept { return first_[index]; }

private:
    T* first_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace trace
