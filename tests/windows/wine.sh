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
# The server that all programs share: were it to end with the last of them, the next could meet it as
# it ends. Where one runs already this does nothing.
if [ -d "$WINEPREFIX" ]; then "$tools/wineserver" -p60 2>/dev/null; fi
exec "$tools/wine64" "$@"
