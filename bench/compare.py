"""The runner behind compare.sh: builds, runs every benchmark in turn on each allocator, reports."""

import argparse
import time
from pathlib import Path

import allocators
import building
import command_line
import comparison
import measuring
from benchmarks import BENCHMARKS


def named_library(text):
    name, _, path = text.partition("=")
    if not (name and path) or name == allocators.GLIBC:
        raise argparse.ArgumentTypeError(f"not NAME=PATH, or the name {allocators.GLIBC}: {text}")
    return name, Path(path)


def parse_arguments():
    parser = command_line.Parser(
        "compare.sh", "Compares allocators with each other: glibc's, binmalloc, and its peers.",
        "benchmark", BENCHMARKS, "comparison")
    parser.add_argument("--lib", type=named_library, action="append", default=[],
                        metavar="NAME=PATH", help="one more library to compare; may be repeated")
    return parser.parse()


def prepare(arguments):
    building.require_commands()
    found = allocators.find(dict(arguments.lib))
    building.build_measurer()
    for allocator in found:
        if allocator.library:
            measuring.require_preload_works(allocator.library)

    results = []
    for name in arguments.benchmark:
        benchmark = BENCHMARKS[name]
        binary = building.build_program(Path(benchmark.source).stem, benchmark.source,
                                        *benchmark.flags)
        results.append(comparison.Result(name, benchmark.cases(name, binary, arguments.quick)))
    return found, results


def run_once(result, allocator, label):
    """Runs one case once. After a failure it is left alone on this allocator in later rounds."""
    if allocator.name in result.failures:
        return
    start = time.monotonic()
    try:
        result.add(allocator.name, result.case.run(allocator.library))
        outcome = f"{time.monotonic() - start:7.2f} s"
    except measuring.RunFailed as failure:
        result.failures[allocator.name] = str(failure)
        outcome = f"FAILED: {failure}"
    print(f"{label:11} {result.case.name:32} {allocator.name:10} {outcome}", flush=True)


def run_rounds(results, found, rounds):
    """Rounds outside, allocators inside: a slow minute of the machine meets all of them alike."""
    cases = [case for result in results for case in result.cases]
    for number in range(rounds):
        first = number % len(found)
        for case in cases:
            for allocator in found[first:] + found[:first]:
                run_once(case, allocator, f"round {number + 1}/{rounds}")


def main():
    arguments = parse_arguments()
    found, results = prepare(arguments)
    run_rounds(results, found, arguments.rounds)

    print("\n" + comparison.write(arguments, found, results))
    # That a peer fails is a result like any other.
    ours = {allocators.GLIBC, allocators.BINMALLOC}
    failed = any(ours & case.failures.keys() for result in results for case in result.cases)
    return command_line.EXIT_FAILED if failed else 0


command_line.run("compare.sh", main)
