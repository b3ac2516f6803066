// malloc and its family, operator new and delete of the whole program.
#include <binmalloc/override_malloc.hpp>
#include <binmalloc/override_new_delete.hpp>
