// A library that knows nothing of binmalloc, with static objects and functions of every kind that
// run before and after main. Built with malloc as it comes.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

char* made_first = nullptr;

__attribute__((constructor(101))) void begin_first()
{
    made_first = static_cast<char*>(std::malloc(2000));
    if (made_first == nullptr) std::abort();
    std::memset(made_first, 7, 2000);
}

__attribute__((destructor(101))) void end_last()
{
    if (made_first[0] != 7 || made_first[1999] != 7) std::abort();
    std::free(made_first);
    std::free(std::malloc(100000));
}

// Blocks of many sizes, held from before main until after it.
std::vector<std::string> texts = [] {
    std::vector<std::string> result;
    for (std::size_t length = 1; length < 200000; length *= 3) result.emplace_back(length, 'x');
    return result;
}();

struct checked_at_the_end {
    ~checked_at_the_end()
    {
        for (const std::string& text : texts) {
            if (text.find_first_not_of('x') != std::string::npos) std::abort();
        }
        texts.emplace_back(100000, 'y');
    }
} checked;

} // namespace

extern "C" __attribute__((visibility("default"))) void* library_block(std::size_t size)
{
    return std::malloc(size);
}

extern "C" __attribute__((visibility("default"))) void library_free(void* block)
{
    std::free(block);
}
