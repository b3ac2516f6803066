#!/bin/sh
# Runs a program for Windows: wine.sh PROGRAM [ARGUMENT...]
# In a Wine of its own, with no display, no questions, and of Wine's own messages only errors.
export WINEPREFIX="${WINEPREFIX:-${TMPDIR:-/tmp}/binmalloc_wine.$(id -u)}"
export WINEDEBUG=err+all,fixme-all
# Without winedbg a program that crashes ends with the exception's code; with it, with 0. The others
# would offer to install themselves.
export WINEDLLOVERRIDES='winedbg.exe,mscoree,mshtml,winemenubuilder.exe='
unset DISPLAY
tools=/usr/lib/wine # Debian's `wine` would look for one of 32 bits
[ -x "$tools/wine64" ] || tools=$(dirname "$(command -v wine64)")
# Wine has one page at a fixed address (0x7ffe0000). Where the kernel chooses that for something else, as
# once in 4000 programs, the program does not start, or its CreateProcess fails. Without random addresses
# it never does; where a container forbids that, it may.
wine=$tools/wine64
setarch -R true 2>/dev/null && wine="setarch -R $wine"
# The server that all programs share, and the services that the first of them starts: were they to end
# with the last program, the next could meet them as they end, and they would hold the output of the
# program that starts them open. Where a server runs already this does nothing.
mkdir -p "$WINEPREFIX"
if "$tools/wineserver" -p600 </dev/null >/dev/null 2>&1; then
    $wine wineboot --init </dev/null >/dev/null 2>&1
fi
$wine "$@"
status=$?
[ $status -eq 0 ] || echo "wine.sh: $1 ends with status $status" >&2
exit $status
