"""Runs one command under `measure`, on the system's allocator or with a library preloaded."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import building


class RunFailed(Exception):
    """A program failed, hung, complained, or printed something else than it should."""


@dataclass(frozen=True)
class Command:
    """A process to start in an empty folder; `output` is a file that it makes there."""

    argv: list
    environment: dict = field(default_factory=dict)
    stdin: Path | None = None
    output: str | None = None


@dataclass(frozen=True)
class Sample:
    """What one run used. See measure.cpp for what each means with several processes."""

    wall_s: float
    user_s: float
    sys_s: float
    max_rss_kib: int
    minor_faults: int
    digest: str

    @property
    def cpu_s(self):
        return self.user_s + self.sys_s

    def __str__(self):
        return (f"{self.wall_s:8.3f} s  user+sys {self.cpu_s:7.3f} s  sys {self.sys_s:6.3f} s  "
                f"peak RSS {self.max_rss_kib / 1024:7.1f} MiB  faults {self.minor_faults:7d}")


class Child:
    """A command that runs under `measure`, with its output in files; `preload` is the library to
    preload, or None: a copy of it, as a file keeps its place in physical memory, and an unlucky one
    would cost each run the same. A context manager: whatever goes wrong inside, no process of it is
    left."""

    def __init__(self, command, preload):
        self.folder = tempfile.TemporaryDirectory(prefix="binmalloc-bench-")
        self.copies = tempfile.TemporaryDirectory(prefix="preloaded-", dir=building.TOOLS)
        self.path = Path(self.folder.name)
        settings = dict(command.environment)
        if preload:
            settings["LD_PRELOAD"] = str(shutil.copy(preload, self.copies.name))
        # A fixed environment: no LD_PRELOAD, PYTHONPATH or locale of the caller's.
        environment = {"PATH": os.environ["PATH"], "HOME": self.folder.name,
                       "TMPDIR": self.folder.name, "LC_ALL": "C"}
        with open(self.path / "stdout", "wb") as out, open(self.path / "stderr", "wb") as err, \
                open(command.stdin or os.devnull, "rb") as stdin:
            self.process = subprocess.Popen(
                [building.TOOLS / "measure", self.path / "usage",
                 *(f"{name}={value}" for name, value in settings.items()), "--", *command.argv],
                env=environment, cwd=self.path, stdin=stdin, stdout=out, stderr=err,
                start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.folder.cleanup()
        self.copies.cleanup()

    def read(self, name):
        return (self.path / name).read_bytes()

    def tail(self, name):
        return self.read(name).decode(errors="replace").strip()[-1000:]

    def wait(self, limit):
        """Returns what the command used. It must succeed within `limit` seconds and must not
        write to stderr: that is where the loader and allocators complain."""
        try:
            self.process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"still running after {limit:.0f} s") from None
        if self.process.returncode != 0:
            raise RunFailed(f"measure failed: {self.tail('stderr')}")
        usage = json.loads(self.read("usage"))
        if usage["exit_status"] != 0:
            last_words = self.tail("stderr") or self.tail("stdout") or "no output"
            raise RunFailed(f"exit status {usage['exit_status']}: {last_words}")
        if complaint := self.tail("stderr"):
            raise RunFailed(f"wrote to stderr: {complaint}")
        return usage

    def cause_of(self, problem):
        """Why a conversation with it broke: if it has ended, how it ended says more."""
        try:
            self.process.wait(timeout=1)
            self.wait(limit=0)
        except subprocess.TimeoutExpired:
            pass
        except RunFailed as own:
            return own
        return RunFailed(str(problem))


def sample(usage, digest, wall_s=None):
    """`wall_s` stands in for the process's own duration, where that is not what matters."""
    return Sample(wall_s=usage["wall_ns"] / 1e9 if wall_s is None else wall_s,
                  user_s=usage["user_us"] / 1e6, sys_s=usage["sys_us"] / 1e6,
                  max_rss_kib=usage["max_rss_kib"], minor_faults=usage["minor_faults"],
                  digest=digest)


def run_and_read(command, preload, limit):
    """Runs the command to its end: what it used, and what it printed."""
    with Child(command, preload) as child:
        return child.wait(limit), child.read("stdout").decode()


def run_command(command, preload, limit):
    """Runs the command to its end. Its digest covers stdout and the file it makes, if any."""
    with Child(command, preload) as child:
        usage = child.wait(limit)
        digest = hashlib.sha256(child.read("stdout"))
        if command.output:
            digest.update(child.read(command.output))
        return sample(usage, digest.hexdigest())


def require_preload_works(library):
    """The loader only warns about a library that it cannot preload, and then runs on without it;
    a library without malloc is not even warned about. Either would compare libc with itself."""
    if not library.is_file():
        raise building.NotReady(f"no such library: {library}")
    asked = Command([sys.executable, building.BENCH / "workloads/which_malloc.py"])
    try:
        _, serving = run_and_read(asked, library, limit=60)
    except RunFailed as failure:
        raise building.NotReady(f"cannot preload {library}: {failure}") from None
    serving = serving.strip()
    if Path(serving).name != library.name:
        raise building.NotReady(f"with LD_PRELOAD={library}, malloc is still that of {serving}")
