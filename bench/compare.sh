#!/bin/sh
# Compares allocators with each other: glibc's, binmalloc, and the peers that Debian has.
# Installs what is missing (Debian), then hands over to compare.py: see `compare.sh --help`.
exec "$(dirname "$0")/start.sh" compare.sh "$@"
