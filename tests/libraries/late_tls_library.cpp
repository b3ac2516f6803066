// A library with a thread_local that the loader allocates when a thread first comes by.
extern "C" __attribute__((visibility("default"))) int touch()
{
    static thread_local struct {
        int count;
        char bytes[5000];
    } mine;
    mine.bytes[mine.count] = 1;
    return ++mine.count;
}
