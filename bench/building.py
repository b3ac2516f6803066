"""Builds the library and our own programs, in build-bench/ and nowhere else."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Program:
    """One of our own. `source` is a path below bench/; libraries among the flags come after it, as
    they must."""

    name: str
    source: str
    flags: tuple = ()

    @property
    def path(self):
        return TOOLS / self.name

    def build(self):
        TOOLS.mkdir(parents=True, exist_ok=True)
        run_build_step(f"building {self.name}", ["g++", "-std=c++20", "-O2", "-pthread",
                                                 "-I", ROOT / "include", BENCH / self.source,
                                                 *self.flags, "-o", self.path])


def build_programs(programs):
    """As many at a time as there are processors."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as builders:
        # list(): a step that failed raises here.
        list(builders.map(Program.build, dict.fromkeys(programs)))


def build_program(name, source, *flags):
    Program(name, source, flags).build()


def build_measurer():
    # --as-needed: the measurer must not map libstdc++, see measure.cpp.
    build_program("measure", "measure.cpp", "-Wl,--as-needed")
