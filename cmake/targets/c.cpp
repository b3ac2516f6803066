// The definitions of the bin_* functions that <binmalloc/binmalloc.h> declares.
#include <binmalloc/c_api.hpp>
