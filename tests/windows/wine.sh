#!/bin/sh
# Runs a program for Windows: wine.sh PROGRAM [ARGUMENT...]
# In a Wine of its own, with no display, no questions, and none of Wine's own messages.
export WINEPREFIX="${WINEPREFIX:-${TMPDIR:-/tmp}/binmalloc_wine.$(id -u)}"
export WINEDEBUG=-all
# Without winedbg a program that crashes ends with the exception's code; with it, with 0. The others
# would offer to install themselves.
export WINEDLLOVERRIDES='winedbg.exe,mscoree,mshtml,winemenubuilder.exe='
unset DISPLAY
tools=/usr/lib/wine # Debian's `wine` would look for one of 32 bits
[ -x "$tools/wine64" ] || tools=$(dirname "$(command -v wine64)")
# The server that all programs share, and the services that the first of them starts: were they to end
# with the last program, the next could meet them as they end, and they would hold the output of the
# program that starts them open. Where a server runs already this does nothing.
mkdir -p "$WINEPREFIX"
if "$tools/wineserver" -p600 </dev/null >/dev/null 2>&1; then
    "$tools/wine64" wineboot --init </dev/null >/dev/null 2>&1
fi
"$tools/wine64" "$@"
status=$?
[ $status -eq 0 ] || echo "wine.sh: $1 ends with status $status" >&2
exit $status
