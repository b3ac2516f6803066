// libbinmalloc.so: every standard name, and the C API for programs that link it.
#include <binmalloc/c_api.hpp>
#include <binmalloc/override_malloc.hpp>
#include <binmalloc/override_new_delete.hpp>

#include "late_runtime.hpp"
