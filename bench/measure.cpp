// measure REPORT [NAME=VALUE...] -- PROGRAM [ARGUMENT...]
//
// Runs PROGRAM with the given variables added to its environment, and writes what it
// used as one line of JSON to the file REPORT. Standard streams are PROGRAM's own.
//
// Why a program of its own, and this small:
// - A child starts as its parent's image, and Linux counts that image's peak into the
//   child's ru_maxrss at exec. Started from an interpreter, every small program would
//   show the interpreter's peak. This one's own is the floor of what can be measured:
//   under 2 MiB where it needs no library but libc.
// - NAME=VALUE reaches PROGRAM and its descendants alone, so LD_PRELOAD changes neither
//   the measurer nor the shell or interpreter above it.
//
// wait4() reports the child together with the descendants that the child waited for:
// times and faults are sums, max_rss_kib is that of the largest single process, never a
// sum. For g++ that is cc1plus.

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char** environ;

namespace {

constexpr int exit_usage = 2;
constexpr int exit_cannot_measure = 3;

[[noreturn]] void fail(int exit_code, const char* what, const char* why)
{
    std::fprintf(stderr, "measure: %s: %s\n", what, why);
    std::exit(exit_code);
}

/// The shell's convention: the exit code, or 128 + the number of the signal that killed it.
int exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

long long microseconds(const timeval& t) { return t.tv_sec * 1'000'000LL + t.tv_usec; }

/// Not std::chrono: its clocks live in libstdc++, whose pages would raise the floor.
long long now_nanoseconds()
{
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

} // namespace

int main(int argc, char** argv)
{
    if (argc < 2)
        fail(exit_usage, "usage", "measure REPORT [NAME=VALUE...] -- PROGRAM [ARGUMENT...]");
    const char* const report_path = argv[1];

    int next = 2;
    // LD_PRELOAD set here cannot change this process any more: its loader has already run.
    for (; next < argc && std::strcmp(argv[next], "--") != 0; ++next)
        if (putenv(argv[next]) != 0) fail(exit_cannot_measure, argv[next], std::strerror(errno));
    char** const program = argv + next + 1;
    if (next + 1 >= argc) fail(exit_usage, "usage", "no program after --");

    const long long start = now_nanoseconds();

    pid_t child = 0;
    const int error = posix_spawnp(&child, program[0], nullptr, nullptr, program, environ);
    if (error != 0) fail(exit_cannot_measure, program[0], std::strerror(error));

    int status = 0;
    rusage used{};
    while (wait4(child, &status, 0, &used) < 0)
        if (errno != EINTR) fail(exit_cannot_measure, "wait4", std::strerror(errno));

    const long long wall = now_nanoseconds() - start;

    std::FILE* const report = std::fopen(report_path, "w");
    if (report == nullptr) fail(exit_cannot_measure, report_path, std::strerror(errno));
    std::fprintf(report,
                 "{\"wall_ns\": %lld, \"user_us\": %lld, \"sys_us\": %lld, \"max_rss_kib\": %ld, "
                 "\"minor_faults\": %ld, \"major_faults\": %ld, \"exit_status\": %d}\n",
                 wall, microseconds(used.ru_utime), microseconds(used.ru_stime), used.ru_maxrss,
                 used.ru_minflt, used.ru_majflt, exit_status(status));
    if (std::fclose(report) != 0) fail(exit_cannot_measure, report_path, std::strerror(errno));
}
