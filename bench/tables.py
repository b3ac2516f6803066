"""Writes what compare.sh has measured as Markdown, from the data of results.json."""

import report
from allocators import BINMALLOC
from benchmarks import TYPED


def number(value):
    """Four digits, but all of those before the point."""
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def ratio(mean, key):
    return f"{mean[key]:.3f}" if mean else "–"


def cells(row, failures, names):
    values = {name: number(value) for name, value in row["medians"].items()}
    best = number(min(row["medians"].values(), default=0))
    all_equal = len(set(values.values())) == 1
    for name in names:
        if name in failures:
            yield "failed"
        elif name not in values:
            yield "–"
        else:
            is_best = values[name] == best and not all_equal
            yield f"**{values[name]}**" if is_best else values[name]


def compared_cells(row, ours, rounds):
    for name in ours:
        compared = row["compared"].get(name)
        spread = f"{compared['spread']:.0%}" if compared and rounds > 1 else "–"
        yield from (spread, ratio(compared, "to_best_peer"))


def mean_rows(benchmark, ours, columns):
    for quantity, means in benchmark["means"].items():
        rows = max((mean["rows"] for mean in means.values()), default=0)
        if rows > 1:
            yield [f"geometric mean, {quantity} ({rows})", *[""] * columns,
                   *(cell for name in ours
                     for cell in ("", ratio(means.get(name), "to_best_peer")))]


def benchmark_table(data, benchmark):
    names = [*data["allocators"], *benchmark["variants"]]
    ours = [name for name in (BINMALLOC, TYPED) if name in names]
    head = [cell for name in ours for cell in ("spread", f"{name} / best peer")]
    rows = [[benchmark["name"], *names, *head]]
    for case in benchmark["cases"]:
        if not case["rows"]:
            rows.append([case["name"], *["failed"] * len(names), *["–"] * len(head)])
        rows += [[f"{row['row']}, {row['unit']}", *cells(row, case["failures"], names),
                  *compared_cells(row, ours, data["rounds"])] for row in case["rows"]]
    return report.table(rows + list(mean_rows(benchmark, ours, len(names))))


def section(data, benchmark):
    failures = [f"- **{case['name']}** failed on {name}: {reason}"
                for case in benchmark["cases"] for name, reason in case["failures"].items()]
    return "\n".join([f"## {benchmark['name']}", "", benchmark["question"], "",
                      benchmark_table(data, benchmark), *([""] + failures if failures else []), ""])


def means(data):
    columns = [(quantity, key) for quantity in ("time", "memory")
               for key in ("to_reference", "to_best_peer")]
    against = {"to_reference": data["reference"], "to_best_peer": "best peer"}
    rows = [["allocator", *(f"{quantity} / {against[key]}" for quantity, key in columns)]]
    for name, of_allocator in data["means"].items():
        rows.append([name, *(ratio(of_allocator.get(quantity), key) for quantity, key in columns)])
    return report.table(rows)


def behind(data):
    if not data["behind"]:
        return "none\n"
    rows = [["benchmark", "result", "of", "value", "best peer", "its value", "spread", "ratio"]]
    for entry in data["behind"]:
        rows.append([entry["benchmark"], entry["row"], entry["of"],
                     f"{number(entry['value'])} {entry['unit']}", entry["best_peer"],
                     f"{number(entry['best'])} {entry['unit']}",
                     f"{entry['spread']:.0%}" if data["rounds"] > 1 else "–",
                     f"{entry['to_best_peer']:.2f}"])
    return report.table(rows) + "\n"


def as_markdown(data):
    versions = ", ".join(f"{name}: {version}" for name, version in data["allocators"].items())
    head = (f"{report.in_words(data['machine'])}; {versions}; rounds: {data['rounds']}"
            f"{', quick inputs' if data['quick'] else ''}. Medians; smaller is better.\n")
    return "\n".join([
        head, "## Geometric means over all benchmarks", "", means(data), "",
        *(section(data, benchmark) for benchmark in data["benchmarks"]),
        f"## Where binmalloc needs more than {data['behind_from']:.2f} × what the best peer needs",
        "", behind(data)])
