// What plugin.cpp has.
#pragma once

#include <cstddef>

extern "C" {
using plugin_allocate_function = void*(std::size_t size);
using plugin_deallocate_function = void(void* p);
using plugin_live_function = std::size_t();
using plugin_purge_function = void();
using plugin_lock_function = void(); // a lock that the library's end waits for
}
