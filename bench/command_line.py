"""What the commands run.sh and compare.sh have in common: their arguments and exit statuses."""

import argparse
import signal
import sys
from pathlib import Path

import building

EXIT_FAILED = 1
EXIT_NOT_READY = 3


class Parser(argparse.ArgumentParser):
    """For `command`, which runs things of the kind `what`, all of them or those it is told, and
    writes `files` into the folder `out` of the build tree. --quick leaves out those that are `slow`,
    unless it is told."""

    def __init__(self, command, description, what, names, out, files, quick_rounds, slow=()):
        super().__init__(prog=command, description=description,
                         epilog=f"{what}s: {', '.join(names)}")
        self.what, self.names, self.quick_rounds, self.slow = what, names, quick_rounds, slow
        rounds = f"{quick_rounds} round{'s' if quick_rounds > 1 else ''}"
        self.add_argument("--quick", action="store_true", help=f"small inputs, {rounds}")
        self.add_argument("--rounds", type=int, metavar="N",
                          help=f"runs of each (default 5, with --quick {quick_rounds})")
        self.add_argument("--out", type=Path, default=building.BUILD / out, metavar="DIR",
                          help=f"where {files} go "
                               f"(default {building.BUILD.name}/{out})")
        self.add_argument(what, nargs="*", metavar=what.upper(),
                          help="only these (default: all)")

    def parse(self):
        arguments = self.parse_args()
        if arguments.rounds is None:
            arguments.rounds = self.quick_rounds if arguments.quick else 5
        if arguments.rounds < 1:
            self.error("--rounds must be 1 or more")

        chosen = getattr(arguments, self.what)
        unknown = [name for name in chosen if name not in self.names]
        if unknown:
            self.error(f"unknown: {' '.join(unknown)}; there are: {' '.join(self.names)}")
        everything = [name for name in self.names
                      if not (arguments.quick and name in self.slow)]
        setattr(arguments, self.what, chosen or everything)
        return arguments


def run(command, main):
    """Runs `main` and exits with what it returns."""
    # As SystemExit, so that a running program is ended too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except building.NotReady as reason:
        print(f"{command}: {reason}", file=sys.stderr)
        sys.exit(EXIT_NOT_READY)
