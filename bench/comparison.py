"""Collects the runs of each benchmark on each allocator, compares them, and writes all of it."""

import json
from collections import defaultdict
from dataclasses import asdict
from statistics import geometric_mean, median

import page
import report
import tables
from allocators import BINMALLOC, GLIBC, Allocator
from benchmarks import TYPED

# What the means over the whole run are of.
QUANTITIES = ("time", "memory")
# A result is behind where binmalloc needs this much more than the best of the others.
BEHIND = 1.10


class Row:
    """The samples of one metric: a list for each allocator and variant that has not failed."""

    def __init__(self, label, metric, samples, variants):
        self.metric = metric
        self.name = f"{label}: {metric.name}" if label else metric.name
        self.samples = samples
        self.variants = variants
        self.medians = {name: median(values) for name, values in samples.items()}

    def best_peer(self, name):
        """The best of those that `name` competes with: for what replaces malloc, what does too."""
        ours = {BINMALLOC, TYPED} | (set() if name in self.variants else set(self.variants))
        peers = [peer for peer in self.medians if peer not in ours]
        return min(peers, key=self.medians.get, default=None)

    def ratio(self, name, to):
        """None where one of the two is missing, or below what can be measured."""
        mine, other = self.medians.get(name), self.medians.get(to)
        return mine / other if mine and other else None

    def to_best_peer(self, name):
        return self.ratio(name, self.best_peer(name))

    def spread(self, name):
        """How far apart the samples were, of `name` and its best peer the larger."""
        both = (self.samples[name], self.samples[self.best_peer(name)])
        return max((max(values) - min(values)) / median(values) for values in both)

    def as_data(self, contenders):
        of_ours = {name: {"best_peer": self.best_peer(name),
                          "to_best_peer": self.to_best_peer(name), "spread": self.spread(name)}
                   for name in contenders if name in (BINMALLOC, TYPED) and self.to_best_peer(name)}
        return {"row": self.name, **asdict(self.metric), "quantity": self.metric.quantity,
                "medians": self.medians, "compared": of_ours, "samples": self.samples}


class CaseResult:
    """The runs of one case on all allocators, and why it failed on some."""

    def __init__(self, case):
        self.case = case
        self.samples = defaultdict(lambda: defaultdict(list))   # by metric, then by allocator
        self.failures = {}                                      # by allocator

    def add(self, allocator, values):
        for metric, value in values.items():
            self.samples[metric][allocator].append(value)

    def keep_first(self, rounds):
        """Forgets the runs after those."""
        for of_metric in self.samples.values():
            for values in of_metric.values():
                del values[rounds:]

    def rows(self):
        return [Row(self.case.label, metric, {name: values for name, values in of_metric.items()
                                              if name not in self.failures}, self.case.variants)
                for metric, of_metric in self.samples.items()]


class Result:
    """A benchmark's cases."""

    def __init__(self, name, benchmark, quick):
        self.name = name
        self.question = benchmark.question()
        self.variants = [Allocator(variant, None, "compiled into the benchmark")
                         for variant in benchmark.variants]
        self.cases = [CaseResult(case) for case in benchmark.cases(name, quick)]

    def title_of(self, case):
        """For a case of several its name too."""
        name = case.case.name
        return name if name.startswith(self.name) else f"{self.name}: {name}"

    def rows(self, quantity):
        """What counts in the means."""
        return [row for case in self.cases for row in case.rows()
                if not row.metric.is_detail and row.metric.quantity == quantity]

    def mean(self, quantity, name, reference):
        """The geometric means over its rows of what `name` needs, relative to the reference and to
        the best peer in each; None where nothing is to be compared."""
        rows = [row for row in self.rows(quantity)
                if row.ratio(name, reference) and row.to_best_peer(name)]
        if not rows:
            return None
        return {"to_reference": geometric_mean(row.ratio(name, reference) for row in rows),
                "to_best_peer": geometric_mean(row.to_best_peer(name) for row in rows),
                "rows": len(rows)}

    def as_data(self, names, reference):
        contenders = [*names, *(variant.name for variant in self.variants)]
        means = {quantity: {name: mean for name in contenders
                            if (mean := self.mean(quantity, name, reference))}
                 for quantity in (*QUANTITIES, "page faults")}
        return {"name": self.name, "question": self.question,
                "variants": [variant.name for variant in self.variants], "means": means,
                "cases": [{"name": case.case.name, "threads": case.case.threads,
                           "failures": case.failures,
                           "rows": [row.as_data(contenders) for row in case.rows()]}
                          for case in self.cases]}


def overall(benchmarks, names):
    """Of each allocator, the geometric means over all benchmarks; each benchmark counts once."""
    def mean(quantity, name):
        means = [benchmark["means"][quantity][name] for benchmark in benchmarks
                 if name in benchmark["means"][quantity]]
        return means and {"to_reference": geometric_mean(m["to_reference"] for m in means),
                          "to_best_peer": geometric_mean(m["to_best_peer"] for m in means),
                          "benchmarks": len(means)}

    return {name: {quantity: found for quantity in QUANTITIES if (found := mean(quantity, name))}
            for name in names}


def behind(benchmarks):
    """The results in which binmalloc is worse than the best of the others, the worst first."""
    found = [{"benchmark": benchmark["name"], "row": row["row"], "unit": row["unit"], "of": name,
              "value": row["medians"][name], "best": row["medians"][compared["best_peer"]],
              **compared}
             for benchmark in benchmarks for case in benchmark["cases"] for row in case["rows"]
             if not row["is_detail"]
             for name, compared in row["compared"].items() if compared["to_best_peer"] > BEHIND]
    return sorted(found, key=lambda entry: -entry["to_best_peer"])


def as_data(arguments, allocators, results):
    """All there is to say, in the form of results.json."""
    names = [allocator.name for allocator in allocators]
    reference = "mimalloc" if "mimalloc" in names else GLIBC
    benchmarks = [result.as_data(names, reference) for result in results]
    return {
        "machine": report.machine(), "quick": arguments.quick, "rounds": arguments.rounds,
        "allocators": {allocator.name: allocator.version for allocator in allocators},
        "reference": reference, "means": overall(benchmarks, names),
        "behind_from": BEHIND, "behind": behind(benchmarks), "benchmarks": benchmarks,
    }


def write(arguments, allocators, results):
    """Writes results.json, results.md, report.html and means.svg; returns the tables' text."""
    data = as_data(arguments, allocators, results)
    text = tables.as_markdown(data)
    report.write_files(arguments.out, json.dumps(data, indent=2) + "\n", text)
    (arguments.out / "report.html").write_text(page.as_html(data))
    if image := page.as_image(data):
        (arguments.out / "means.svg").write_text(image)
    return f"{text}\nAs plots: {arguments.out / 'report.html'}\n"
