# The installed package: find_package(binmalloc) defines the targets binmalloc::binmalloc, ::c,
# ::override, ::override_malloc and ::preload.
if(NOT CMAKE_CXX_COMPILER_LOADED)
    # Else CMake would leave the overrides' sources out without a word.
    set(binmalloc_FOUND FALSE)
    set(binmalloc_NOT_FOUND_MESSAGE "binmalloc needs the language CXX, also in a project in C")
    return()
endif()

include(CMakeFindDependencyMacro)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/binmallocTargets.cmake")
