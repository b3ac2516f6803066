# Builds for 64-bit Windows with mingw-w64, g++ or clang, and runs what it builds under Wine.
# The compilers are those of CC and CXX, for instance x86_64-w64-mingw32-g++-posix or clang++.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
foreach(language IN ITEMS C CXX RC)
    set(CMAKE_${language}_COMPILER_TARGET x86_64-w64-mingw32) # of clang; g++ has but one
endforeach()
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)

set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

# The compiler's own libraries are not beside the program when it runs.
foreach(kind IN ITEMS EXE SHARED MODULE)
    set(CMAKE_${kind}_LINKER_FLAGS_INIT -static)
endforeach()

# clang finds neither g++'s C++ library nor its directory by itself, but this system's own headers.
if("$ENV{CXX}" MATCHES "clang")
    execute_process(COMMAND x86_64-w64-mingw32-g++-posix -print-libgcc-file-name
        OUTPUT_VARIABLE gcc_dir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    get_filename_component(gcc_dir "${gcc_dir}" DIRECTORY)
    set(CMAKE_C_FLAGS_INIT "-nostdlibinc -isystem /usr/x86_64-w64-mingw32/include")
    set(CMAKE_CXX_FLAGS_INIT "-nostdlibinc -Wno-unused-command-line-argument")
    foreach(dir IN ITEMS "${gcc_dir}/include/c++" "${gcc_dir}/include/c++/x86_64-w64-mingw32"
            /usr/x86_64-w64-mingw32/include)
        string(APPEND CMAKE_CXX_FLAGS_INIT " -isystem ${dir}")
    endforeach()
    foreach(kind IN ITEMS EXE SHARED MODULE)
        string(APPEND CMAKE_${kind}_LINKER_FLAGS_INIT " -fuse-ld=lld -L${gcc_dir}")
    endforeach()
    set(CMAKE_CXX_STANDARD_LIBRARIES_INIT -lwinpthread)
endif()

set(CMAKE_CROSSCOMPILING_EMULATOR "${CMAKE_CURRENT_LIST_DIR}/wine.sh")
