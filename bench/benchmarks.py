"""The benchmarks that compare.sh runs, and how to read their results.

To add one: put its source below bench/, and a line into BENCHMARKS. The first sentence of the
source says what it asks. Each sees the allocator as its malloc, and smaller must be better in every
result.

- OwnProgram: prints a line "NAME VALUE UNIT" for each result, the unit one of UNITS, and the word
  "detail" behind it where another line counts the same already. What else it prints is ignored.
- OnThreads: an OwnProgram whose first argument is a number of threads.
- InContainers: an OwnProgram whose first arguments are a container and the allocator in its type.
- GoogleBenchmark: nothing to do; its real times are the results.
- Trace: no source, but the name of a program of programs.py, whose calls are recorded and replayed.
- RealProgram: the same program itself, unchanged, from its start to its exit.
"""

import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import measuring
import programs
import recording
from building import BENCH, Program
from measuring import Command

# What each unit measures. Only the same can have a mean.
UNITS = {"ns": "time", "us": "time", "ms": "time", "s": "time",
         "B": "memory", "MiB": "memory", "x": "memory", "faults": "page faults"}
RESULT = re.compile(rf"(\w+) ([-+.\w]+) ({'|'.join(UNITS)})( detail)?")


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    is_detail: bool = False     # compared, but not in the means
    is_of_process: bool = False

    @property
    def quantity(self):
        return UNITS[self.unit]


@dataclass(frozen=True)
class Case:
    """A process to run. `read` makes {Metric: value} from what it used and what it printed."""

    name: str
    command: Command
    read: Callable
    limit: int                  # seconds
    label: str = ""             # of a benchmark's cases, which; in tables before each result
    threads: int | None = None
    # The same work with an allocator that is compiled in, by name: run without a preloaded library.
    variants: dict = field(default_factory=dict)

    def run(self, allocator):
        command = self.variants.get(allocator.name, self.command)
        usage, output = measuring.run_and_read(command, allocator.library, self.limit)
        return self.read(usage, output)


@dataclass(frozen=True)
class ProgramCase(Case):
    """A process whose output must be the same on every allocator. `runner` runs it, as programs.py
    says; `read` takes the sample."""

    runner: Callable = measuring.run_command
    outputs: set = field(default_factory=set)   # the digests that were seen

    def run(self, allocator):
        sample = self.runner(self.command, allocator.library, self.limit)
        self.outputs.add(sample.digest)
        if len(self.outputs) > 1:
            raise measuring.RunFailed("its output differs from that of the first run")
        return self.read(sample)


def printed_results(output):
    values = {}
    for line in output.splitlines():
        if match := RESULT.fullmatch(line):
            name, value, unit, detail = match.groups()
            values[Metric(name, unit, bool(detail))] = float(value)
    return values


@dataclass(frozen=True)
class Benchmark:
    source: str
    flags = ()
    needs = ()                  # commands, besides those that all need
    variants = ()               # the names of those that its cases have

    def programs(self):
        """What to build; the first is what runs on each allocator."""
        return [Program(Path(self.source).stem, self.source, self.flags)]

    def question(self):
        """The first sentence of the source, without the program's name and arguments."""
        text = (BENCH / self.source).read_text()
        comment = re.match(r"(?://.*\n)+", text).group().replace("\n//", "").removeprefix("//")
        sentence = re.search(r"[:] (.*?[?.])(?:\s|$)", comment).group(1)
        return sentence[0].upper() + sentence[1:]


@dataclass(frozen=True)
class OwnProgram(Benchmark):
    full: tuple = ()            # its arguments
    quick: tuple = ()

    def cases(self, name, quick):
        return [self.case(name, quick)]

    def command(self, quick, *first, program=None):
        arguments = (*first, *(self.quick if quick else self.full))
        return Command([(program or self.programs()[0]).path, *map(str, arguments)])

    def case(self, name, quick, *first, **others):
        return Case(name, self.command(quick, *first), self.read, limit=300, **others)

    @staticmethod
    def read(usage, output):
        process = functools.partial(Metric, is_of_process=True)
        return printed_results(output) | {
            process("wall", "s", is_detail=True): usage["wall_ns"] / 1e9,    # sleeps are in it
            process("user+sys", "s"): (usage["user_us"] + usage["sys_us"]) / 1e6,
            process("sys", "s", is_detail=True): usage["sys_us"] / 1e6,
            process("peak_rss", "MiB"): usage["max_rss_kib"] / 1024,
        }


@dataclass(frozen=True)
class OnThreads(OwnProgram):
    counts: tuple = (1, 2, 4, 16, 64)

    def cases(self, name, quick):
        return [self.case(f"{name}/{count}", quick, count, threads=count,
                          label=f"{count} thread{'s' if count > 1 else ''}")
                for count in self.counts]


@dataclass(frozen=True)
class Variant:
    """An allocator in a container's type: the program's argument, and what to compile it with."""

    argument: str
    flags: tuple = ()
    header: str = ""            # where it must be for this variant to exist

    def is_possible(self):
        return not self.header or Path(self.header).is_file()


TYPED = "binmalloc typed"
VARIANTS = {
    TYPED: Variant("typed"),
    "pmr pool": Variant("pool"),
    "pmr monotonic": Variant("monotonic"),
    "mi_stl_allocator": Variant("mimalloc", ("-DBENCH_MI_STL=1", "-lmimalloc"),
                                "/usr/include/mimalloc.h"),
}


@dataclass(frozen=True)
class InContainers(OwnProgram):
    containers = ("list", "map", "set", "unordered_map", "vector_string")

    @staticmethod
    def read(usage, output):
        """Without what the whole process used, where it has left a part of the work out."""
        values = OwnProgram.read(usage, output)
        is_whole = any(metric.name == "replace" for metric in values)
        return {metric: value for metric, value in values.items()
                if is_whole or not metric.is_of_process}

    @property
    def variants(self):
        return [name for name, variant in VARIANTS.items() if variant.is_possible()]

    def program_of(self, variant):
        stem = Path(self.source).stem
        return Program(f"{stem}_{variant.argument}" if variant.flags else stem, self.source,
                       variant.flags)

    def programs(self):
        return [*super().programs(), *(self.program_of(VARIANTS[name]) for name in self.variants)]

    def cases(self, name, quick):
        def command(container, variant):
            return self.command(quick, container, variant.argument,
                                program=self.program_of(variant))

        return [self.case(f"{name}/{container}", quick, container, "standard", label=container,
                          variants={name: command(container, VARIANTS[name])
                                    for name in self.variants})
                for container in self.containers]


@dataclass(frozen=True)
class GoogleBenchmark(Benchmark):
    slow: str = "(?!)"          # what is left out when it must be quick: a regular expression
    seconds: float = 0.5        # to measure each of its benchmarks for
    flags = ("-lbenchmark",)

    def cases(self, name, quick):
        """One for each benchmark in it: none sees what another has left in the allocator, and none
        is lost with another that fails."""
        binary = self.programs()[0].path
        _, listed = measuring.run_and_read(Command([binary, "--benchmark_list_tests=true"]),
                                           preload=None, limit=60)
        options = ["--benchmark_format=json",
                   f"--benchmark_min_time={0.02 if quick else self.seconds}"]
        return [Case(row, Command([binary, *options, f"--benchmark_filter=^{re.escape(row)}$"]),
                     self.read, limit=60)
                for row in listed.split() if not (quick and re.search(self.slow, row))]

    @staticmethod
    def read(_, output):
        rows = json.loads(output)["benchmarks"]
        for row in rows:
            if row.get("error_occurred"):
                raise measuring.RunFailed(row["error_message"])
        return {Metric(row["name"], row["time_unit"]): row["real_time"] for row in rows}


@dataclass(frozen=True)
class Trace(Benchmark):
    source: str = "traces/replay.cpp"
    program: str = ""
    process: str | None = None  # the name of the process that is recorded, if not the first one

    @property
    def needs(self):
        return programs.PROGRAMS[self.program].needs

    def cases(self, name, quick):
        """What the whole process used is not of interest: most of it is reading the trace."""
        trace = recording.trace_of(self.program, self.process, quick)
        repeat = ["--repeat", "1" if quick else "3"]
        return [Case(name, Command([self.programs()[0].path, *repeat, trace]),
                     lambda _, output: printed_results(output), limit=300)]


@dataclass(frozen=True)
class RealProgram(Benchmark):
    source: str = ""
    program: str = ""

    @property
    def needs(self):
        return programs.PROGRAMS[self.program].needs

    def question(self):
        return f"What does {self.program} take from its start to its exit, with all else that it does?"

    def programs(self):
        return [Program(name, "word_index.cpp", tuple(flags))
                for name, flags in programs.own_builds([self.program]).items()]

    def cases(self, name, quick):
        program = programs.PROGRAMS[self.program].make(programs.Setup(library=None, quick=quick))
        unchanged = program.variants[0].command
        return [ProgramCase(name, unchanged, self.read, limit=300, runner=program.runner)]

    @staticmethod
    def read(sample):
        return {Metric("wall", "s", is_detail=True): sample.wall_s,
                Metric("user+sys", "s"): sample.cpu_s,
                Metric("sys", "s", is_detail=True): sample.sys_s,
                Metric("peak_rss", "MiB"): sample.max_rss_kib / 1024,
                Metric("page_faults", "faults", is_detail=True): sample.minor_faults}


BENCHMARKS = {
    "hello": OwnProgram("memory/hello.cpp"),

    "pairs": GoogleBenchmark("small/pairs.cpp", seconds=0.2),
    "replacing": GoogleBenchmark("small/replacing.cpp", seconds=0.2),
    "zeroed": GoogleBenchmark("small/zeroed.cpp", seconds=0.2),
    "growing": GoogleBenchmark("small/growing.cpp", seconds=0.2),
    "rows": GoogleBenchmark("small/rows.cpp", seconds=0.2),
    "mixed_small": OwnProgram("small/mixed.cpp", full=(4, 12_000_000), quick=(4, 1_000_000)),
    "mixed_large": OwnProgram("small/mixed.cpp", full=(200, 2_000_000), quick=(50, 200_000)),
    "containers": InContainers("small/containers.cpp", full=(18,), quick=(14,)),

    "private_work": OnThreads("threads/private_work.cpp", full=(24_000_000,), quick=(2_000_000,)),
    "server": OnThreads("threads/server.cpp", full=(12_000_000,), quick=(1_000_000,)),
    "producers": OnThreads("threads/producers.cpp", full=(8_000_000, "balanced"),
                           quick=(800_000, "balanced")),
    "producers_one_sided": OnThreads("threads/producers.cpp", full=(8_000_000, "one_sided"),
                                     quick=(800_000, "one_sided"), counts=(2, 4, 16, 64)),
    "fork_join": OnThreads("threads/fork_join.cpp", full=(8_000_000,), quick=(800_000,)),
    "transfers": OnThreads("threads/transfers.cpp", full=(6_000_000,), quick=(600_000,)),
    "spread_sizes": OnThreads("threads/spread_sizes.cpp", full=(10_000_000,), quick=(1_000_000,)),
    "random_sizes": OnThreads("threads/random_sizes.cpp", full=(6_000_000,), quick=(600_000,)),
    "random_sizes_large": OnThreads("threads/random_sizes.cpp", full=(2_000_000, 65_536),
                                    quick=(200_000, 65_536), counts=(1, 2, 4, 16)),
    "false_sharing": OnThreads("threads/false_sharing.cpp", full=(4_000_000, "active"),
                               quick=(400_000, "active")),
    "false_sharing_passive": OnThreads("threads/false_sharing.cpp", full=(4_000_000, "passive"),
                                       quick=(400_000, "passive")),
    "spawn": OnThreads("threads/spawn.cpp", full=(8000,), quick=(640,)),

    "give_back": OwnProgram("memory/give_back.cpp", full=(2048,), quick=(256, 1000)),
    "give_back_keep": OwnProgram("memory/give_back.cpp", full=(2048, 2000, 5),
                                 quick=(256, 1000, 5)),
    "documents": OwnProgram("memory/documents.cpp", full=(600,), quick=(60, 1000)),
    "idle": OwnProgram("memory/idle.cpp", quick=(8, 1000)),
    "sleeper": OwnProgram("memory/sleeper.cpp", quick=(16, 2_000_000)),
    "faults": OwnProgram("memory/faults.cpp", full=(1024, 20), quick=(128, 2)),
    "large_blocks": GoogleBenchmark("memory/large_blocks.cpp", slow="grow_two|/1073741824"),
    # g++ starts the compiler proper.
    **{f"trace_{name}": Trace(program=name, process="cc1plus" if name == "g++" else None)
       for name in programs.PROGRAMS},
    **{f"program_{name}": RealProgram(program=name) for name in programs.PROGRAMS},
}

# What --quick leaves out, for its three minutes: the other programs show whether they work.
SLOW = {f"program_{name}" for name in ("redis", "perl", "lua", "jq", "g++")}
