// How many bytes a block may have.
#pragma once

#include <binmalloc/binmalloc.hpp>

#include <cstddef>

namespace binmalloc_test {

/// What good_size() says, or, where it was borrowed from a larger class, up to a half more (in a checked heap
/// also of the room for its note).
inline bool is_good(std::size_t usable, std::size_t good) noexcept
{
    using namespace binmalloc::detail;
    const bool may_be_lent = good > largest_small && good < max_block_size;
    return usable == good || (may_be_lent && usable > good && usable <= good + good / 2 + sizeof usable);
}

} // namespace binmalloc_test
