#!/bin/sh
# without_cmake.sh WAY WORK_DIR STAGE: use of the library with a compiler and nothing else.
# CC and CXX name the compilers; STAGE is where the library is installed. Where the target is not the
# machine at hand, NM and READELF read its files and EMULATOR runs them.
set -eu
way=$1 work=$2 stage=$3
consumer=$(cd "$(dirname "$0")" && pwd)
source=$consumer/../..
rm -rf "$work" && mkdir -p "$work" && cd "$work"

# From the source tree: the include path, and that is all.
plain() {
    $CXX -std=c++20 -I"$source/include" "$consumer/allocator.cpp" -o allocator
    ./allocator
    $CXX -std=c++20 -O2 -I"$source/include" "$consumer/override.cpp" \
        "$source/cmake/targets/override.cpp" -o override
    ./override
}

pkg_config() {
    pc=$(find "$stage" -name binmalloc.pc)
    PKG_CONFIG_PATH=$(dirname "$pc")
    export PKG_CONFIG_PATH
    $CXX -std=c++20 "$consumer/allocator.cpp" $(pkg-config --cflags --libs binmalloc) -o allocator
    ./allocator
    $CC "$consumer/preload.c" -ldl -o preload
    LD_PRELOAD=$(pkg-config --variable=preload binmalloc) ./preload
}

# One header, alone in a directory.
amalgamated() {
    cmake -DOUTPUT="$work/binmalloc.hpp" -P "$source/cmake/amalgamate.cmake"
    sed 's|<binmalloc/binmalloc.hpp>|"binmalloc.hpp"|' "$consumer/allocator.cpp" >allocator.cpp
    $CXX -std=c++20 allocator.cpp -o allocator
    ./allocator
    {
        echo '#define BINMALLOC_OVERRIDE_MALLOC 1'
        sed 's|<binmalloc/binmalloc.hpp>|"binmalloc.hpp"|' "$consumer/override.cpp"
    } >override.cpp
    $CXX -std=c++20 -O2 override.cpp -o override
    ./override
}

# No C++ runtime library: compiled as C++, linked as C.
single_cache() {
    for level in -O0 -O2; do
        $CXX -std=c++20 $level -fno-exceptions -fno-rtti -I"$source/include" \
            -c "$consumer/single_cache.cpp"
        $CC single_cache.o -pthread -o single_cache
        needed=$(${READELF:-readelf} -d single_cache | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p')
        echo "$level needs:" $needed
        if [ -z "$needed" ] || echo "$needed" | grep -v -e '^libc\.' -e '^ld' -e '^libpthread\.'; then
            echo "needs more than the C library"
            exit 1
        fi
        ${NM:-nm} single_cache.o >symbols
        ${READELF:-readelf} -lW single_cache >segments
        if grep -i ' [bd] .*tls\|__tls_get_addr' symbols || grep TLS segments; then
            echo "has thread-locals"
            exit 1
        fi
        ${EMULATOR:-} ./single_cache
    done
}

$way
