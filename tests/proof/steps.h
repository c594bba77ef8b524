/* steps.h: a child process that is killed after exactly so many instructions of what it does.
 *
 * Single steps are slow, and most instructions come late. So what is stepped is cut by marks: the engine's labelled points. A child runs
 * at full speed to one of its marks, and is stepped from there to the next. */
#ifndef DKCORE_STEPS_H
#define DKCORE_STEPS_H

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "check.h"

static uint64_t unmarked; /* marks to pass, in the child */

static inline void mark(void) {
    if (unmarked)
        unmarked--;
    else
        raise(SIGSTOP);
}

/* KILLED; or it came to the next mark before; or it came to its end. */
typedef enum outcome { KILLED, MARKED, ENDED } outcome;

static inline pid_t begin_traced(uint64_t marks, void (*act)(void *), void *argument) {
    pid_t pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        CHECK(!ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace: %s; is it allowed here?", strerror(errno));
        unmarked = marks;
        act(argument);
        _exit(0);
    }
    return pid;
}

static inline outcome wait_for(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return ENDED;
    CHECK(WIFSTOPPED(status) && (WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP), "a child: status %d", status);
    return WSTOPSIG(status) == SIGSTOP ? MARKED : KILLED;
}

/* So many instructions after the mark of that number. */
static inline outcome kill_after(uint64_t marks, uint64_t steps, void (*act)(void *), void *argument) {
    int status;
    pid_t pid = begin_traced(marks, act, argument);
    outcome outcome = wait_for(pid);
    for (int first = 1; outcome == KILLED || (first && outcome == MARKED); first = 0) {
        if (steps-- == 0)
            break;
        CHECK(!ptrace(PTRACE_SINGLESTEP, pid, 0, 0), "ptrace: %s", strerror(errno));
        outcome = wait_for(pid);
    }
    if (outcome == ENDED)
        return outcome;
    CHECK(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "kill: status %d", status);
    return steps == UINT64_MAX ? KILLED : MARKED;
}

#endif
