// Code in a library that uses binmalloc; its user knows only this function.
#include <binmalloc/binmalloc.hpp>

#include <cstddef>

bool is_binmalloc_block(const void* block, std::size_t size)
{
    return binmalloc::usable_size(block) == binmalloc::good_size(size);
}
