#!/bin/sh
# linking.sh WORK_DIR [FLAG...]: builds linking.cpp with the flags, once with each override, and
# runs it. CXX names the compiler.
set -eu
work=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
source=$here/../..
rm -rf "$work" && mkdir -p "$work" && cd "$work"

# clang says so of what the linker alone uses.
compile() {
    $CXX -std=c++20 -Wall -Wextra -Werror -Wno-unused-command-line-argument -pthread \
        -I"$source/include" "$@"
}

compile "$@" -c "$here/linking.cpp"
for override in override:new override_malloc:malloc; do
    name=${override%:*}
    compile "$@" linking.o "$source/cmake/targets/$name.cpp" -o "$name"
    ./"$name" "${override#*:}"
done
