// A program that knows nothing of binmalloc and gets its operator new from a library it links.
#include <cstddef>
#include <new>

bool is_binmalloc_block(const void* block, std::size_t size);

int main()
{
    void* const block = ::operator new(100000);
    const bool ours = is_binmalloc_block(block, 100000);
    ::operator delete(block);
    return ours ? 0 : 1;
}
