#!/bin/sh
# Runs a case of memcheck.cpp under valgrind and looks at what that finds:
#   memcheck.sh PROGRAM CASE             the program is right: no error, nothing lost
#   memcheck.sh PROGRAM CASE COUNT TEXT  at least COUNT reports have a line with TEXT (a regular
#                                        expression), and the function CASE* in their stack
set -eu
program=$1 case=$2 count=${3:-0} text=${4-}
log=$(valgrind --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=9 \
    --error-limit=no --num-callers=20 "$program" "$case" 2>&1) && status=0 || status=$?
fail() {
    printf '%s\n%s\n' "$log" "FAILED: $1"
    exit 1
}
echo "$log" | grep -q '^memcheck: done' || fail "the program did not come to its end"
if [ "$count" -eq 0 ]; then
    [ "$status" -eq 0 ] || fail "a right program is accused, status $status"
    exit 0
fi
[ "$status" -eq 9 ] || fail "status $status instead of 9"
# Reports are paragraphs, divided by lines with nothing but the process.
found=$(echo "$log" | sed 's/^==[0-9]*== *//' |
    awk -v RS= -v text="$text" -v case="$case" '$0 ~ text && $0 ~ case { n++ } END { print n + 0 }')
[ "$found" -ge "$count" ] || fail "$found reports with '$text' instead of $count"
