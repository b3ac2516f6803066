"""The allocators that compare.sh compares."""

import platform
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import building

GLIBC, BINMALLOC = "glibc", "binmalloc"

# Where Debian puts them.
FOLDER = Path("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "")
PEERS = {
    "jemalloc": "libjemalloc.so.2",
    "mimalloc": "libmimalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "tbbmalloc": "libtbbmalloc_proxy.so.2",
}


@dataclass(frozen=True)
class Allocator:
    name: str
    library: Path | None    # to preload; None for what a program has by itself
    version: str            # or whatever else tells which one it was


def package_of(library):
    """The Debian package that holds a file, with its version; or the file's name, if none does."""
    def query(*arguments):
        return subprocess.run(["dpkg-query", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=True).stdout

    try:
        package = query("--search", library).rpartition(": ")[0]
        return query("--show", "--showformat=${Package} ${Version}", package)
    except (OSError, subprocess.CalledProcessError):
        return library.name


def find(additional):
    """glibc's, binmalloc, the peers on this machine, and `additional` libraries by their names. A
    name that is taken already replaces the library of that name."""
    libraries = {BINMALLOC: building.build_library()}
    for name, file in PEERS.items():
        if (FOLDER / file).is_file():
            libraries[name] = FOLDER / file
        else:
            print(f"{name} is not here: no {FOLDER / file}", flush=True)
    libraries |= additional
    return [Allocator(GLIBC, None, " ".join(platform.libc_ver())),
            *(Allocator(name, library.resolve(), package_of(library))
              for name, library in libraries.items())]
