# binmalloc::preload: libbinmalloc.so at the top of the build directory, for LD_PRELOAD or to link.
add_library(binmalloc_preload SHARED "${CMAKE_CURRENT_LIST_DIR}/targets/preload.cpp")
add_library(binmalloc::preload ALIAS binmalloc_preload)
target_link_libraries(binmalloc_preload PRIVATE binmalloc ${CMAKE_DL_LIBS})

set_target_properties(binmalloc_preload PROPERTIES
    OUTPUT_NAME binmalloc
    EXPORT_NAME preload
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}"
    LINK_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/targets/preload.map"
    # Only what the sources mark is exported: the malloc family, operator new and delete, bin_*.
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    INTERPROCEDURAL_OPTIMIZATION OFF)  # see -fno-lto below

# A project that includes this one for the headers doesn't build the library unless it uses it.
if(NOT PROJECT_IS_TOP_LEVEL AND NOT BINMALLOC_INSTALL)
    set_target_properties(binmalloc_preload PROPERTIES EXCLUDE_FROM_ALL ON)
endif()

# Linked with -z nodelete below.
target_compile_definitions(binmalloc_preload PRIVATE BINMALLOC_UNLOADABLE=0)
target_compile_options(binmalloc_preload PRIVATE
    # An allocator is never wanted unoptimized by default, so also without a build type.
    $<$<CONFIG:>:-O2>
    # Loaded at program start, so thread-locals are one load away, not a call.
    -ftls-model=initial-exec
    # Our calloc must not be "optimized" into a call of calloc.
    -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free
    # late_runtime.hpp makes symbols weak by assembler directives, unseen by link-time optimization, which
    # many set in CMAKE_CXX_FLAGS.
    -fno-lto)
target_link_options(binmalloc_preload PRIVATE
    # Blocks and the thread-exit hook outlive any dlclose.
    LINKER:-z,nodelete
    # No symbol lookup in the middle of an allocation, and none missing at load time.
    LINKER:-z,now LINKER:-z,defs
    # Needs the C library alone: see targets/late_runtime.hpp.
    LINKER:--as-needed -static-libgcc
    "LINKER:--version-script=${CMAKE_CURRENT_LIST_DIR}/targets/preload.map")
