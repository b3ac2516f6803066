// What operator new does without memory, in a program or a plug-in that knows nothing of binmalloc.
#include <cstddef>
#include <cstdint>
#include <new>

namespace {

constexpr std::size_t too_much = SIZE_MAX / 2;

int handler_calls = 0;

void give_up_after_three()
{
    if (++handler_calls == 3) std::set_new_handler(nullptr);
}

void throw_something_else() { throw 42; }

/// Calls `allocate`; true if that ends in an exception of type E.
template <class E, class Allocate>
bool throws(Allocate allocate)
{
    try {
        allocate();
    } catch (const E&) {
        return true;
    } catch (...) {}
    return false;
}

int count_failures()
{
    int failures = 0;
    const auto expect = [&](bool condition) { failures += condition ? 0 : 1; };
    const auto plain = [] { return ::operator new(too_much); };
    const auto aligned = [] { return ::operator new (too_much, std::align_val_t{64}); };
    const auto nothrow = [] { return ::operator new(too_much, std::nothrow); };

    expect(throws<std::bad_alloc>(plain));
    expect(throws<std::bad_alloc>(aligned));
    expect(nothrow() == nullptr);

    std::set_new_handler(give_up_after_three);
    expect(throws<std::bad_alloc>(plain));
    expect(handler_calls == 3);

    std::set_new_handler(throw_something_else);
    expect(throws<int>(plain));
    std::set_new_handler(nullptr);

    void* const block = ::operator new(100); // and it goes on working
    expect(block != nullptr);
    ::operator delete(block);
    return failures;
}

} // namespace

extern "C" int run_plugin() { return count_failures(); }

int main() { return count_failures(); }
