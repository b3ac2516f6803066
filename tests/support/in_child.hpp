// Runs something in a forked child, which a hang or a limit may end.
#pragma once

#include <gtest/gtest.h>

#if defined(__unix__) || defined(__APPLE__)

#    include <sys/wait.h>
#    include <unistd.h>

namespace binmalloc_test {

/// Returns: what body() returned in the child; -1, and the test has failed, if a signal ended it
/// (SIGALRM: it did not end by itself).
template <class Body>
int in_child(Body body)
{
    constexpr unsigned seconds = 60;
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(seconds);
        ::_exit(body());
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    ADD_FAILURE() << "ended by signal " << WTERMSIG(status);
    return -1;
}

} // namespace binmalloc_test

#endif
