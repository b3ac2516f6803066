#!/usr/bin/env bash
# Installs what the tests need (tests/packages*.txt), builds them and runs them.
#   tests/run.sh               the legs of every change, in build-tests/LEG; half an hour to an hour on two cores
#   tests/run.sh --all         those, and other platforms and compilers
#   tests/run.sh --quick       the leg gcc alone
#   tests/run.sh --long        the legs long and long_fuzz: soaks, fuzzing and forks at full length
#   tests/run.sh --leg NAME    that leg alone; may be repeated
# The last line is `N passed, N failed`, over all legs; the exit status is 0 only if none failed.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
failures=() # in words, for the end of the output

# --- the legs: each a configuration of the same tests (a table of them: tests/README.md) ----------

# Catches: wrong code, and everything a user would meet first: warnings, headers that don't compile
# alone, packaging, examples, real programs on the preload library. And what breaks when everything
# allocates here, in the unit tests' second runs: recursion, start-up and exit, foreign blocks.
leg_gcc() {
    run_leg gcc gcc g++ "${shorter[@]}" -DBINMALLOC_TEST_OVERRIDE=ON "-DBINMALLOC_STRESS_SEEDS=1;2"
}

# Catches: what only one compiler accepts, and what linters find in the headers. Its unit tests are those
# of the next two legs.
leg_clang() {
    run_leg clang clang clang++ -DBINMALLOC_TEST_USERS=OFF -DBINMALLOC_TEST_UNITS=OFF "${shorter[@]}"
}

# Catches: writes outside the allocator's own tables, undefined behaviour, and assertions.
leg_asan() { address_leg asan clang clang++; }

# Catches: data races between leases, shared caches, inboxes and the page allocator; code that only one
# compiler happens to get right.
leg_tsan() { thread_leg tsan clang clang++; }

# Catches: what another compiler's instrumentation sees. Of its warnings some are false.
leg_gcc_asan() { address_leg gcc_asan gcc g++ -DBINMALLOC_WERROR=OFF; }
leg_gcc_tsan() { thread_leg gcc_tsan gcc g++ -DBINMALLOC_WERROR=OFF; }

# Catches: sequences of calls that nobody thought of, which damage blocks, lose memory, or are refused.
leg_fuzz() { run_leg fuzz clang clang++ -DBINMALLOC_TEST_FUZZ=ON; }

# Catches: use of memory that was never written, and that memcheck does not know binmalloc's blocks.
leg_valgrind() { run_leg valgrind gcc g++ -DBINMALLOC_TEST_VALGRIND=ON; }

# Catches: what only 64 bits make right: sizes and sums that wrap, layouts, an address space that ends.
leg_m32() {
    local emulator=()
    runs_32_bits || emulator=(-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-i386 -DBINMALLOC_TEST_EMULATED=ON
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -DNDEBUG")
    # The 64-bit system's headers serve both, but only a package that removes the cross compilers says so.
    run_leg m32 gcc g++ "${own_googletest[@]}" -DBINMALLOC_TEST_CHECKS=OFF "${shorter[@]}" \
        "$built_sooner" "-DCMAKE_C_FLAGS=-m32 -idirafter /usr/include/x86_64-linux-gnu" \
        "-DCMAKE_CXX_FLAGS=-m32 -idirafter /usr/include/x86_64-linux-gnu" "${emulator[@]}"
}

# Catches: a page size that was assumed, not asked for; what only x86's instructions make right.
leg_aarch64_4k() { emulated_leg aarch64_4k aarch64-linux-gnu 4096; }
leg_aarch64_16k() { emulated_leg aarch64_16k aarch64-linux-gnu 16384; }
leg_aarch64_64k() { emulated_leg aarch64_64k aarch64-linux-gnu 65536; }

# Catches: a byte order that was assumed.
leg_s390x() { emulated_leg s390x s390x-linux-gnu 4096; }

# Catches: what a 32-bit processor that isn't x86 does otherwise: alignment, 64-bit atomics.
leg_armhf() { emulated_leg armhf arm-linux-gnueabihf 4096; }

# Catches: what a processor without atomics of one byte does otherwise: code that needs a library for them.
leg_riscv64() { emulated_leg riscv64 riscv64-linux-gnu 4096; }

# Catches: what Linux forgives or does not have: memory that is used before it is committed, that is
# not given back, threads that end by another callback. Under Wine, which needs no display.
leg_windows() {
    run_leg_for_windows windows x86_64-w64-mingw32-gcc-posix x86_64-w64-mingw32-g++-posix "$built_sooner"
}

# Catches: the same with native thread_local, which g++ emulates there.
leg_windows_clang() {
    # Unoptimized, some programs would define a function of g++'s library a second time.
    run_leg_for_windows windows_clang clang clang++ "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -DNDEBUG"
}

# Catches: what another compiler, optimizer, standard or library makes of the same code.
leg_gcc_11() { compiler_leg gcc_11 gcc-11 g++-11 20 -O0; }
leg_gcc_lto() { compiler_leg gcc_lto gcc g++ 23 "-O3 -flto=auto"; }
leg_clang_16() { compiler_leg clang_16 clang-16 clang++-16 23 -O2; }
leg_clang_19() { compiler_leg clang_19 clang-19 clang++-19 23 -O3; }
leg_libcxx() {
    compiler_leg libcxx clang clang++ 20 -O2 "${own_googletest[@]}" -DCMAKE_CXX_FLAGS=-stdlib=libc++
}

# Catches: what takes time: rare interleavings, memory that grows slowly.
leg_long() {
    run_leg long gcc g++ -DBINMALLOC_TEST_SCALE=10 -DBINMALLOC_TEST_USERS=OFF \
        -DBINMALLOC_STRESS_SECONDS=600 "-DBINMALLOC_STRESS_SEEDS=1;2;3"
}
leg_long_fuzz() {
    run_leg long_fuzz clang clang++ -DBINMALLOC_TEST_FUZZ=ON -DBINMALLOC_FUZZ_SECONDS=1800
}

legs=(gcc clang asan tsan fuzz valgrind m32 windows)
other_legs=(gcc_asan gcc_tsan windows_clang aarch64_4k aarch64_16k aarch64_64k s390x armhf riscv64
    gcc_11 gcc_lto clang_16 clang_19 libcxx)
long_legs=(long long_fuzz)
# Assertions on, optimized only as far as it saves time.
checked=(-DCMAKE_BUILD_TYPE=Debug -DBINMALLOC_TEST_SCALE=0.1 -DBINMALLOC_STRESS_SECONDS=5)
# What takes time does so by its repetitions; the legs `long` have more of them.
shorter=(-DBINMALLOC_TEST_SCALE=0.07 -DBINMALLOC_STRESS_SECONDS=5)
# Less of the compiler's time, in legs that are not about it.
built_sooner="-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O0 -DNDEBUG"
# Debian's package of the library is for one target, that of its source for all.
own_googletest=(-DBINMALLOC_TEST_GOOGLETEST=/usr/src/googletest)

# --- machinery ------------------------------------------------------------------------------------

# run_leg NAME CC CXX [CMake options]: configures, builds, tests and counts.
run_leg() {
    local name=$1
    printf '\n=== leg %s\n' "$name"
    build_in "build-tests/$name" "$@" && test_in "build-tests/$name" "$name"
}

# address_leg, thread_leg NAME CC CXX [CMake options]: the same with those sanitizers.
address_leg() {
    run_leg "$@" "${checked[@]}" -DCMAKE_CXX_FLAGS_DEBUG=-g1 -DBINMALLOC_SANITIZE=address,undefined
}
thread_leg() {
    run_leg "$@" "${checked[@]}" "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" -DBINMALLOC_SANITIZE=thread
}

# emulated_leg NAME TRIPLET PAGE_SIZE: the same for another platform, under qemu. Legs that differ in
# the page size alone share what was built.
emulated_leg() {
    local name=$1 target=$2 build=build-tests/$2
    printf '\n=== leg %s\n' "$name"
    build_in "$build" "$name" "$target-gcc" "$target-g++" "${own_googletest[@]}" \
        --toolchain "$PWD/tests/toolchains/emulated.cmake" "-DBINMALLOC_TARGET=$target" \
        -DBINMALLOC_TEST_EMULATED=ON -DBINMALLOC_STRESS_SECONDS=5 &&
        QEMU_PAGESIZE=$3 test_in "$build" "$name"
}

# Not every kernel for 64 bits runs programs for 32.
runs_32_bits() {
    mkdir -p build-tests && echo 'int main() {}' | g++ -m32 -x c++ - -o build-tests/runs_32_bits &&
        build-tests/runs_32_bits
} 2>/dev/null

# compiler_leg NAME CC CXX STANDARD FLAGS [CMake options]: the same, as that compiler has it.
compiler_leg() {
    local name=$1 cc=$2 cxx=$3 standard=$4 flags=$5
    shift 5
    run_leg "$name" "$cc" "$cxx" -DBINMALLOC_TEST_USERS=OFF -DBINMALLOC_TEST_BUDGETS=OFF \
        -DBINMALLOC_TEST_SCALE=0.1 -DBINMALLOC_STRESS_SECONDS=5 "-DCMAKE_CXX_STANDARD=$standard" \
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=$flags -g1 -DNDEBUG" "$@"
}

# build_in BUILD_DIR NAME CC CXX [CMake options]: false, and counted, if there is nothing to test.
build_in() {
    local build=$1 name=$2 cc=$3 cxx=$4
    shift 4
    if ! CC=$cc CXX=$cxx cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1 -DNDEBUG" "$@"; then
        count_failure "$name: does not configure"
        return 1
    fi
    # A target that doesn't build counts once here; the tests of the others still run.
    cmake --build "$build" -j "$(nproc)" -- -k 0 || count_failure "$name: does not build"
}

# test_in BUILD_DIR NAME: tests and counts.
test_in() {
    local results=$PWD/$1/results_$2.xml
    rm -f "$results"
    ctest --test-dir "$1" -j "$(nproc)" --output-on-failure --no-tests=error \
        --output-junit "$results"
    count_results "$2" "$results"
}

# As run_leg, with the toolchain file, and a Wine of the leg's own.
run_leg_for_windows() {
    export WINEPREFIX=$PWD/build-tests/$1/wine
    mkdir -p "build-tests/$1"
    tests/windows/wine.sh cmd /c exit # else the first programs would wait for it, in their time
    run_leg "$@" "-DCMAKE_TOOLCHAIN_FILE=$PWD/tests/windows/toolchain.cmake" \
        "${own_googletest[@]}" -DBINMALLOC_TEST_USERS=OFF \
        -DBINMALLOC_TEST_SCALE=0.1 -DBINMALLOC_STRESS_SECONDS=5
    unset WINEPREFIX
}

count_failure() {
    failures+=("$1")
    printf 'FAILED %s\n' "$1"
    failed=$((failed + 1))
}

# Adds ctest's own counts to ours. A test that skips itself, as not meant for this system or build,
# counts as neither; one that could not run counts as failed.
count_results() {
    local all run skipped
    if [ ! -s "$2" ]; then
        count_failure "$1: ctest wrote no results"
        return
    fi
    all=$(grep -c '<testcase ' "$2")
    run=$(grep -c '<testcase .* status="run"' "$2")
    skipped=$(grep -c '<skipped message="SKIP_' "$2")
    printf 'leg %s: %d of %d tests passed, %d skipped, %d s\n' "$1" "$run" "$all" "$skipped" \
        $((SECONDS - leg_began))
    passed=$((passed + run))
    failed=$((failed + all - run - skipped))
    [ "$all" -eq $((run + skipped)) ] || failures+=("$1:"$'\n'"$(failed_tests "$2")")
}

# The names of the tests that failed, and the end of what each printed.
failed_tests() {
    awk '
        /<testcase / {
            match($0, /name="[^"]*"/)
            name = substr($0, RSTART + 6, RLENGTH - 7)
            bad = $0 !~ /status="run"/
            count = 0
        }
        /<skipped message="SKIP_/ { bad = 0 }
        bad { line[count++ % 25] = $0 }
        /<\/testcase>/ && bad {
            print "--- " name
            for (i = count > 25 ? count - 25 : 0; i < count; ++i) print line[i % 25]
        }' "$1" | sed 's/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&amp;/\&/g'
}

finish() {
    [ ${#failures[@]} -eq 0 ] || printf "%s\n" "" "=== what failed" "${failures[@]}"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] && exit 0
    exit 1
}

# What of the lists of packages is missing, one a line: packages where dpkg knows them, else commands.
missing() {
    local package command lists=(tests/packages.txt) leg
    for leg in "${chosen[@]}"; do
        case " ${other_legs[*]} " in
            *" $leg "*) lists+=(tests/packages_all.txt) && break ;;
        esac
    done
    while read -r package command _; do
        case $package in '' | '#'*) continue ;; esac
        if command -v dpkg-query >/dev/null; then
            dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$' ||
                echo "$package"
        elif [ "$command" != - ]; then
            command -v "$command" >/dev/null || echo "$command (Debian package $package)"
        fi
    done < <(cat "${lists[@]}")
}

install_missing() {
    local packages root=()
    packages=$(missing)
    [ -n "$packages" ] || return 0
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }; then
        "${root[@]}" apt-get -o DPkg::Lock::Timeout=900 update
        # shellcheck disable=SC2086 # one argument for each package
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=900 \
            install -y --no-install-recommends $packages
        packages=$(missing)
        [ -n "$packages" ] || return 0
    fi
    printf 'The tests need these, and they are missing:\n%s\n' "$packages"
    count_failure "packages"
    finish
}

usage() { sed -n '2,8s/^# //p' tests/run.sh; }

chosen=()
while [ $# -gt 0 ]; do
    case $1 in
        --all) chosen=("${legs[@]}" "${other_legs[@]}") ;;
        --quick) chosen=(gcc) ;;
        --long) chosen=("${long_legs[@]}") ;;
        --leg)
            shift
            every_leg="${legs[*]} ${other_legs[*]} ${long_legs[*]}"
            case " $every_leg " in
                *" ${1-} "*) chosen+=("$1") ;;
                *) echo "no leg '${1-}'; the legs are: $every_leg" >&2 && exit 2 ;;
            esac
            ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${legs[@]}")

install_missing
# What was compiled before is not compiled again, also if it was in another copy of the repository.
export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
for leg in "${chosen[@]}"; do
    leg_began=$SECONDS
    "leg_$leg"
done
finish
