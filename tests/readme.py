"""readme.py NAME WORK_DIR STAGE: runs one example of README.md, which must work as printed.

An example is a fenced block with a line before it:  <!-- test: NAME [flags] -->
  cpp    compiled with the include path and the flags, then run. Without main() its #include lines
         stay on top and the rest becomes main's body. `no-run` among the flags: only compiled.
  c      the same as C, linked with the definitions of the C API.
  cmake  a CMakeLists.txt, or a part of one for the targets `app` (from app.cpp, a stand-in that
         includes binmalloc); configured and built, then each program in it is run.
  sh     run by `sh -e` in a copy of the repository that also holds main.cpp and libbinmalloc.so.
CC and CXX name the compilers. STAGE is where the library is installed.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
PROGRAM = "#include <binmalloc/binmalloc.hpp>\nint main() { delete new int(1); }\n"


def find_example(name):
    """The language, flags and text of the example."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    pattern = rf"^<!-- test: {re.escape(name)}((?: [^\n]*?)?) -->\n+```(\w+)\n(.*?)^```$"
    found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    if len(found) != 1:
        sys.exit(f"README.md has {len(found)} tested examples of the name '{name}'")
    flags, language, body = found[0]
    return language, flags.split(), body


def run(command, **options):
    print("+", command if isinstance(command, str) else " ".join(map(str, command)), flush=True)
    subprocess.run(command, check=True, **options)


def with_main(body):
    if re.search(r"\bmain\s*\(", body):
        return body
    lines = body.splitlines()
    directives = [line for line in lines if line.startswith("#")]
    statements = [line for line in lines if not line.startswith("#")]
    return "\n".join([*directives, "int main() {", *statements, "}", ""])


def compile_and_run(compiler, source, flags, objects=()):
    should_run = "no-run" not in flags
    flags = [flag for flag in flags if flag != "no-run"]
    run([compiler, *WARNINGS, f"-I{REPOSITORY}/include", source, *objects, *flags, "-o", "example"])
    if should_run:
        run(["./example"])


def test_cpp(body, flags):
    pathlib.Path("example.cpp").write_text(with_main(body))
    compile_and_run(os.environ["CXX"], "example.cpp", ["-std=c++20", *flags])


def test_c(body, flags):
    pathlib.Path("example.c").write_text(with_main(body))
    run([os.environ["CXX"], "-std=c++20", f"-I{REPOSITORY}/include", "-c",
         REPOSITORY / "cmake/targets/c.cpp", "-o", "c.o"])
    compile_and_run(os.environ["CC"], "example.c", ["-std=c11", *flags, "-lstdc++"], ["c.o"])


def test_cmake(body, flags, stage):
    if not re.search(r"^project\(", body, re.MULTILINE):
        body = ("cmake_minimum_required(VERSION 3.22)\nproject(example LANGUAGES C CXX)\n"
                + ("" if "add_executable(" in body else "add_executable(app app.cpp)\n") + body)
    pathlib.Path("CMakeLists.txt").write_text(body)
    for source in set(re.findall(r"\w+\.cpp", body)):
        pathlib.Path(source).write_text(PROGRAM)
    # add_subdirectory finds the repository under any name; FetchContent does not download.
    for directory in re.findall(r"add_subdirectory\(\s*([\w/]+)", body):
        pathlib.Path(directory).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(directory).symlink_to(REPOSITORY)
    run(["cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={stage}",
         f"-DFETCHCONTENT_SOURCE_DIR_BINMALLOC={REPOSITORY}", *flags])
    run(["cmake", "--build", "build"])
    for program in re.findall(r"add_executable\(\s*(\w+)", body):
        run([f"build/{program}"])


def test_sh(body, stage):
    for entry in ("include", "cmake", "tests", "CMakeLists.txt", "LICENSE", "README.md"):
        copy = shutil.copytree if (REPOSITORY / entry).is_dir() else shutil.copy
        copy(REPOSITORY / entry, entry)
    pathlib.Path("main.cpp").write_text(PROGRAM)
    library = next(stage.rglob("libbinmalloc.so"))
    shutil.copy(library, "libbinmalloc.so")
    run(["sh", "-e", "-c", body])


def main():
    name, work, stage = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve()
    language, flags, body = find_example(name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.chdir(work)
    tests = {
        "cpp": lambda: test_cpp(body, flags),
        "c": lambda: test_c(body, flags),
        "cmake": lambda: test_cmake(body, flags, stage),
        "sh": lambda: test_sh(body, stage),
    }
    if language not in tests:
        sys.exit(f"no way to test a block of '{language}'")
    tests[language]()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
