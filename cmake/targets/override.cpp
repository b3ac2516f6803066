// operator new and delete of the whole program.
#include <binmalloc/override_new_delete.hpp>
