#define BINMALLOC_OVERRIDE_MALLOC
#include <binmalloc/binmalloc.hpp>
