"""The programs that are measured, and their inputs.

To add one: write a function that makes its inputs and returns a Program, decorate it with
@measured, and put what it needs into packages.txt. Its output must be the same in every run.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import measuring
import redis_server
from building import BENCH, TOOLS
from measuring import Command


@dataclass(frozen=True)
class Setup:
    library: Path   # the library to preload
    quick: bool

    def scale(self, quick, full):
        return quick if self.quick else full

    def workload(self, name):
        return BENCH / "workloads" / name

    def generate(self, script, size):
        """The output of a workload script, in a file. Made anew each time, for it is quick and a
        stale input is not."""
        path = TOOLS / f"{script}.{size}"
        with open(path, "wb") as output:
            subprocess.run([sys.executable, self.workload(script), str(size)], stdout=output,
                           check=True)
        return path


@dataclass(frozen=True)
class Variant:
    """One way to run a program: which command, with the library preloaded or not."""

    name: str
    command: Command
    preload: bool = False


@dataclass(frozen=True)
class Program:
    """Variants of the same work, the first on the system's allocator. All must have the same
    output. `runner` does one run; most programs are just run to their end."""

    name: str
    variants: list
    runner: Callable = measuring.run_command

    def run(self, setup, variant, limit):
        return self.runner(variant.command, setup.library if variant.preload else None, limit)


@dataclass(frozen=True)
class Entry:
    make: Callable
    needs: set


PROGRAMS = {}


def measured(name, *needs):
    """Registers a function that makes a Program; `needs` are the commands that it runs."""

    def register(make):
        PROGRAMS[name] = Entry(lambda setup: make(setup, name), set(needs))
        return make

    return register


def with_and_without(command):
    return [Variant("system", command), Variant("preload", command, preload=True)]


@measured("sqlite3", "sqlite3")
def sqlite3(setup, name):
    load = setup.generate("sqlite_load.py", setup.scale(15_000, 80_000))
    return Program(name, with_and_without(Command(["sqlite3", "-batch", ":memory:"], stdin=load)))


@measured("python3")
def python3(setup, name):
    script = setup.workload("python_dicts.py")
    command = Command([sys.executable, script, str(setup.scale(12_000, 60_000))],
                      environment={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"})
    return Program(name, with_and_without(command))


@measured("redis", "redis-benchmark", "redis-check-rdb")
def redis(setup, name):
    load = redis_server.Load(keys=setup.scale(3_000, 10_000), requests=setup.scale(30_000, 90_000))
    return Program(name, with_and_without(Command(redis_server.server_argv(TOOLS))),
                   runner=load.run)


@measured("perl", "perl")
def perl(setup, name):
    command = Command(["perl", setup.workload("perl_words.pl"), str(setup.scale(8_000, 30_000))],
                      environment={"PERL_HASH_SEED": "0"})
    return Program(name, with_and_without(command))


@measured("lua", "lua5.4")
def lua(setup, name):
    command = Command(["lua5.4", setup.workload("lua_strings.lua"),
                       str(setup.scale(8_000, 30_000))])
    return Program(name, with_and_without(command))


@measured("jq", "jq")
def jq(setup, name):
    records = setup.generate("json_records.py", setup.scale(6_000, 30_000))
    command = Command(["jq", "-c", "-f", setup.workload("json_report.jq"), records])
    return Program(name, with_and_without(command))


@measured("z3", "z3")
def z3(setup, name):
    problems = setup.generate("smt_problems.py", setup.scale(4, 12))
    return Program(name, with_and_without(Command(["z3", "-smt2", problems])))


@measured("g++", "g++")
def compiler(setup, name):
    command = Command(["g++", "-std=c++20", "-O1", "-c", BENCH / "word_index.cpp",
                       "-o", "word_index.o"], output="word_index.o")
    return Program(name, with_and_without(command))


WORD_INDEX = "word_index"
WORD_INDEX_THREADS = "word_index_threads"
WORD_INDEX_BUILDS = {
    "word_index": [],
    "word_index_override": ["-DBINMALLOC_OVERRIDE_NEW_DELETE"],
    "word_index_typed": ["-DWORD_INDEX_TYPED=1"],
}


def own_builds(names):
    """The binaries to build from word_index.cpp, with their flags."""
    return WORD_INDEX_BUILDS if {WORD_INDEX, WORD_INDEX_THREADS} & set(names) else {}


def word_index(setup, name, threads):
    tree = setup.scale("/usr/include/c++", "/usr/include")

    def build(binary):
        return Command([TOOLS / binary, tree, str(threads)])

    return Program(name, [*with_and_without(build("word_index")),
                          Variant("override", build("word_index_override")),
                          Variant("typed", build("word_index_typed"))])


@measured(WORD_INDEX)
def word_index_alone(setup, name):
    return word_index(setup, name, threads=1)


@measured(WORD_INDEX_THREADS)
def word_index_threads(setup, name):
    return word_index(setup, name, threads=4)
