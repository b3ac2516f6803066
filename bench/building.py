"""Builds the library and our own programs, in build-bench/ and nowhere else."""

import functools
import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
BUILD = ROOT / "build-bench"
TOOLS = BUILD / "bench"     # our own binaries and the generated inputs


class NotReady(Exception):
    """Something that is needed before the first measurement is not there."""


def require_commands(others=()):
    """start.sh has installed everything on Debian; elsewhere this says what to install."""
    needed = {"cmake", "ninja", "g++", *others}
    missing = sorted(command for command in needed if shutil.which(command) is None)
    if missing:
        raise NotReady(f"missing: {' '.join(missing)}. Install what these Debian packages hold:\n"
                       + (BENCH / "packages.txt").read_text())


def run_build_step(what, argv):
    print(what, flush=True)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise NotReady(f"{what}: failed: {' '.join(map(str, argv))}\n{done.stdout}")


def build_library():
    run_build_step("configuring", ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja",
                                   "-DCMAKE_BUILD_TYPE=Release", "-DBINMALLOC_BUILD_TESTS=OFF"])
    run_build_step("building libbinmalloc.so",
                   ["cmake", "--build", BUILD, "--target", "binmalloc_preload"])
    return BUILD / "libbinmalloc.so"


@functools.cache    # two benchmarks may be runs of one program
def build_program(name, source, *flags):
    """`source` is a path below bench/; libraries among the flags come after it, as they must."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    run_build_step(f"building {name}", ["g++", "-std=c++20", "-O2", "-pthread",
                                        "-I", ROOT / "include", BENCH / source, *flags,
                                        "-o", TOOLS / name])
    return TOOLS / name


def build_measurer():
    # --as-needed: the measurer must not map libstdc++, see measure.cpp.
    build_program("measure", "measure.cpp", "-Wl,--as-needed")
