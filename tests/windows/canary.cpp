// Ends in the way that it is told to; all but the first must be seen to fail.
#include <cstdlib>
#include <cstring>

int main(int count, char** arguments)
{
    const char* const end = count > 1 ? arguments[1] : "";
    if (std::strcmp(end, "return") == 0) return 0;
    if (std::strcmp(end, "crash") == 0) {
        volatile int* volatile nowhere = nullptr;
        *nowhere = 1;
        return 0; // if it has not crashed
    }
    if (std::strcmp(end, "abort") == 0) std::abort();
    return std::strcmp(end, "status") == 0 ? 1 : 0;
}
