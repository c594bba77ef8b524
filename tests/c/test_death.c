/* test_death.c: what becomes of the segments and the slots of processes that are killed, outside of any exchange. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"

enum { CROWD = 60, LOOKERS = 3, ROUNDS = 100 };
static const dk_layout small = {.length = 1, .stripe_length = 64, .itemsize = 8, .slots = 1};

/* A process that does something with a center, and then waits for its end; returns when it waits. */
static pid_t elsewhere(void (*something)(const char *name), const char *name) {
    int ready[2];
    char byte;
    CHECK(pipe(ready) == 0, "pipe");
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        something(name);
        CHECK(write(ready[1], "r", 1) == 1, "pipe");
        pause();
    }
    CHECK(read(ready[0], &byte, 1) == 1, "pipe");
    close(ready[0]), close(ready[1]);
    return pid;
}

static void create(const char *name) {
    dk_center *center;
    OK(dk_center_create(name, &small, &(double){1}, NULL, &center));
}

static void claim_all(const char *name) {
    dk_center *center;
    dk_worker *worker;
    OK(dk_center_attach(name, NULL, 5, &center));
    for (int i = 0; i < CROWD; i++)
        OK(dk_worker_claim(center, i, &worker));
}

static void bring_down(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* A center whose only process dies is an orphan: it stays until somebody sweeps or wants its name, and no longer. */
static void orphans_are_swept(void) {
    const char *name = segment_name("orphan");
    dk_center *center;
    double value;
    int removed;
    pid_t pid = elsewhere(create, name);
    OK(dk_segment_sweep(name, &removed));
    CHECK(!removed, "a live center was swept");
    REFUSED(DK_EXISTS, name, dk_center_create(name, &small, &(double){2}, NULL, &center));
    bring_down(pid);
    OK(dk_segment_sweep(name, &removed));
    CHECK(removed && shm_open(name, O_RDONLY, 0) < 0, "an orphan was not swept");

    bring_down(elsewhere(create, name));
    OK(dk_center_create(name, &small, &(double){2}, NULL, &center));
    OK(dk_center_snapshot(center, 0, &value, 1));
    CHECK(value == 2, "the value of an orphan, %g", value);
    OK(dk_center_close(center));
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "a segment was left behind");
}

static void *look_until_all_are_dead(void *center) {
    dk_counts counts;
    do
        OK(dk_center_counts(center, &counts));
    while (counts.live && counts.live <= CROWD); /* two burials of one worker would make it less than none */
    return NULL;
}

/* Whoever looks at a center counts its dead. That all look at once must not count one of them twice. */
static void a_death_is_counted_once(void) {
    const char *name = segment_name("crowd");
    dk_center *center;
    dk_layout layout = {.length = 1, .stripe_length = 64, .itemsize = 8, .slots = CROWD};
    OK(dk_center_create(name, &layout, &(double){0}, NULL, &center));
    for (int round = 1; round <= ROUNDS; round++) {
        pid_t pid = elsewhere(claim_all, name);
        pthread_t lookers[LOOKERS];
        for (int i = 0; i < LOOKERS; i++)
            CHECK(!pthread_create(&lookers[i], NULL, look_until_all_are_dead, center), "thread");
        bring_down(pid);
        for (int i = 0; i < LOOKERS; i++)
            pthread_join(lookers[i], NULL);
        dk_counts counts;
        OK(dk_center_counts(center, &counts));
        CHECK(counts.deaths == (uint32_t)(CROWD * round), "%u deaths of %d", counts.deaths, CROWD * round);
    }
    OK(dk_center_close(center));
}

int main(void) {
    orphans_are_swept();
    a_death_is_counted_once();
    return 0;
}
