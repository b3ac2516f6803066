// ended_thread N: a thread allocates N blocks of 64 bytes and ends, then main frees them. See budget.sh.
#include <binmalloc/binmalloc.hpp>

#include <cstdlib>
#include <thread>

int main(int, char** argv)
{
    const long n = std::atol(argv[1]);
    void* own = binmalloc::allocate(64); // or main would lease the thread's cache
    void* last = nullptr;                // each block has the address of the one before it
    std::thread([&last, n] {
        for (long i = 0; i < n; ++i) {
            auto** const p = static_cast<void**>(binmalloc::allocate(64));
            *p = last;
            last = p;
        }
    }).join();
    while (last != nullptr) {
        void* const p = last;
        last = *static_cast<void**>(p);
        binmalloc::deallocate(p);
    }
    binmalloc::deallocate(own);
}
