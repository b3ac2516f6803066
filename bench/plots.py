"""Plots of ratios and of values over threads, as SVG. Each contender has a colour (a class of
page.css) and a shape of its own, and every point says on hovering what it is."""

import math
from dataclasses import dataclass
from html import escape

# Of a unit circle around the origin, except for the circle itself.
SHAPES = {
    "square": "M-.9-.9H.9V.9H-.9Z",
    "triangle": "M0-1.15 1.1.85H-1.1Z",
    "diamond": "M0-1.3 1.2 0 0 1.3-1.2 0Z",
    "wedge": "M0 1.15 1.1-.85H-1.1Z",
    "cross": "M-.4-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    "circle": "M-1.1 0A1.1 1.1 0 0 1 1.1 0 1.1 1.1 0 0 1-1.1 0Z",
    "hexagon": "M-1.2 0-.6-1H.6L1.2 0 .6 1H-.6Z",
}


@dataclass(frozen=True)
class Contender:
    """An allocator, or a variant. `look` is the name of its colour, hollow if it is compiled in."""

    name: str
    look: str
    shape: str
    is_hollow: bool = False
    is_ours: bool = False

    @property
    def classes(self):
        return " ".join(["mark", f"of-{self.look}", *["hollow"] * self.is_hollow,
                         *["ours"] * self.is_ours])


class Canvas:
    """Collects the elements of one SVG image."""

    def __init__(self, width, height, title):
        self.size = width, height
        self.parts = [f"<title>{escape(title)}</title>"]

    def line(self, x1, y1, x2, y2, kind):
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
                          f'y2="{y2:.1f}"/>')

    def rectangle(self, x, y, width, height, kind):
        self.parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                          f'height="{height:.1f}"/>')

    def text(self, x, y, text, kind="", anchor="start"):
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
                          f'{escape(text)}</text>')

    def polyline(self, points, kind):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{path}"/>')

    def mark(self, x, y, contender, hint):
        radius = 6.2 if contender.is_ours else 4.2
        self.parts.append(f'<g transform="translate({x:.1f} {y:.1f}) scale({radius})">'
                          f'<title>{escape(hint)}</title>'
                          f'<path class="{contender.classes}" d="{SHAPES[contender.shape]}"/></g>')

    def __str__(self):
        width, height = self.size
        return (f'<svg viewBox="0 0 {width} {height}" role="img" '
                f'style="max-width:{width}px">{"".join(self.parts)}</svg>')


class LogScale:
    """Maps values from `low` to `high` to coordinates from `start` to `end`."""

    def __init__(self, low, high, start, end):
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value):
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, steps=(1, 2, 5)):
        """Round numbers in the range."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [step * 10.0 ** decade for decade in decades for step in steps]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def standalone(image, style):
    """The image as a file of its own."""
    head, content = image.split(">", 1)
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return (f'{head}><style>{style}</style><rect class="paper" width="100%" height="100%"/>'
            f"{content}\n")


def legend_mark(contender):
    canvas = Canvas(18, 18, contender.name)
    canvas.mark(9, 9, contender, contender.name)
    return str(canvas)


# The columns of a plot of dots: labels to LEFT, the scale to RIGHT, what is off it to BEYOND, the
# best value to BEST, then ratios.
ROW, LEFT, RIGHT, BEYOND, BEST, RATIO = 22, 250, 740, 800, 905, 95
MOST = 10


@dataclass(frozen=True)
class DotRow:
    label: str
    points: list        # (contender, ratio to the best, hint) for each
    best: str           # the best value
    ratios: list        # (text, whether that is behind) for each column of them


def dot_plot(title, rows, ratio_heads):
    """A row for each result: on a logarithmic scale, by how much each is above the best."""
    top = 26
    bottom = top + ROW * len(rows)
    canvas = Canvas(BEST + RATIO * len(ratio_heads) + 10, bottom + 6, title)
    scale = LogScale(1, MOST, LEFT, RIGHT)
    canvas.rectangle(LEFT, top, scale(1.1) - LEFT, bottom - top, "near")
    for tick in (1, 1.5, 2, 3, 5, MOST):
        canvas.line(scale(tick), top, scale(tick), bottom, "grid")
        canvas.text(scale(tick), top - 9, f"{tick:g}×", "axis", "middle")
    canvas.text((RIGHT + BEYOND) / 2 + 6, top - 9, f"> {MOST}×", "axis", "middle")
    canvas.text(BEST, top - 9, "best", "axis", "end")
    for i, head in enumerate(ratio_heads, 1):
        canvas.text(BEST + RATIO * i, top - 9, head, "axis", "end")
    for i, row in enumerate(rows):
        draw_row(canvas, scale, top + ROW * (i + 0.5), row)
    return str(canvas)


def draw_row(canvas, scale, y, row):
    canvas.line(LEFT, y, BEYOND, y, "row")
    canvas.text(LEFT - 12, y + 4, row.label, "label", "end")
    beyond = sorted(ratio for _, ratio, _ in row.points if ratio > MOST)
    # Ours are larger: below the others all can be seen.
    for contender, ratio, hint in row.points:
        x = scale(ratio) if ratio <= MOST else RIGHT + 14 + 11 * beyond.index(ratio)
        canvas.mark(x, y, contender, hint)
    canvas.text(BEST, y + 4, row.best, "axis", "end")
    for i, (text, is_behind) in enumerate(row.ratios, 1):
        canvas.text(BEST + RATIO * i, y + 4, text, "behind" if is_behind else "ahead", "end")


def line_plot(title, series, say):
    """Values over threads, both on logarithmic scales. `series` are (contender, {threads: value});
    `say` puts a value into words."""
    width, height, left, right, top, bottom = 330, 236, 58, 12, 30, 34
    canvas = Canvas(width, height, title)
    canvas.text(4, 15, title, "heading")
    values = [value for _, points in series for value in points.values()]
    counts = sorted({count for _, points in series for count in points})
    x = LogScale(counts[0], max(counts[-1], counts[0] * 2), left + 8, width - right - 8)
    y = LogScale(min(values) / 1.15, max(values) * 1.15, height - bottom, top)
    ticks = y.ticks()
    for tick in ticks if len(ticks) > 1 else y.ticks(range(1, 10)):
        canvas.line(left, y(tick), width - right, y(tick), "grid")
        canvas.text(left - 6, y(tick) + 4, say(tick), "axis", "end")
    for count in counts:
        canvas.line(x(count), top, x(count), height - bottom, "row")
        canvas.text(x(count), height - bottom + 16, f"{count}", "axis", "middle")
    canvas.text((left + width - right) / 2, height - 4, "threads", "axis", "middle")
    for contender, points in sorted(series, key=lambda one: one[0].is_ours):
        path = [(x(count), y(value)) for count, value in sorted(points.items())]
        canvas.polyline(path, f"{contender.classes} path")
        for count, value in points.items():
            canvas.mark(x(count), y(value), contender,
                        f"{contender.name}: {say(value)}, threads: {count}")
    return str(canvas)


def bars(title, values):
    """(contender, ratio) in rows: how far each is from 1."""
    width, left, top = 470, 100, 46
    canvas = Canvas(width, top + 30 * len(values) + 8, title)
    canvas.text(0, 16, title, "heading")
    most = max(1.5, *(max(ratio, 1 / ratio) for _, ratio in values)) * 1.05
    scale = LogScale(1 / most, most, left, width - 60)
    for tick in (value for value in (0.25, 0.5, 0.7, 1, 1.4, 2, 4) if 1 / most <= value <= most):
        canvas.line(scale(tick), top - 4, scale(tick), top + 30 * len(values), "grid")
        canvas.text(scale(tick), top - 10, f"{tick:g}", "axis", "middle")
    for i, (contender, ratio) in enumerate(values):
        middle, end, y = scale(1), scale(ratio), top + 30 * i
        canvas.text(left - 10, y + 19, contender.name, "strong" if contender.is_ours else "label",
                    "end")
        canvas.rectangle(min(middle, end), y + 5, max(abs(end - middle), 1), 19,
                         f"{contender.classes} bar")
        canvas.text(max(middle, end) + 7, y + 19, f"{ratio:.2f}",
                    "strong" if contender.is_ours else "label")
    canvas.line(scale(1), top - 4, scale(1), top + 30 * len(values), "one")
    return str(canvas)


def scatter(title, points):
    """(contender, time, memory), both relative to the reference: the best is at the bottom left."""
    width, height, left, right, top, bottom = 470, 400, 56, 20, 34, 44
    canvas = Canvas(width, height, title)
    canvas.text(4, 16, title, "heading")

    def scale_of(values, start, end):
        low, high = min(*values, 1), max(*values, 1)
        margin = max(1.12, (high / low) ** 0.14)
        return LogScale(low / margin, high * margin, start, end)

    x = scale_of([time for _, time, _ in points], left, width - right)
    y = scale_of([memory for _, _, memory in points], height - bottom, top)
    steps = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    for tick in x.ticks(steps):
        canvas.line(x(tick), top, x(tick), height - bottom, "one" if tick == 1 else "grid")
        canvas.text(x(tick), height - bottom + 16, f"{tick:g}", "axis", "middle")
    for tick in y.ticks(steps):
        canvas.line(left, y(tick), width - right, y(tick), "one" if tick == 1 else "grid")
        canvas.text(left - 7, y(tick) + 4, f"{tick:g}", "axis", "end")
    canvas.text((left + width - right) / 2, height - 6, "time →", "axis", "middle")
    canvas.text(left, top - 4, "↑ memory", "axis", "middle")
    labels = Labels([(x(time), y(memory)) for _, time, memory in points], width - right)
    for contender, time, memory in points:
        canvas.mark(x(time), y(memory), contender,
                    f"{contender.name}: time {time:.2f}, memory {memory:.2f}")
        canvas.text(*labels.place(x(time), y(memory), contender.name), contender.name,
                    "strong" if contender.is_ours else "label")
    return str(canvas)


class Labels:
    """Finds places for words beside points, such that they cover neither points nor each other."""

    def __init__(self, points, most_x):
        self.taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
        self.most_x = most_x

    def place(self, x, y, text):
        """Where the text begins, on which line."""
        width = 7.2 * len(text)
        places = [(x + 11, y + 4), (x - 11 - width, y + 4), (x + 9, y + 15), (x + 9, y - 8),
                  (x - 9 - width, y + 15), (x - 9 - width, y - 8)]
        free = next((place for place in places if self.is_free(*place, width)), places[0])
        self.taken.append(self.box(*free, width))
        return free

    def is_free(self, x, y, width):
        left, top, right, bottom = self.box(x, y, width)
        return right < self.most_x and not any(
            left < r and l < right and top < b and t < bottom for l, t, r, b in self.taken)

    @staticmethod
    def box(x, y, width):
        return x, y - 10, x + width, y + 3
