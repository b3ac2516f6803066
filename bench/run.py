"""The runner behind run.sh: builds, runs every program in turn on each allocator, reports."""

from pathlib import Path

import building
import command_line
import measuring
import programs
import report


def parse_arguments():
    parser = command_line.Parser(
        "run.sh", "Runs real programs on the system's allocator and on binmalloc.",
        "program", programs.PROGRAMS, "results", "results.json and results.md", quick_rounds=2)
    parser.add_argument("--lib", type=Path, metavar="PATH",
                        help="the library to preload (default: build libbinmalloc.so)")
    return parser.parse()


def prepare(arguments):
    building.require_commands(needed for name in arguments.program
                              for needed in programs.PROGRAMS[name].needs)
    library = (arguments.lib or building.build_library()).resolve()
    setup = programs.Setup(library, arguments.quick)

    building.build_measurer()
    measuring.require_preload_works(library)
    for name, flags in programs.own_builds(arguments.program).items():
        building.build_program(name, "word_index.cpp", *flags)

    print("generating inputs", flush=True)
    return setup, [programs.PROGRAMS[name].make(setup) for name in arguments.program]


def run_once(setup, result, variant, label, measured=True):
    """Runs one variant once. After a failure the program is left alone in later rounds."""
    if result.failure:
        return
    try:
        sample = result.program.run(setup, variant, limit=result.time_limit())
        result.add(variant.name, sample, measured)
        outcome = sample
    except measuring.RunFailed as failure:
        result.failure = f"{variant.name}: {failure}"
        outcome = f"FAILED: {failure}"
    print(f"{label:11} {result.program.name:18} {variant.name:8} {outcome}", flush=True)


def run_rounds(setup, results, rounds):
    """Rounds outside, programs inside: a slow minute of the machine meets all of them alike."""
    for result in results:
        # Reads programs and inputs into the page cache, and gives the output to compare with.
        run_once(setup, result, result.program.variants[0], "warm-up", measured=False)
    for number in range(rounds):
        for result in results:
            variants = result.program.variants
            first = number % len(variants)
            for variant in variants[first:] + variants[:first]:
                run_once(setup, result, variant, f"round {number + 1}/{rounds}")


def main():
    arguments = parse_arguments()
    setup, selected = prepare(arguments)
    results = [report.Result(program) for program in selected]
    run_rounds(setup, results, arguments.rounds)

    print("\n" + report.write(arguments.out, setup, results, arguments.rounds))
    return command_line.EXIT_FAILED if any(result.failure for result in results) else 0


command_line.run("run.sh", main)
