#!/usr/bin/env bash
# Installs what the tests need (tests/packages.txt), builds them and runs them.
#   tests/run.sh [--all]       every leg below, in build-tests/LEG; under 30 minutes on two cores
#   tests/run.sh --quick       the leg gcc alone
#   tests/run.sh --long        the legs long and long_fuzz: soaks, fuzzing and forks at full length
#   tests/run.sh --leg NAME    that leg alone; may be repeated
# The last line is `N passed, N failed`, over all legs; the exit status is 0 only if none failed.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
failures=() # in words, for the end of the output

# --- the legs: each a configuration of the same tests ---------------------------------------------

# Catches: wrong code, and everything a user would meet first: warnings, headers that don't compile
# alone, packaging, examples, real programs on the preload library.
leg_gcc() { run_leg gcc gcc g++ -DBINMALLOC_STRESS_SECONDS=20 "-DBINMALLOC_STRESS_SEEDS=1;2;3"; }

# Catches: what only one compiler accepts, and code that only one compiler happens to get right.
leg_clang() { run_leg clang clang clang++ -DBINMALLOC_TEST_USERS=OFF "${shorter[@]}"; }

# Catches: writes outside the allocator's own tables, undefined behaviour, and assertions.
leg_asan() {
    run_leg asan gcc g++ "${checked[@]}" -DCMAKE_CXX_FLAGS_DEBUG=-g1 \
        -DBINMALLOC_SANITIZE=address,undefined
}

# Catches: data races between leases, shared caches, inboxes and the page allocator.
leg_tsan() {
    run_leg tsan gcc g++ "${checked[@]}" "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" -DBINMALLOC_SANITIZE=thread
}

# Catches: what breaks when everything allocates here: recursion, start-up and exit, foreign blocks.
leg_override() { run_leg override gcc g++ -DBINMALLOC_TEST_OVERRIDE=ON "${shorter[@]}"; }

# Catches: sequences of calls that nobody thought of, which damage blocks, lose memory, or are refused.
leg_fuzz() { run_leg fuzz clang clang++ -DBINMALLOC_TEST_FUZZ=ON; }

# Catches: use of memory that was never written, and that memcheck does not know binmalloc's blocks.
leg_valgrind() { run_leg valgrind gcc g++ -DBINMALLOC_TEST_VALGRIND=ON; }

# Catches: what Linux forgives or does not have: memory that is used before it is committed, that is
# not given back, threads that end by another callback. Under Wine, which needs no display.
leg_windows() { run_leg_for_windows windows x86_64-w64-mingw32-gcc-posix x86_64-w64-mingw32-g++-posix; }

# Catches: the same with native thread_local, which g++ emulates there.
leg_windows_clang() { run_leg_for_windows windows_clang clang clang++; }

# Catches: what takes time: rare interleavings, memory that grows slowly.
leg_long() {
    run_leg long gcc g++ -DBINMALLOC_TEST_SCALE=10 -DBINMALLOC_TEST_USERS=OFF \
        -DBINMALLOC_STRESS_SECONDS=600 "-DBINMALLOC_STRESS_SEEDS=1;2;3"
}
leg_long_fuzz() {
    run_leg long_fuzz clang clang++ -DBINMALLOC_TEST_FUZZ=ON -DBINMALLOC_FUZZ_SECONDS=1800
}

legs=(gcc clang asan tsan override fuzz valgrind windows windows_clang)
long_legs=(long long_fuzz)
# Assertions on, optimized only as far as it saves time. Warnings are for the other legs: instrumented
# code has false ones.
checked=(-DCMAKE_BUILD_TYPE=Debug -DBINMALLOC_WERROR=OFF)
# What the leg gcc repeats as often as is useful.
shorter=(-DBINMALLOC_TEST_SCALE=0.3)

# --- machinery ------------------------------------------------------------------------------------

# run_leg NAME CC CXX [CMake options]: configures, builds, tests and counts.
run_leg() {
    local name=$1 cc=$2 cxx=$3 build=build-tests/$1 jobs results
    shift 3
    jobs=$(nproc)
    results=$PWD/$build/results.xml
    printf '\n=== leg %s\n' "$name"
    mkdir -p "$build" && rm -f "$results"
    if ! CC=$cc CXX=$cxx cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1 -DNDEBUG" "$@"; then
        count_failure "$name: does not configure"
        return
    fi
    # A target that doesn't build counts once here; the tests of the others still run.
    cmake --build "$build" -j "$jobs" -- -k 0 || count_failure "$name: does not build"
    ctest --test-dir "$build" -j "$jobs" --output-on-failure --no-tests=error \
        --output-junit "$results"
    count_results "$name" "$results"
}

# As run_leg, with the toolchain file, and a Wine of the leg's own.
run_leg_for_windows() {
    export WINEPREFIX=$PWD/build-tests/$1/wine
    mkdir -p "build-tests/$1"
    tests/windows/wine.sh cmd /c exit # else the first programs would wait for it, in their time
    run_leg "$@" "-DCMAKE_TOOLCHAIN_FILE=$PWD/tests/windows/toolchain.cmake" \
        -DBINMALLOC_TEST_GOOGLETEST=/usr/src/googletest -DBINMALLOC_TEST_USERS=OFF \
        -DBINMALLOC_TEST_SCALE=0.1 -DBINMALLOC_STRESS_SECONDS=5 \
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -DNDEBUG"
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
    printf 'leg %s: %d of %d tests passed, %d skipped\n' "$1" "$run" "$all" "$skipped"
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

# What of packages.txt is missing, one a line: packages where dpkg knows them, else commands.
missing() {
    local package command
    while read -r package command _; do
        case $package in '' | '#'*) continue ;; esac
        if command -v dpkg-query >/dev/null; then
            dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$' ||
                echo "$package"
        elif [ "$command" != - ]; then
            command -v "$command" >/dev/null || echo "$command (Debian package $package)"
        fi
    done <tests/packages.txt
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

usage() { sed -n '2,7s/^# //p' tests/run.sh; }

chosen=()
while [ $# -gt 0 ]; do
    case $1 in
        --all) chosen=("${legs[@]}") ;;
        --quick) chosen=(gcc) ;;
        --long) chosen=("${long_legs[@]}") ;;
        --leg)
            shift
            case " ${legs[*]} ${long_legs[*]} " in
                *" ${1-} "*) chosen+=("$1") ;;
                *) echo "no leg '${1-}'; the legs are: ${legs[*]} ${long_legs[*]}" >&2 && exit 2 ;;
            esac
            ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${legs[@]}")

install_missing
for leg in "${chosen[@]}"; do
    "leg_$leg"
done
finish
