// A plug-in with thread-locals too large for the loader's static room, so that each thread's first
// access allocates them in the middle of an expression.
#include <array>
#include <cstddef>
#include <string>

namespace {

thread_local std::array<unsigned char, 50000> scratch{1};
thread_local std::string text(1000, 'x'); // with a destructor at the thread's end

} // namespace

/// Returns how often this thread has called it; at most 255.
extern "C" __attribute__((visibility("default"))) int plugin_count_call()
{
    text += 'y';
    const auto calls = static_cast<int>(text.size() - 1000);
    for (std::size_t i = 1; i < scratch.size(); ++i) {
        if (scratch[i] != calls - 1) return -1;
        scratch[i] = static_cast<unsigned char>(calls);
    }
    return calls;
}
