/* prove_schedules.c: two workers, two stripes and at most one death, in all orders of the engine's labelled points with at most so many
 * changes of who runs before it has to wait (Musuvathi and Qadeer 2007, PLDI: bounded so, few changes find nearly all faults).
 *
 *     prove_schedules [CHANGES [UNDO [PART OF]]]
 *
 * The workers are processes that run the engine itself, one at a time: each stops at every point until it is told to go on. The death may
 * come at any step, to who runs or to who stands somewhere. Prints how many schedules there were, and how many different states. */
#define _GNU_SOURCE
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"
#include "states.h"
#include "undo.h"

enum {
    WORKERS = 2,
    STRIPES = 2,
    STRIPE = DK_BLOCK,
    LENGTH = STRIPES * STRIPE,
    MOST_CHANGES = 3,
    ENDED = 100,
    NEVER = 1000,
    SEEN = 1 << 20
};
static const double adds[WORKERS] = {1, 1 << 20}; /* so that a number says how often each is in it */

typedef struct board {
    sem_t go[WORKERS], back;
    _Atomic int at[WORKERS]; /* the point where it stands, or ENDED */
} board;

/* changes: steps before which another runs. */
typedef struct schedule {
    int first, changes[MOST_CHANGES], death, victim;
} schedule;

static board *shared;
static dk_center *center;
static int self = -1; /* in a worker */
static uint64_t schedules;

void dk_fault(int point) {
    if (self < 0)
        return;
    atomic_store(&shared->at[self], point);
    sem_post(&shared->back);
    while (sem_wait(&shared->go[self]))
        ;
}

/* The center and its state move together: they always differ by nothing. */
static void add_to_both(size_t n, void *const *vectors, const double *scalars) {
    double *c = vectors[0], *w = vectors[1], *p = vectors[2], *v = vectors[3];
    (void)scalars;
    for (size_t i = 0; i < n; i++) {
        c[i] += w[i] - p[i], v[i] += w[i] - p[i];
        w[i] = p[i] = c[i];
    }
}

static void work(int index) {
    double w[LENGTH], p[LENGTH];
    dk_worker *worker;
    uint64_t length = LENGTH;
    void *address = w;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    OK(dk_worker_claim(center, index, &worker));
    dk_call call = downpour(worker, 8, p);
    call.kernel = add_to_both, call.vectors = 4, call.role[3] = DK_STATE;
    OK(dk_pull(&call, 1, &address, &length));
    for (int i = 0; i < LENGTH; i++)
        w[i] += adds[index];
    self = index;
    OK(dk_exchange(&call, 1, &address, &length));
    OK(dk_worker_release(worker));
    dk_fault(ENDED);
}

/* Until a worker stands again. */
static void await(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    while (sem_timedwait(&shared->back, &until))
        CHECK(errno == EINTR, "the workers stand at %d and %d, and the one that runs hangs", shared->at[0], shared->at[1]);
}

static pid_t start(int index) {
    pid_t pid = fork();
    if (pid == 0) {
        work(index);
        _exit(0);
    }
    await();
    return pid;
}

static void bury(pid_t *pid) {
    int status;
    kill(*pid, SIGKILL);
    waitpid(*pid, &status, 0);
    *pid = 0;
}

/* Points, versions, locks and areas. */
static void note_state(const pid_t *pids) {
    uint64_t hash = 0;
    for (uint32_t k = 0; k < WORKERS; k++) {
        hash = mixed(hash, (uint64_t)(pids[k] ? atomic_load(&shared->at[k]) : -1));
        hash = mixed(hash, atomic_load(&dk_undo_of(center, k + 1)->stripe));
    }
    for (int s = 0; s < STRIPES; s++) {
        const dk_stripe *stripe = &center->stripes[s];
        hash = mixed(hash, atomic_load(&stripe->version) % 2 * 4 + (stripe->lock.__data.__lock != 0) * 2 + stripe->mending);
        hash = mixed(hash, atomic_load(&stripe->holder));
    }
    note(hash);
}

static int runs(const pid_t *pids, int k) { return pids[k] && atomic_load(&shared->at[k]) != ENDED; }

/* Who goes on: who did, unless it is the time for a change, or it waits for the other. -1: nobody is left. */
static int next(const pid_t *pids, int current, int change) {
    int other = !current;
    if (!runs(pids, current))
        return runs(pids, other) ? other : -1;
    if (runs(pids, other) &&
        (change || (atomic_load(&shared->at[current]) == DK_POINT_WAIT && atomic_load(&shared->at[other]) != DK_POINT_WAIT)))
        return other;
    return current;
}

static int is_change(const schedule *order, int step) {
    for (int k = 0; k < MOST_CHANGES; k++)
        if (order->changes[k] == step)
            return 1;
    return 0;
}

/* How often each worker is in the stripe: whole, once at most, in both vectors alike. */
static int check_stripe(int s, const double *before, int dead) {
    const double *c = (double *)dk_vector(center, 0), *v = (double *)dk_vector(center, 1);
    uint64_t sum = (uint64_t)(c[s * STRIPE] - before[s * STRIPE]);
    int in[WORKERS] = {(int)(sum % (1 << 20)), (int)(sum >> 20)};
    for (int i = s * STRIPE; i < (s + 1) * STRIPE; i++)
        CHECK(c[i] == v[i] && c[i] - before[i] == (double)sum, "element %d: %g and %g", i, c[i] - before[i], v[i]);
    for (int k = 0; k < WORKERS; k++)
        CHECK(in[k] == 1 || (in[k] == 0 && dead == k), "worker %d is in stripe %d %d times", k, s, in[k]);
    return in[0] + in[1];
}

typedef struct ledger {
    double numbers[LENGTH];
    uint64_t versions[STRIPES];
    dk_counts counts;
} ledger;

static ledger look(void) {
    ledger seen;
    OK(dk_center_snapshot(center, 0, seen.numbers, 5)); /* which comes by all stripes, and mends them */
    OK(dk_center_versions(center, seen.versions));
    OK(dk_center_counts(center, &seen.counts));
    return seen;
}

static void check_run(const ledger *before, int dead) {
    ledger now = look();
    for (int s = 0; s < STRIPES; s++) {
        uint64_t in = (uint64_t)check_stripe(s, before->numbers, dead), more = now.versions[s] - before->versions[s];
        CHECK(more == in, "stripe %d has %d commits more, and %d workers are in", s, (int)more, (int)in);
    }
    uint32_t deaths = now.counts.deaths - before->counts.deaths;
    uint64_t undone = now.counts.undone - before->counts.undone;
    CHECK(deaths == (dead >= 0) && now.counts.live == 0, "%u deaths, %u live", deaths, now.counts.live);
    CHECK(now.counts.kept == before->counts.kept && undone <= (uint64_t)(dead >= 0), "%d undone", (int)undone);
}

/* Lets the workers run in that order. Returns how many steps there were; dead: OUT, who was killed, or -1. */
static int drive(const schedule *order, pid_t *pids, int *dead) {
    int steps = 0;
    *dead = -1;
    for (int current = order->first; current >= 0; steps++) {
        if (steps == order->death && runs(pids, order->victim))
            bury(&pids[ *dead = order->victim]);
        note_state(pids);
        if ((current = next(pids, current, is_change(order, steps))) >= 0) {
            sem_post(&shared->go[current]);
            await();
        }
    }
    return steps;
}

static int run(const schedule *order) {
    ledger before = look();
    pid_t first = start(0), pids[WORKERS] = {first, start(1)};
    int dead;
    int steps = drive(order, pids, &dead);
    for (int k = 0; k < WORKERS; k++)
        if (pids[k])
            bury(&pids[k]); /* it has ended, and released its worker */
    check_run(&before, dead);
    schedules++;
    return steps;
}

/* A death at every step, and none. */
static void with_deaths(schedule order) {
    order.death = NEVER;
    int steps = run(&order);
    for (order.death = 0; order.death < steps; order.death++)
        for (order.victim = 0; order.victim < WORKERS; order.victim++)
            run(&order);
}

/* All ways to set the changes from this one on, each later than the one before. */
static void with_changes(schedule order, int from, int left, int part, int of) {
    order.death = NEVER;
    int steps = run(&order);
    if (part == 0 || of == 1)
        with_deaths(order);
    for (int at = from; left > 0 && at < steps; at++) {
        order.changes[left - 1] = at;
        if (of == 1 || at % of == part)
            with_changes(order, at + 1, left - 1, 0, 1);
    }
}

int main(int count, char **arguments) {
    int changes = count > 1 ? atoi(arguments[1]) : 2, part = count > 4 ? atoi(arguments[3]) : 0, of = count > 4 ? atoi(arguments[4]) : 1;
    double initial[LENGTH] = {0};
    dk_layout layout = {.length = LENGTH, .stripe_length = STRIPE, .itemsize = 8, .slots = WORKERS, .states = 1};
    layout.undo = count > 2 && !strcmp(arguments[2], "stripe") ? DK_UNDO_STRIPE : DK_UNDO_BLOCK;
    OK(dk_center_create(segment_name("schedules"), &layout, initial, NULL, &center));
    shm_unlink(segment_name("schedules"));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_init(&shared->back, 1, 0), sem_init(&shared->go[0], 1, 0), sem_init(&shared->go[1], 1, 0);
    /* The first worker begins. That the second one does is the same in a mirror: it has the other stripe as its first. */
    with_changes((schedule){.changes = {NEVER, NEVER, NEVER}}, 0, changes, part, of);
    OK(dk_center_close(center));
    printf("%d changes: %d schedules, %d states, 0 faults\n", changes, (int)schedules, (int)states);
    return 0;
}
