/* size_of_nothing LIBRARY PROGRAM: a program that does next to nothing costs little more memory with
   the library than without, and runs in 64 MiB of address space. In C and small, because what a child
   has at its start counts into its peak. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { runs = 15, most_kib = 400, address_space_mib = 64 };

static int by_size(const void* a, const void* b)
{
    const long x = *(const long*)a, y = *(const long*)b;
    return (x > y) - (x < y);
}

/* The peak of resident memory, or no return. */
static long peak_kib(char* program, char* setting)
{
    char* arguments[] = {program, NULL};
    char* environment[] = {setting, NULL};
    pid_t child;
    int status;
    struct rusage used;
    if (posix_spawn(&child, program, NULL, NULL, arguments, environment) != 0
        || wait4(child, &status, 0, &used) != child || status != 0) {
        fprintf(stderr, "%s %s: failed\n", setting, program);
        exit(1);
    }
    return used.ru_maxrss;
}

static long median_peak_kib(char* program, char* setting)
{
    long peaks[runs];
    for (int i = 0; i < runs; ++i) peaks[i] = peak_kib(program, setting);
    qsort(peaks, runs, sizeof peaks[0], by_size);
    return peaks[runs / 2];
}

int main(int argc, char** argv)
{
    if (argc != 3) return 2;
    char preload[4096];
    char nothing[] = "NOTHING=";
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", argv[1]);
    const long without = median_peak_kib(argv[2], nothing);
    const long with = median_peak_kib(argv[2], preload);
    printf("%ld KiB without, %ld KiB with the library\n", without, with);
    if (with > without + most_kib) {
        fprintf(stderr, "that is more than %d KiB\n", most_kib);
        return 1;
    }
    const rlim_t most = (rlim_t)address_space_mib << 20;
    const struct rlimit limit = {most, most};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
    peak_kib(argv[2], preload);
    return 0;
}
