// A library whose thread_local needs FILLER_BYTES of the space that the loader keeps for libraries
// opened late, and can do with no other.
extern "C" __attribute__((visibility("default"))) char* filler()
{
    alignas(8)
        __attribute__((tls_model("initial-exec"))) static thread_local char bytes[FILLER_BYTES];
    return bytes;
}
