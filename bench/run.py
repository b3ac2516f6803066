"""The runner behind run.sh: builds, runs every program in turn on each allocator, reports."""

import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import measuring
import programs
import report

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
BUILD = ROOT / "build-bench"

EXIT_FAILED = 1
EXIT_NOT_READY = 3


class NotReady(Exception):
    """Something that is needed before the first measurement is not there."""


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="run.sh",
        description="Runs real programs on the system's allocator and on binmalloc.",
        epilog="programs: " + ", ".join(programs.PROGRAMS))
    parser.add_argument("--quick", action="store_true", help="small inputs, 2 rounds")
    parser.add_argument("--rounds", type=int, metavar="N",
                        help="runs of each (default 5, with --quick 2)")
    parser.add_argument("--out", type=Path, default=BUILD / "results", metavar="DIR",
                        help="where results.json and results.md go (default build-bench/results)")
    parser.add_argument("--lib", type=Path, metavar="PATH",
                        help="the library to preload (default: build libbinmalloc.so)")
    parser.add_argument("program", nargs="*", metavar="PROGRAM", help="only these (default: all)")
    arguments = parser.parse_args()

    if arguments.rounds is None:
        arguments.rounds = 2 if arguments.quick else 5
    if arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    unknown = [name for name in arguments.program if name not in programs.PROGRAMS]
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}; there are: {' '.join(programs.PROGRAMS)}")
    arguments.program = arguments.program or list(programs.PROGRAMS)
    return arguments


def require_commands(names):
    """run.sh has installed everything on Debian; elsewhere this says what to install."""
    needed = {"cmake", "ninja", "g++"}.union(*(programs.PROGRAMS[name].needs for name in names))
    missing = sorted(command for command in needed if shutil.which(command) is None)
    if missing:
        raise NotReady(f"missing: {' '.join(missing)}. Install what these Debian packages hold:\n"
                       + (BENCH / "packages.txt").read_text())


def run_build_step(what, argv):
    print(what, flush=True)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise NotReady(f"{what}: failed: {' '.join(map(str, argv))}\n{done.stdout}")


def build_library():
    run_build_step("configuring", ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja",
                                   "-DCMAKE_BUILD_TYPE=Release", "-DBINMALLOC_BUILD_TESTS=OFF"])
    run_build_step("building libbinmalloc.so",
                   ["cmake", "--build", BUILD, "--target", "binmalloc_preload"])
    return BUILD / "libbinmalloc.so"


def build_program(setup, name, source, *flags):
    binary = setup.tools / name
    run_build_step(f"building {name}", ["g++", "-std=c++20", "-O2", "-pthread", *flags,
                                        "-I", ROOT / "include", BENCH / source, "-o", binary])
    return binary


def require_preload_works(setup):
    """The loader only warns about a library that it cannot preload, and then runs on without it;
    a library without malloc is not even warned about. Either would compare libc with itself."""
    asked = programs.Command([sys.executable, setup.bench / "workloads/which_malloc.py"])
    try:
        serving = Path(measuring.output_of(setup, asked, preload=True).strip())
    except measuring.RunFailed as failure:
        raise NotReady(f"cannot preload {setup.library}: {failure}") from None
    if serving.resolve() != setup.library:
        raise NotReady(f"with LD_PRELOAD={setup.library}, malloc is still that of {serving}")


def prepare(arguments):
    require_commands(arguments.program)
    setup = programs.Setup(bench=BENCH, tools=BUILD / "bench", quick=arguments.quick,
                           library=(arguments.lib or build_library()).resolve())
    if not setup.library.is_file():
        raise NotReady(f"no such library: {setup.library}")
    setup.tools.mkdir(parents=True, exist_ok=True)

    # --as-needed: the measurer must not map libstdc++, see measure.cpp.
    build_program(setup, "measure", "measure.cpp", "-Wl,--as-needed")
    require_preload_works(setup)
    for name, flags in programs.own_builds(arguments.program).items():
        build_program(setup, name, "word_index.cpp", *flags)

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
    # As SystemExit, so that a running program is ended too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        setup, selected = prepare(arguments)
    except NotReady as reason:
        print(f"run.sh: {reason}", file=sys.stderr)
        return EXIT_NOT_READY

    results = [report.Result(program) for program in selected]
    run_rounds(setup, results, arguments.rounds)

    print("\n" + report.write(arguments.out, setup, results, arguments.rounds))
    return EXIT_FAILED if any(result.failure for result in results) else 0


sys.exit(main())
