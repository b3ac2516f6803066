"""Writes what compare.sh has measured as a page with plots that needs nothing but itself, from the
data of results.json. By itself: python3 page.py results.json > report.html"""

import json
import math
import re
import sys
from html import escape
from pathlib import Path

import plots
import report
from allocators import BINMALLOC
from benchmarks import TYPED
from plots import Contender

# The same colour and shape in every plot. What is not here is another library that was given.
LOOKS = [
    Contender(BINMALLOC, "binmalloc", "circle", is_ours=True),
    Contender(TYPED, "binmalloc", "hexagon", is_hollow=True, is_ours=True),
    Contender("glibc", "glibc", "square"),
    Contender("jemalloc", "jemalloc", "triangle"),
    Contender("mimalloc", "mimalloc", "diamond"),
    Contender("tcmalloc", "tcmalloc", "wedge"),
    Contender("tbbmalloc", "tbbmalloc", "cross"),
    Contender("mi_stl_allocator", "mimalloc", "diamond", is_hollow=True),
    Contender("pmr pool", "pmr", "square", is_hollow=True),
    Contender("pmr monotonic", "pmr", "triangle", is_hollow=True),
]
QUANTITIES = ("time", "memory")
STEPS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def contenders(names):
    """Those of these names, always in the same order."""
    known = [look for look in LOOKS if look.name in names]
    others = [name for name in names if name not in {look.name for look in LOOKS}]
    shapes = list(reversed(plots.SHAPES))
    return known + [Contender(name, "other", shapes[i % len(shapes)])
                    for i, name in enumerate(others)]


def say(value, unit):
    """A value in three digits and the unit that suits it."""
    if unit in STEPS:
        seconds = value * STEPS[unit]
        unit = next((u for u in reversed(STEPS) if abs(seconds) >= STEPS[u]), "ns")
        value = seconds / STEPS[unit]
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    number = f"{value:.{digits}f}"
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number}{'×' if unit == 'x' else ' ' + unit}"


def element(name, content, kind=""):
    return f'<{name}{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{content}</{name}>'


def table(head, rows, kind=""):
    """Rows of cells that are HTML already, with their <td>."""
    head = "".join(head)
    rows = "".join(element("tr", "".join(row)) for row in rows)
    return element("div", element("table", f"<tr>{head}</tr>{rows}", kind), "scroll")


def cell(text, kind=""):
    return element("td", escape(text), kind)


def link(benchmark):
    name = escape(benchmark)
    return f'<td><a href="#{name}">{name}</a></td>'


def details(summary, content):
    return element("details", element("summary", escape(summary)) + content)


def legend(data):
    names = {*data["allocators"], *(name for b in data["benchmarks"] for name in b["variants"])}
    spans = (element("span", plots.legend_mark(contender) + escape(contender.name),
                     "ours" if contender.is_ours else "") for contender in contenders(names))
    return element("div", "".join(spans), "legend")


def mean_of(data, contender, quantity, key="to_reference"):
    return data["means"][contender.name].get(quantity, {}).get(key)


def headline(data):
    def part(quantity):
        means = data["means"].get(BINMALLOC, {}).get(quantity)
        return means and (f"<b>{means['to_reference']:.2f} ×</b> the {quantity} of "
                          f"{escape(data['reference'])}, {means['to_best_peer']:.2f} × that of the "
                          f"best peer in each row")

    parts = [text for quantity in QUANTITIES if (text := part(quantity))]
    return element("p", "binmalloc needs " + "; ".join(parts) + ".", "headline") if parts else ""


def time_and_memory(data):
    """A plot of both means of all allocators; none where one of these was not measured."""
    points = [(c, *means) for c in contenders(data["allocators"])
              if all(means := [mean_of(data, c, quantity) for quantity in QUANTITIES])]
    return plots.scatter(f"Time and memory, {data['reference']} = 1", points) if points else ""


def overview(data):
    found = contenders(data["allocators"])
    charts = []
    for quantity in QUANTITIES:
        values = [(c, mean) for c in found if (mean := mean_of(data, c, quantity))]
        if values:
            charts.append(plots.bars(f"{quantity.capitalize()}, {data['reference']} = 1", values))
    return (element("h2", "Overview")
            + element("p", "Geometric means over all benchmarks, each of which counts once. "
                           "Smaller is better.", "soft")
            + element("div", element("div", "".join(charts)) + time_and_memory(data), "side"))


def shaded(ratio, kind):
    """A cell whose colour says how much better or worse than 1 it is."""
    if ratio is None:
        return element("td", "–", kind)
    strength = min(abs(math.log2(ratio)) / 2, 1) * 0.75
    colour = "better" if ratio < 1 else "worse"
    style = f"background:rgba(var(--{colour}),{strength:.2f})"
    return f'<td class="{kind}" style="{style}">{ratio:.2f}</td>'


def matrix(data):
    found = contenders(data["allocators"])

    def cells(means_of, kind=""):
        for quantity in QUANTITIES:
            for i, contender in enumerate(found):
                mean = means_of(quantity, contender.name)
                yield shaded(mean and mean["to_best_peer"], f"{kind}{' first' if i == 0 else ''}")

    top = ['<th></th>', *(f'<th class="first words" colspan="{len(found)}">{quantity}</th>'
                          for quantity in QUANTITIES)]
    names = [element("th", escape(c.name), ("ours" if c.is_ours else "")
                     + (" first" if i == 0 else ""))
             for _ in QUANTITIES for i, c in enumerate(found)]
    rows = [['<th class="words">benchmark</th>', *names]]
    for benchmark in data["benchmarks"]:
        means = benchmark["means"]
        rows.append([link(benchmark["name"]),
                     *cells(lambda quantity, name: means[quantity].get(name))])
    rows.append([cell("all", "total"),
                 *cells(lambda quantity, name: data["means"][name].get(quantity), "total")])
    return (element("h2", "Time and memory of every benchmark")
            + element("p", "How much each needs, relative to the best peer in each row of the "
                           "benchmark (geometric means). Below 1, and blue: better than every "
                           "peer.", "soft") + table(top, rows, "matrix"))


def behind(data):
    def cells(entry):
        spread = f"{entry['spread']:.0%}" if data["rounds"] > 1 else "–"
        return [link(entry["benchmark"]), cell(label(entry["row"]), "words"),
                cell(entry["of"], "words"), cell(say(entry["value"], entry["unit"])),
                cell(say(entry["best"], entry["unit"])), cell(entry["best_peer"], "words"),
                cell(spread), cell(f"{entry['to_best_peer']:.2f} ×", "behind")]

    head = ["<th>benchmark</th>", *(f'<th class="words">{text}</th>' for text in ("result", "of")),
            "<th>value</th>", "<th>best peer's</th>", '<th class="words">best peer</th>',
            "<th>spread</th>", "<th>ratio</th>"]
    rows = [cells(entry) for entry in data["behind"]]
    first, others = rows[:12], rows[12:]
    title = f"Where binmalloc is behind: {len(rows)} rows"
    text = (f"Rows in which it needs more than {data['behind_from']:.2f} times as much as the best "
            "peer, the worst first. A ratio nearer to 1 than the spread of the runs says nothing.")
    return (element("h2", title) + element("p", text, "soft")
            + (table(head, first) if first else "")
            + (details(f"{len(others)} more", table(head, others)) if others else ""))


def label(name):
    """A result's name as one reads it: large_blocks names sizes in bytes."""
    def shorter(match):
        number = int(match.group())
        for step, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
            if number >= step and number % step == 0:
                return f"{number // step} {unit}"
        return match.group()

    name = re.sub(r"/real_time|/iterations:\d+", "", name)
    name = re.sub(r"/threads:(\d+)", r"/\1 threads", name)
    return re.sub(r"\d+", shorter, name).replace("/", " / ")


def dot_row(row, found, behind_from):
    values = {c: row["medians"][c.name] for c in found if row["medians"].get(c.name)}
    best = min(values.values())
    unit = row["unit"]
    points = [(c, value / best, f"{c.name}: {say(value, unit)}, {value / best:.2f} × the best")
              for c, value in values.items()]
    ratios = [row["compared"].get(c.name, {}).get("to_best_peer") for c in found if c.is_ours]
    return plots.DotRow(label(row["row"]), points, say(best, unit),
                        [(f"{ratio:.2f} ×" if ratio else "–", bool(ratio and ratio > behind_from))
                         for ratio in ratios])


def values_table(benchmark, found):
    head = ["<th>result</th>", *(element("th", escape(c.name)) for c in found)]

    def value(row, contender):
        if contender.name not in row["medians"]:
            return cell("–")
        return cell(say(row["medians"][contender.name], row["unit"]), "ours" * contender.is_ours)

    rows = [[cell(label(row["row"])), *(value(row, c) for c in found)]
            for case in benchmark["cases"] for row in case["rows"]]
    return details("all values", table(head, rows))


def benchmark_section(data, benchmark):
    found = contenders([*data["allocators"], *benchmark["variants"]])
    heads = ["typed / peer" if c.name == TYPED else "ours / peer" for c in found if c.is_ours]
    rows = [dot_row(row, found, data["behind_from"])
            for case in benchmark["cases"] for row in case["rows"]
            if not row["is_detail"] and any(row["medians"].values())]
    failures = "".join(
        element("p", escape(f"{case['name']} failed on {name}: {reason}"), "failure")
        for case in benchmark["cases"] for name, reason in case["failures"].items())
    return (f'<h3 id="{escape(benchmark["name"])}">{escape(benchmark["name"])}</h3>'
            + element("p", escape(benchmark["question"]), "soft")
            + (plots.dot_plot(benchmark["name"], rows, heads) if rows else "")
            + failures + values_table(benchmark, found))


def scaling_plots(data, quantity):
    """A plot for each result that a benchmark has on several numbers of threads."""
    for benchmark in data["benchmarks"]:
        cases = [case for case in benchmark["cases"] if case["threads"]]
        found = dict.fromkeys((row["name"], row["unit"]) for case in cases for row in case["rows"]
                              if row["quantity"] == quantity and not row["is_detail"])
        for name, unit in found:
            series = [(c, points) for c in contenders(data["allocators"])
                      if (points := points_of(cases, name, c))]
            if series and name != "user+sys":
                yield plots.line_plot(benchmark["name"], series,
                                      lambda value, unit=unit: say(value, unit))


def points_of(cases, name, contender):
    return {case["threads"]: row["medians"][contender.name]
            for case in cases for row in case["rows"]
            if row["name"] == name and row["medians"].get(contender.name)}


def scaling(data):
    charts = {head: "".join(element("div", plot) for plot in scaling_plots(data, quantity))
              for head, quantity in (("Time of an operation", "time"), ("Peak RSS", "memory"))}
    if not any(charts.values()):
        return ""
    return (element("h2", "Scaling over threads")
            + element("p", "The whole work is the same on any number of threads: where there are "
                           "processors for them, more should be faster. Lower is better.", "soft")
            + "".join(element("h3", head) + element("div", plots_of, "many")
                      for head, plots_of in charts.items()))


def machine(data):
    versions = ", ".join(f"{name}: {version}" for name, version in data["allocators"].items())
    return element("p", escape(f"{report.in_words(data['machine'])}. {versions}. Medians of "
                               f"{data['rounds']} round{'s' if data['rounds'] > 1 else ''}"
                               f"{', quick inputs' if data['quick'] else ''}."), "machine")


def style():
    return (Path(__file__).parent / "page.css").read_text()


def as_image(data):
    """The plot of time and memory by itself, as SVG; empty where there is none."""
    image = time_and_memory(data)
    return plots.standalone(image, style()) if image else ""


def as_html(data):
    sections = "".join(benchmark_section(data, benchmark) for benchmark in data["benchmarks"])
    body = "\n".join([
        element("h1", "binmalloc and its peers"), headline(data), machine(data), legend(data),
        overview(data), matrix(data), behind(data),
        element("h2", "Results"),
        element("p", "By how much each needs more than the best in its row, on a logarithmic "
                     "scale; in the green strip are those within 10 % of it. On the right, the "
                     "best value, and binmalloc's by that of the best peer. Hollow marks are "
                     "allocators in the containers' types.", "soft"),
        sections, scaling(data)])
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>binmalloc and its peers</title><style>{style()}</style></head>"
            f"<body>{body}</body></html>\n")


if __name__ == "__main__":
    print(as_html(json.loads(Path(sys.argv[1]).read_text())), end="")
