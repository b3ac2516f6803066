// The library as an include: containers and plain calls.
#include <binmalloc/binmalloc.hpp>

#include <list>
#include <thread>
#include <vector>

int main()
{
    std::vector<int, binmalloc::allocator<int>> numbers;
    std::list<int, binmalloc::allocator<int>> list;
    std::thread thread([&] {
        for (int i = 0; i < 10000; ++i) {
            numbers.push_back(i);
            list.push_back(i);
        }
    });
    thread.join();

    void* const block = binmalloc::allocate(100);
    const bool sized = binmalloc::usable_size(block) == binmalloc::good_size(100);
    binmalloc::deallocate(block);
    return sized && numbers.back() == 9999 && list.size() == 10000 ? 0 : 1;
}
