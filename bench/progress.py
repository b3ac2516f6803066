"""The line that says, while a comparison runs, what runs, and about how long it will still take."""

import sys
import time
from statistics import mean


class Progress:
    """On a terminal a single line, rewritten for each run; elsewhere a line for each case."""

    def __init__(self, runs):
        """`runs` are all that there will be, in order: (round, case, allocator) for each."""
        self.runs = runs
        self.done = 0
        self.seconds = {}       # of the last run, by case and allocator
        self.case_printed = None

    def start(self):
        """Before each run."""
        self.started = time.monotonic()
        number, case, allocator = self.runs[self.done]
        where = f"{number} {case} on {allocator}"
        line = f"{self.done / len(self.runs):4.0%}  {where:64} {self.remaining()}"
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line}", end="", flush=True)
        elif self.case_printed != (number, case):
            self.case_printed = number, case
            print(line, flush=True)

    def end(self):
        """After each run."""
        self.seconds[self.runs[self.done][1:]] = time.monotonic() - self.started
        self.done += 1
        if self.done == len(self.runs):
            self.clear()

    def message(self, text):
        """A line of its own, which stays."""
        self.clear()
        print(text, flush=True)

    def clear(self):
        if sys.stdout.isatty():
            print("\r\x1b[K", end="", flush=True)

    def remaining(self):
        if not self.seconds:
            return ""
        # What has not run yet may take as long as what has.
        otherwise = mean(self.seconds.values())
        left = sum(self.seconds.get(run[1:], otherwise) for run in self.runs[self.done:])
        return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"
