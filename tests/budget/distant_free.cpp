// distant_free N: frees N blocks of 32 bytes in another thread than the one that allocated them, in
// bundles of 1000: the instructions of both threads, from one allocation to the next. See budget.sh.
#include <binmalloc/binmalloc.hpp>

#include <array>
#include <cstdlib>
#include <semaphore>
#include <thread>

int main(int, char** argv)
{
    static std::array<void*, 1000> bundle;
    std::binary_semaphore full(0);
    std::binary_semaphore empty(1);
    const long bundles = std::atol(argv[1]) / static_cast<long>(bundle.size());
    std::thread consumer([&] {
        for (long i = 0; i < bundles; ++i) {
            full.acquire();
            for (void* p : bundle) binmalloc::deallocate(p);
            empty.release();
        }
    });
    for (long i = 0; i < bundles; ++i) {
        empty.acquire();
        for (void*& p : bundle) p = binmalloc::allocate(32);
        full.release();
    }
    consumer.join();
}
