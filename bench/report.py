"""Collects the runs of each program, and writes them as a table and as JSON."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from statistics import geometric_mean, median

import measuring

# What is compared: the key in the results, and how to get it from a run.
QUANTITIES = {
    "wall_s": lambda run: run.wall_s,
    "cpu_s": lambda run: run.cpu_s,
    "sys_s": lambda run: run.sys_s,
    "max_rss_kib": lambda run: run.max_rss_kib,
    "minor_faults": lambda run: run.minor_faults,
}
# Of these, those that have a ratio and a geometric mean. The others explain them.
RATIOS = ("wall_s", "cpu_s", "max_rss_kib")

COLUMNS = ("program", "binmalloc by", "time s", "ratio", "user+sys s", "ratio", "sys s",
           "peak RSS MiB", "ratio", "faults", "spread")


class Result:
    """The runs of one program, and why it failed if it did."""

    def __init__(self, program):
        self.program = program
        self.runs = {variant.name: [] for variant in program.variants}
        self.reference = None
        self.failure = None

    def time_limit(self):
        """Seconds after which a run counts as hung; known once the warm-up has run."""
        return 600 if self.reference is None else 60 + 20 * self.reference.wall_s

    def add(self, variant, run, measured):
        self.reference = self.reference or run
        if run.digest != self.reference.digest:
            raise measuring.RunFailed("its output differs from the first on the system's allocator")
        if measured:
            self.runs[variant].append(run)

    def baseline(self):
        return self.program.variants[0].name

    def contenders(self):
        return [variant.name for variant in self.program.variants[1:]]

    def medians(self, variant):
        return {name: median(map(get, self.runs[variant])) for name, get in QUANTITIES.items()}

    def ratios(self, variant):
        mine, theirs = self.medians(variant), self.medians(self.baseline())
        return {name: mine[name] / theirs[name] for name in RATIOS}

    def spread(self, variant):
        """How far apart the times of the same work were, of the two variants the larger."""
        def of(runs):
            times = [run.wall_s for run in runs]
            return (max(times) - min(times)) / median(times)

        return max(of(self.runs[variant]), of(self.runs[self.baseline()]))


def geometric_means(results):
    """For each way to use binmalloc, over the programs that were run that way and did not fail."""
    good = [result for result in results if not result.failure]
    ways = dict.fromkeys(name for result in good for name in result.contenders())
    means = {}
    for way in ways:
        ratios = [result.ratios(way) for result in good if way in result.contenders()]
        means[way] = {"programs": len(ratios),
                      **{name: geometric_mean(r[name] for r in ratios) for name in RATIOS}}
    return means


def processor():
    """The model's name where the kernel tells it; on ARM it does not."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def huge_pages():
    """When the kernel backs memory with transparent huge pages: always, madvise or never."""
    try:
        choices = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return "never"
    return choices.partition("[")[2].partition("]")[0]


def machine():
    compiler = subprocess.run(["g++", "-dumpfullversion"], stdout=subprocess.PIPE, text=True)
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "g++": compiler.stdout.strip(),
        "transparent_hugepages": huge_pages(),
    }


def in_words(here):
    return (f"{here['processor']}, {here['cores']} cores; Linux {here['kernel']}, {here['libc']}, "
            f"g++ {here['g++']}, transparent huge pages: {here['transparent_hugepages']}")


def as_json(here, setup, results, rounds):
    def of_variant(result, name):
        compared = name in result.contenders() and not result.failure
        return {"median": result.medians(name), "ratio": result.ratios(name) if compared else None,
                "runs": [asdict(run) for run in result.runs[name]]}

    def of_program(result):
        return {"name": result.program.name, "failure": result.failure,
                "variants": {name: of_variant(result, name)
                             for name, runs in result.runs.items() if runs}}

    return json.dumps({
        "machine": here, "library": setup.library.name, "quick": setup.quick, "rounds": rounds,
        "programs": [of_program(result) for result in results],
        "geometric_means": geometric_means(results),
    }, indent=2) + "\n"


def pair(before, after, text):
    """"before → after", each formatted as `text` says."""
    return f"{text.format(before)} → {text.format(after)}"


def row(result, way):
    if result.failure:
        return [result.program.name, way, "FAILED"] + [""] * (len(COLUMNS) - 3)
    old, new, ratio = result.medians(result.baseline()), result.medians(way), result.ratios(way)
    return [
        result.program.name, way,
        pair(old["wall_s"], new["wall_s"], "{:.3f}"), f"{ratio['wall_s']:.3f}",
        pair(old["cpu_s"], new["cpu_s"], "{:.3f}"), f"{ratio['cpu_s']:.3f}",
        pair(old["sys_s"], new["sys_s"], "{:.3f}"),
        pair(old["max_rss_kib"] / 1024, new["max_rss_kib"] / 1024, "{:.1f}"),
        f"{ratio['max_rss_kib']:.3f}",
        pair(old["minor_faults"], new["minor_faults"], "{:.0f}"),
        f"{result.spread(way):.1%}",
    ]


def mean_row(way, mean):
    return [f"geometric mean of {mean['programs']}", way, "", f"{mean['wall_s']:.3f}",
            "", f"{mean['cpu_s']:.3f}", "", "", f"{mean['max_rss_kib']:.3f}", "", ""]


def table(rows):
    """Markdown, padded so that it can be read on a terminal as it is."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
             for cells in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def as_markdown(here, setup, results, rounds):
    means = geometric_means(results)
    # Grouped by the way to use binmalloc: a mean across different ways would say nothing.
    ways = dict.fromkeys(way for result in results for way in result.contenders())
    rows = [COLUMNS]
    for way in ways:
        rows += [row(result, way) for result in results if way in result.contenders()]
        if means.get(way, {}).get("programs", 0) > 1:
            rows.append(mean_row(way, means[way]))

    failures = [f"- **{result.program.name}** failed: {result.failure}"
                for result in results if result.failure]
    return "\n".join([
        f"{in_words(here)}; library {setup.library.name}; "
        f"rounds: {rounds}{', quick inputs' if setup.quick else ''}. Medians. "
        "Each pair: system's allocator → binmalloc; ratios below 1 are in binmalloc's favour.",
        "", table(rows), *([""] + failures if failures else []), ""])


def write(folder, setup, results, rounds):
    """Writes results.json and results.md, and returns the latter's text."""
    here = machine()
    text = as_markdown(here, setup, results, rounds)
    write_files(folder, as_json(here, setup, results, rounds), text)
    return text


def write_files(folder, as_json, as_markdown):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(as_json)
    (folder / "results.md").write_text(as_markdown)
