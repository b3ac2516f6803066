#!/bin/sh
# budget.sh LIMIT PROGRAM [PRELOAD]: fails if one turn of PROGRAM's loop takes more than LIMIT
# instructions, the loop's own included. Instructions, unlike seconds, are the same on every run.
# PROGRAM takes a number of turns; two runs, one with more turns, cancel start and end.
set -eu
limit=$1 program=$2 preload=${3-}
few=100000 many=300000

instructions() {
    LD_PRELOAD=$preload valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$program" "$1" 2>&1 | sed -n 's/.*Collected : *//p'
}

less=$(instructions $few)
more=$(instructions $many)
awk -v less="$less" -v more="$more" -v turns=$((many - few)) -v limit="$limit" 'BEGIN {
    if (less == "" || more == "") { print "callgrind counted nothing"; exit 1 }
    each = (more - less) / turns
    printf "%.1f instructions a turn, limit %d\n", each, limit
    exit each > limit
}'
