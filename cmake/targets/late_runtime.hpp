// What libbinmalloc.so needs of the C++ runtime library, without linking it.
//
// Linked, it would be loaded into every program: for one in C a millisecond more at each start and
// nearly a megabyte. Only operator new without memory needs it. Who calls that is in C++ and has it
// loaded; perhaps late and privately, as a plug-in of a program in C does. So the runtime's functions
// that the compiler calls are replaced here, inside this library alone, by ones that look up the real
// ones when they are called. What is only named, not called, is weak.
#ifndef BINMALLOC_LATE_RUNTIME_HPP
#define BINMALLOC_LATE_RUNTIME_HPP

#include <binmalloc/platform/os.hpp>

#include <dlfcn.h>

__asm__(".weak _ZTISt9bad_alloc, _ZTVSt9bad_alloc, _ZNSt9bad_allocD1Ev, _ZNSt9bad_allocD2Ev\n"
        ".weak _ZSt9terminatev, __cxa_call_terminate, _Unwind_Resume\n"); // never reached

namespace binmalloc_late_runtime {

using handler = void();
using destructor = void(void*);

/// Null if the process has no C++ runtime library.
inline void* find(const char* name)
{
    if (void* symbol = dlsym(RTLD_DEFAULT, name)) return symbol;
    constexpr const char* libraries[] = {"libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"};
    for (const char* library : libraries) {
        // RTLD_NOLOAD: only if it is there. The reference that this takes is never given back.
        if (void* runtime = dlopen(library, RTLD_LAZY | RTLD_NOLOAD)) return dlsym(runtime, name);
    }
    return nullptr;
}

template <class Function>
Function* find_function(const char* name)
{
    return reinterpret_cast<Function*>(find(name));
}

#define BINMALLOC_IN_PLACE_OF(name) __asm__(name) __attribute__((used, visibility("hidden")))
handler* get_new_handler() BINMALLOC_IN_PLACE_OF("_ZSt15get_new_handlerv");
void* allocate_exception(std::size_t) BINMALLOC_IN_PLACE_OF("__cxa_allocate_exception");
[[noreturn]] void throw_exception(void*, void*, destructor*) BINMALLOC_IN_PLACE_OF("__cxa_throw");
int personality(int, int, std::uint64_t, void*, void*)
    BINMALLOC_IN_PLACE_OF("__gxx_personality_v0");
void* begin_catch(void*) BINMALLOC_IN_PLACE_OF("__cxa_begin_catch");
void end_catch() BINMALLOC_IN_PLACE_OF("__cxa_end_catch");
#undef BINMALLOC_IN_PLACE_OF

handler* get_new_handler()
{
    const auto real = find_function<handler*()>("_ZSt15get_new_handlerv");
    return real != nullptr ? real() : nullptr;
}

// The only exception thrown in this library is std::bad_alloc. Its type and its functions, as the
// compiler refers to them, are null where the runtime came late: so it is made anew from what is
// found, and what the compiler has made, here, is dropped.
void* allocate_exception(std::size_t)
{
    static void* dropped[4];
    return dropped;
}

void throw_exception(void*, void*, destructor*)
{
    const auto allocate = find_function<void*(std::size_t)>("__cxa_allocate_exception");
    const auto raise = find_function<void(void*, void*, destructor*)>("__cxa_throw");
    const auto destroy = find_function<destructor>("_ZNSt9bad_allocD1Ev");
    void* const type = find("_ZTISt9bad_alloc");
    const auto functions = static_cast<void**>(find("_ZTVSt9bad_alloc"));
    if (allocate != nullptr && raise != nullptr && type != nullptr && functions != nullptr) {
        const auto exception = static_cast<void**>(allocate(sizeof(void*)));
        *exception = functions + 2; // what stands before is the offset to the top and the type
        raise(exception, type, destroy);
    }
    binmalloc::os::fatal("out of memory, and no C++ runtime library to throw with", nullptr);
}

// These three are called on the way of an exception, so by a runtime library that is there.

int personality(int version, int actions, std::uint64_t kind, void* exception, void* context)
{
    const auto real = find_function<decltype(personality)>("__gxx_personality_v0");
    return real(version, actions, kind, exception, context);
}

void* begin_catch(void* exception)
{
    return find_function<decltype(begin_catch)>("__cxa_begin_catch")(exception);
}

void end_catch() { find_function<decltype(end_catch)>("__cxa_end_catch")(); }

} // namespace binmalloc_late_runtime

#endif
