#!/bin/sh
# Checks one of the models with spin, by a search of all its states:
#   check.sh MODEL DIRECTORY            must be right: no assertion fails, nobody is stuck, and
#                                       everybody comes to the end under a fair scheduler (with
#                                       LIVENESS defined, for which a model may be smaller)
#   check.sh MODEL DIRECTORY MUTATION   must be wrong, one way or the other
# MODEL is the name of a file here without .pml, MUTATION a macro that it explains; DIRECTORY is for
# what spin writes.
set -eu
source=$(cd "$(dirname "$0")" && pwd)/$1.pml
directory=$2
mutation=${3-}

# search GOAL COMPILE-OPTIONS PAN-OPTIONS: "right" or "wrong" in $answer; ends if it is neither.
search() {
    rm -rf "${directory:?}/$1"
    mkdir -p "$directory/$1"
    cd "$directory/$1"
    # shellcheck disable=SC2086 # one argument for each option
    spin -a ${mutation:+-D$mutation} $4 "$source" >spin.log 2>&1 || { cat spin.log; exit 1; }
    # shellcheck disable=SC2086
    ${CC:-cc} -O1 -w -DNFAIR=3 $2 -o pan pan.c
    # shellcheck disable=SC2086
    ./pan -m1000000 $3 >pan.log 2>&1 || true
    if grep -q 'errors: 0$' pan.log && ! grep -Eq 'not completed|depth too small|out of memory' pan.log
    then
        answer=right
    elif grep -Eq 'errors: [1-9]' pan.log && ! grep -Eq 'depth too small|out of memory' pan.log; then
        answer=wrong
    else
        cat pan.log
        exit 1
    fi
    printf '%s %s, %s: %s (%s states)\n' "$(basename "$source")" "${mutation:-as it is}" "$1" "$answer" \
        "$(sed -n 's/^ *\([0-9e.+]*\) states, stored.*/\1/p' pan.log)"
}

search safety '-DSAFETY -DNOCLAIM' '' ''
if [ "$answer" = right ]; then
    search liveness '' '-a -f' '-DLIVENESS'
fi
if [ -z "$mutation" ]; then
    [ "$answer" = right ] || { cat pan.log; exit 1; }
else
    [ "$answer" = wrong ] || { echo "not found: $mutation"; exit 1; }
fi
