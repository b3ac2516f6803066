"""The benchmarks that compare.sh runs, and how to read their results.

To add one: put its source below bench/, and a line into BENCHMARKS. There are two kinds. Each sees
the allocator as its malloc, and smaller must be better in every result.

- OwnProgram: prints a line "NAME VALUE UNIT" for each result, the unit one of UNITS, and the word
  "detail" behind it where another line counts the same already. What else it prints is ignored.
- GoogleBenchmark: nothing to do; its real times are the results.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import measuring
from measuring import Command

# What each unit measures. Only the same can have a mean.
UNITS = {"ns": "time", "us": "time", "ms": "time", "s": "time",
         "MiB": "memory", "x": "memory", "faults": "page faults"}
RESULT = re.compile(rf"(\w+) ([-+.\w]+) ({'|'.join(UNITS)})( detail)?")


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    is_detail: bool = False     # compared, but not in the means

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

    def run(self, library):
        usage, output = measuring.run_and_read(self.command, library, self.limit)
        return self.read(usage, output)


@dataclass(frozen=True)
class OwnProgram:
    source: str
    full: tuple = ()            # its arguments
    quick: tuple = ()
    flags = ()

    def cases(self, name, binary, quick):
        arguments = self.quick if quick else self.full
        return [Case(name, Command([binary, *map(str, arguments)]), self.read, limit=300)]

    @staticmethod
    def read(usage, output):
        values = {}
        for line in output.splitlines():
            if match := RESULT.fullmatch(line):
                name, value, unit, detail = match.groups()
                values[Metric(name, unit, bool(detail))] = float(value)
        return values | {
            Metric("wall", "s", is_detail=True): usage["wall_ns"] / 1e9,     # sleeps are in it
            Metric("user+sys", "s"): (usage["user_us"] + usage["sys_us"]) / 1e6,
            Metric("sys", "s", is_detail=True): usage["sys_us"] / 1e6,
            Metric("peak_rss", "MiB"): usage["max_rss_kib"] / 1024,
        }


@dataclass(frozen=True)
class GoogleBenchmark:
    source: str
    slow: str = "(?!)"          # what is left out when it must be quick: a regular expression
    flags = ("-lbenchmark",)

    def cases(self, name, binary, quick):
        """One for each benchmark in it: none sees what another has left in the allocator, and none
        is lost with another that fails."""
        _, listed = measuring.run_and_read(Command([binary, "--benchmark_list_tests=true"]),
                                           preload=None, limit=60)
        options = ["--benchmark_format=json", *(["--benchmark_min_time=0.02"] if quick else [])]
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


BENCHMARKS = {
    "hello": OwnProgram("memory/hello.cpp"),
    "give_back": OwnProgram("memory/give_back.cpp", full=(2048,), quick=(256,)),
    "give_back_keep": OwnProgram("memory/give_back.cpp", full=(2048, "--keep", 5),
                                 quick=(256, "--keep", 5)),
    "documents": OwnProgram("memory/documents.cpp", full=(600,), quick=(60,)),
    "idle": OwnProgram("memory/idle.cpp"),
    "faults": OwnProgram("memory/faults.cpp", full=(1024, 20), quick=(128, 2)),
    "large_blocks": GoogleBenchmark("memory/large_blocks.cpp", slow="grow_two|/1073741824"),
}
