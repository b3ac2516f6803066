"""Records the allocation calls of the programs in programs.py, for the benchmarks that replay them.

A trace is made when it is first needed and kept in build-bench/bench/traces, so that all that is
compared is compared on the same calls. It is made anew when the recorder or the program's work has
changed; to have that otherwise, delete it.
"""

import dataclasses

import building
import measuring
import programs
from building import BENCH, TOOLS, Program

FOLDER = TOOLS / "traces"
LIMIT = 600     # seconds for the recording of one program
# What a trace depends on, here: the version of the program itself is not looked at.
SOURCES = ("traces/*.?pp", "workloads/*", "programs.py", "redis_server.py", "word_index.cpp")


def build_recorder():
    # --as-needed: it is loaded into programs in C, and must not bring libstdc++ along.
    recorder = Program("recorder.so", "traces/recorder.cpp",
                       ("-shared", "-fPIC", "-fvisibility=hidden", "-Wl,--as-needed"))
    recorder.build()
    return recorder.path


def is_current(trace):
    return trace.is_file() and trace.stat().st_mtime >= max(
        source.stat().st_mtime for pattern in SOURCES for source in BENCH.glob(pattern))


def trace_of(program, process, quick):
    """The trace of a program, as a path. `process` is the name of the process that is meant, where
    that is not the first one."""
    trace = FOLDER / f"{program}{'.quick' if quick else ''}.trace"
    if not is_current(trace):
        FOLDER.mkdir(parents=True, exist_ok=True)
        record(program, process, quick, trace)
    return trace


def record(name, process, quick, trace):
    recorder = build_recorder()
    program = programs.PROGRAMS[name].make(programs.Setup(recorder, quick))
    command = program.variants[0].command
    for binary, flags in programs.own_builds([name]).items():
        if TOOLS / binary in command.argv:
            Program(binary, "word_index.cpp", tuple(flags)).build()

    unfinished = trace.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    settings = {"BINMALLOC_TRACE": str(unfinished)}
    if process:
        settings["BINMALLOC_TRACE_PROGRAM"] = process
    print(f"recording {name}", flush=True)
    try:
        program.runner(dataclasses.replace(command, environment=command.environment | settings),
                       recorder, LIMIT)
    except measuring.RunFailed as failure:
        raise building.NotReady(f"cannot record {name}: {failure}") from None
    if not unfinished.is_file():
        raise building.NotReady(f"cannot record {name}: it wrote no {unfinished}")
    unfinished.rename(trace)
