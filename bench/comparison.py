"""Collects the runs of each benchmark on each allocator, and writes them as tables and as JSON."""

import json
from collections import defaultdict
from dataclasses import asdict
from statistics import geometric_mean, median

import report
from allocators import BINMALLOC

RATIO = f"{BINMALLOC} / best peer"


class Row:
    """The samples of one metric: a list for each allocator that has not failed."""

    def __init__(self, metric, samples):
        self.metric = metric
        self.samples = samples
        self.medians = {name: median(values) for name, values in samples.items()}
        peers = [name for name in self.medians if name != BINMALLOC]
        self.best_peer = min(peers, key=self.medians.get, default=None)

    def ratio(self):
        """None where one of the two is missing, or below what can be measured."""
        mine, best = self.medians.get(BINMALLOC), self.medians.get(self.best_peer)
        return mine / best if mine and best else None

    def spread(self):
        """How far apart the samples were, of the two that the ratio compares the larger."""
        return max((max(self.samples[name]) - min(self.samples[name])) / self.medians[name]
                   for name in (BINMALLOC, self.best_peer))


class CaseResult:
    """The runs of one case on all allocators, and why it failed on some."""

    def __init__(self, case):
        self.case = case
        self.samples = defaultdict(lambda: defaultdict(list))   # by metric, then by allocator
        self.failures = {}                                      # by allocator

    def add(self, allocator, values):
        for metric, value in values.items():
            self.samples[metric][allocator].append(value)

    def rows(self):
        return [Row(metric, {name: values for name, values in of_metric.items()
                             if name not in self.failures})
                for metric, of_metric in self.samples.items()]


class Result:
    """A benchmark's cases."""

    def __init__(self, name, cases):
        self.name = name
        self.cases = [CaseResult(case) for case in cases]

    def geometric_means(self):
        """Of the ratios of each quantity, with how many they are."""
        ratios = defaultdict(list)
        for row in (row for case in self.cases for row in case.rows()):
            if not row.metric.is_detail and row.ratio():
                ratios[row.metric.quantity].append(row.ratio())
        return {quantity: {"ratio": geometric_mean(of), "rows": len(of)}
                for quantity, of in ratios.items()}


def as_json(here, arguments, allocators, results):
    def of_case(case):
        return {"name": case.case.name, "failures": case.failures,
                "metrics": [{**asdict(row.metric), "medians": row.medians, "ratio": row.ratio(),
                             "samples": case.samples[row.metric]} for row in case.rows()]}

    return json.dumps({
        "machine": here, "quick": arguments.quick, "rounds": arguments.rounds,
        "allocators": {allocator.name: allocator.version for allocator in allocators},
        "benchmarks": [{"name": result.name, "geometric_means": result.geometric_means(),
                        "cases": [of_case(case) for case in result.cases]}
                       for result in results],
    }, indent=2) + "\n"


def number(value):
    """Four digits, but all of those before the point."""
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def cells(row, failures, names):
    values = {name: number(value) for name, value in row.medians.items()}
    best = number(min(row.medians.values(), default=0))
    all_equal = len(set(values.values())) == 1
    for name in names:
        if name in failures:
            yield "failed"
        elif name not in values:
            yield "–"
        else:
            is_best = values[name] == best and not all_equal
            yield f"**{values[name]}**" if is_best else values[name]


def table(result, names):
    rows = [[result.name, *names, "spread", RATIO]]
    for case in result.cases:
        if not case.samples:
            rows.append([case.case.name, *["failed"] * len(names), "–", "–"])
        for row in case.rows():
            ratio = row.ratio()
            rows.append([f"{row.metric.name}, {row.metric.unit}",
                         *cells(row, case.failures, names),
                         *([f"{row.spread():.0%}", f"{ratio:.3f}"] if ratio else ["–", "–"])])
    for quantity, mean in result.geometric_means().items():
        if mean["rows"] > 1:
            rows.append([f"geometric mean, {quantity} ({mean['rows']})", *[""] * len(names), "",
                         f"{mean['ratio']:.3f}"])
    return report.table(rows)


def section(result, names):
    failures = [f"- **{case.case.name}** failed on {name}: {reason}"
                for case in result.cases for name, reason in case.failures.items()]
    return "\n".join([table(result, names), *([""] + failures if failures else []), ""])


def as_markdown(here, arguments, allocators, results):
    versions = ", ".join(f"{allocator.name}: {allocator.version}" for allocator in allocators)
    head = (f"{report.in_words(here)}; {versions}; rounds: {arguments.rounds}"
            f"{', quick inputs' if arguments.quick else ''}. Medians; smaller is better.\n")
    names = [allocator.name for allocator in allocators]
    return "\n".join([head, *(section(result, names) for result in results)])


def write(arguments, allocators, results):
    """Writes results.json and results.md, and returns the latter's text."""
    here = report.machine()
    text = as_markdown(here, arguments, allocators, results)
    report.write_files(arguments.out, as_json(here, arguments, allocators, results), text)
    return text
