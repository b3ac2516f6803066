#!/bin/sh
# symbols.sh LIBRARY OTHER: libbinmalloc.so exports the standard names and bin_*, and nothing else; and it
# is linked as cmake/preload.cmake says, with the C library and OTHER (none: `none`).
set -eu
library=$1 other=$2
failed=0
fail() { echo "$*"; failed=1; }

case $(readelf -h "$library") in
    *ELF64*) size_t=m ;;
    *) size_t=j ;;
esac
exported=$(nm -D --defined-only "$library" | awk '{ sub(/@.*/, "", $NF); print $NF }')
for name in malloc free calloc realloc reallocarray aligned_alloc posix_memalign memalign valloc \
    pvalloc malloc_usable_size malloc_trim free_sized free_aligned_sized cfree \
    _Znw$size_t _Zna$size_t _ZdlPv _ZdaPv _ZdlPv$size_t \
    _Znw${size_t}St11align_val_t _Znw${size_t}RKSt9nothrow_t \
    bin_malloc bin_free bin_calloc bin_realloc bin_malloc_usable_size; do
    echo "$exported" | grep -qx "$name" || fail "not exported: $name"
done
# operator new, new[], delete, delete[]; the C API; C names of the malloc family. No other C++ name.
unexpected=$(echo "$exported" |
    grep -vxE '_Z(nw|na|dl|da)[jmPA-Za-z0-9_]*|bin_[a-z_]+|(__libc_|__posix_)?[a-z_]*(alloc|memalign)[a-z_]*|(__libc_)?c?free(_[a-z_]+)?|__?libc_free|malloc_[a-z_]+|mallopt|mallinfo2?') || true
[ -z "$unexpected" ] || fail "exported, but should not be:" $unexpected

dynamic=$(readelf -dW "$library")
echo "$dynamic" | grep -q 'NODELETE' || fail "not linked with -z nodelete"
echo "$dynamic" | grep -q 'Flags:.* NOW' || fail "not linked with -z now"
if readelf -rW "$library" | grep -q 'DTPMOD\|TLSDESC'; then
    fail "thread-locals are not accessed by the initial-exec model"
fi
needed=$(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
    grep -v -e '^libc\.' -e '^ld-' -e '^libdl\.' -e '^libpthread\.' | grep -vxF "$other") || true
[ -z "$needed" ] || fail "needs more than the C library:" $needed
exit $failed
