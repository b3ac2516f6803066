# Linux on another processor, by Debian's cross compilers and qemu's user mode:
#   cmake --toolchain tests/toolchains/emulated.cmake -DBINMALLOC_TARGET=s390x-linux-gnu ...
#
# Programs are linked statically: the dynamic loader would be emulated, too, at the start of each.
# Their pages are as large as the environment's QEMU_PAGESIZE says, else 4 KiB.
set(BINMALLOC_TARGET "" CACHE STRING "The target's GNU triplet")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES BINMALLOC_TARGET)

string(REGEX MATCH "^[^-]+" processor "${BINMALLOC_TARGET}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_C_COMPILER ${BINMALLOC_TARGET}-gcc)
set(CMAKE_CXX_COMPILER ${BINMALLOC_TARGET}-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-${processor} -L /usr/${BINMALLOC_TARGET})
set(CMAKE_FIND_ROOT_PATH /usr/${BINMALLOC_TARGET})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
