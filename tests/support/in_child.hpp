// Runs something in a forked child, which a hang or a limit may end.
#pragma once

#if defined(__unix__) || defined(__APPLE__)

#    include <sys/wait.h>
#    include <unistd.h>

namespace binmalloc_test {

using fork_function = pid_t (*)();

inline constexpr unsigned seconds_of_a_child = 30;

/// The exit status of a child, or 1000 and the signal that ended it (SIGALRM: it did not end by
/// itself).
inline int result_of(pid_t child)
{
    int status = 0;
    if (::waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/// In a child that was forked just now: runs `body` and exits with its result. If that hangs, the child
/// is killed.
template <class Body>
[[noreturn]] void run_as_child(Body body)
{
    ::alarm(seconds_of_a_child);
    ::_exit(body());
}

/// Forks; the child runs `body` and exits with its result, which is returned.
template <class Body>
int in_child(Body body, fork_function fork_now = ::fork)
{
    const pid_t child = fork_now();
    if (child == 0) run_as_child(body);
    return child > 0 ? result_of(child) : -1;
}

} // namespace binmalloc_test

#endif
