"""Runs one command under `measure`, on the system's allocator or with the library preloaded."""

import hashlib
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


class RunFailed(Exception):
    """A program failed, hung, complained, or printed something else than it should."""


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
    """A command that runs under `measure`, with its output in files. A context manager: whatever
    goes wrong inside, no process of it is left."""

    def __init__(self, setup, command, preload):
        self.folder = tempfile.TemporaryDirectory(prefix="binmalloc-bench-")
        self.path = Path(self.folder.name)
        settings = dict(command.environment)
        if preload:
            settings["LD_PRELOAD"] = str(setup.library)
        # A fixed environment: no LD_PRELOAD, PYTHONPATH or locale of the caller's.
        environment = {"PATH": os.environ["PATH"], "HOME": self.folder.name,
                       "TMPDIR": self.folder.name, "LC_ALL": "C"}
        with open(self.path / "stdout", "wb") as out, open(self.path / "stderr", "wb") as err, \
                open(command.stdin or os.devnull, "rb") as stdin:
            self.process = subprocess.Popen(
                [setup.tools / "measure", self.path / "usage",
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


def output_of(setup, command, preload, limit=60):
    with Child(setup, command, preload) as child:
        child.wait(limit)
        return child.read("stdout").decode()


def run_command(setup, command, preload, limit):
    """Runs the command to its end. Its digest covers stdout and the file it makes, if any."""
    with Child(setup, command, preload) as child:
        usage = child.wait(limit)
        digest = hashlib.sha256(child.read("stdout"))
        if command.output:
            digest.update(child.read(command.output))
        return sample(usage, digest.hexdigest())
