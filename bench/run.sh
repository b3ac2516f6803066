#!/bin/sh
# Runs real programs on the system's allocator and on binmalloc, and compares them.
# Installs what is missing (Debian), then hands over to run.py: see `run.sh --help`.
exec "$(dirname "$0")/start.sh" run.sh "$@"
