"""The runner behind compare.sh: builds, runs every benchmark in turn on each allocator, reports."""

import argparse
from pathlib import Path

import allocators
import building
import command_line
import comparison
import measuring
from benchmarks import BENCHMARKS, SLOW, TYPED
from progress import Progress


def named_library(text):
    name, _, path = text.partition("=")
    if not (name and path) or name == allocators.GLIBC:
        raise argparse.ArgumentTypeError(f"not NAME=PATH, or the name {allocators.GLIBC}: {text}")
    return name, Path(path)


def parse_arguments():
    parser = command_line.Parser(
        "compare.sh", "Compares allocators with each other: glibc's, binmalloc, and its peers.",
        "benchmark", BENCHMARKS, "comparison", "results.json, results.md, report.html and means.svg",
        quick_rounds=1, slow=SLOW)
    parser.add_argument("--lib", type=named_library, action="append", default=[],
                        metavar="NAME=PATH", help="one more library to compare; may be repeated")
    return parser.parse()


def prepare(arguments):
    building.require_commands(needed for name in arguments.benchmark
                              for needed in BENCHMARKS[name].needs)
    found = allocators.find(dict(arguments.lib))
    building.build_measurer()
    for allocator in found:
        if allocator.library:
            measuring.require_preload_works(allocator.library)

    chosen = {name: BENCHMARKS[name] for name in arguments.benchmark}
    building.build_programs(program for benchmark in chosen.values()
                            for program in benchmark.programs())
    results = [comparison.Result(name, benchmark, arguments.quick)
               for name, benchmark in chosen.items()]
    return found, results


def run_once(case, allocator):
    """Runs one case once; returns why it failed, if it did. After that it is left alone on this
    allocator in later rounds."""
    if allocator.name in case.failures:
        return None
    try:
        case.add(allocator.name, case.case.run(allocator))
    except measuring.RunFailed as failure:
        case.failures[allocator.name] = " ".join(str(failure).split())     # on one line
    return case.failures.get(allocator.name)


def all_runs(results, found, rounds):
    """Rounds outside, allocators inside: a slow minute of the machine meets all of them alike."""
    for number in range(rounds):
        for result in results:
            contenders = found + result.variants
            first = number % len(contenders)
            for case in result.cases:
                for allocator in contenders[first:] + contenders[:first]:
                    yield number, result, case, allocator


def run_all(results, found, rounds):
    """Returns how many rounds are complete: all, or if Ctrl-C ends it after the first, those before."""
    runs = list(all_runs(results, found, rounds))
    progress = Progress([(f"round {number + 1}/{rounds}", result.title_of(case), allocator.name)
                         for number, result, case, allocator in runs])
    for number, result, case, allocator in runs:
        try:
            progress.start()
            failure = run_once(case, allocator)
            progress.end()
        except KeyboardInterrupt:
            if number == 0:
                raise
            progress.message(f"interrupted: the report is of {number} of {rounds} rounds")
            for result in results:
                for case in result.cases:
                    case.keep_first(number)
            return number
        if failure:
            progress.message(f"{result.title_of(case)} FAILED on {allocator.name}: {failure}")
    return rounds


def main():
    arguments = parse_arguments()
    found, results = prepare(arguments)
    arguments.rounds = run_all(results, found, arguments.rounds)

    print("\n" + comparison.write(arguments, found, results))
    # That a peer fails is a result like any other.
    ours = {allocators.GLIBC, allocators.BINMALLOC, TYPED}
    failed = any(ours & case.failures.keys() for result in results for case in result.cases)
    return command_line.EXIT_FAILED if failed else 0


command_line.run("compare.sh", main)
