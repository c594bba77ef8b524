/* test_lease.c: who changes leases is killed between any two stores of it, and who puts that right is killed, too. No batch is lost or
 * leased twice: a survivor gets all that the dead had not settled, each once. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "internal.h"

enum { BATCHES = 10, EPOCHS = 2, LENGTH = 256, SETTLED = 2, SECOND = 12 };

static int left = -1; /* points of the ledger that this process passes before it dies; -1: it does not */

void dk_fault(int point) {
    if (point == DK_POINT_LEDGER && left >= 0 && left-- == 0)
        kill(getpid(), SIGKILL);
}

/* Runs in a process of its own; 1 if it was killed. */
static int alone(void (*life)(dk_center *), dk_center *center, int points) {
    pid_t pid = fork();
    int status;
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        left = points;
        life(center);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "a child failed");
    return WIFSIGNALED(status);
}

static dk_tickets lease(dk_worker *worker, uint64_t most) {
    dk_tickets tickets;
    OK(dk_lease_take(worker, most, BATCHES * EPOCHS, &tickets));
    return tickets;
}

/* Holds seven batches in two ranges, settles two, and ends without a word. */
static void leave_five(dk_center *center) {
    static double w[LENGTH], p[LENGTH];
    dk_worker *worker;
    OK(dk_worker_claim(center, 0, &worker));
    CHECK(lease(worker, 4).count == 4 && lease(worker, 3).first == 4, "the first leases");
    dk_call call = downpour(worker, 8, p);
    call.settles = SETTLED;
    OK(dk_exchange(&call, 1, (void *[]){w}, &(uint64_t){LENGTH}));
}

static void lease_some(dk_center *center) {
    dk_worker *worker;
    OK(dk_worker_claim(center, 1, &worker));
    for (uint64_t most = 1; most <= 4; most += 3)
        lease(worker, most);
}

static dk_center *create(uint32_t slots) {
    static const double zeros[LENGTH];
    dk_center *center;
    dk_layout layout = {.length = LENGTH, .stripe_length = 64, .itemsize = 8, .slots = slots};
    OK(dk_center_create(segment_name("lease"), &layout, zeros, NULL, &center));
    OK(dk_lease_open(center, BATCHES));
    return center;
}

static void expect_all_once(dk_center *center, int first, int second) {
    int times[BATCHES * EPOCHS] = {0};
    dk_worker *worker;
    dk_leases leases;
    OK(dk_worker_claim(center, 2, &worker));
    for (dk_tickets got; (got = lease(worker, 3)).count;) {
        for (uint64_t i = got.first; i < got.first + got.count; i++)
            times[i]++;
        OK(dk_lease_look(center, &leases));
        CHECK(leases.held + leases.waiting + SETTLED <= leases.next, "%llu held", (unsigned long long)leases.held);
        if (leases.held > 20) /* it holds as many ranges as it may */
            break;
        static double w[LENGTH], p[LENGTH];
        dk_call call = downpour(worker, 8, p);
        call.settles = got.count;
        OK(dk_exchange(&call, 1, (void *[]){w}, &(uint64_t){LENGTH}));
    }
    for (int i = 0; i < BATCHES * EPOCHS; i++)
        CHECK(times[i] == (i >= SETTLED), "batch %d was leased %d times; killed after %d and %d points", i, times[i], first, second);
    OK(dk_lease_look(center, &leases));
    CHECK(leases.next == BATCHES * EPOCHS && !leases.held && !leases.waiting && !leases.doubtful, "not all is settled");
    dk_worker_free(worker);
}

static void nothing_is_lost_or_doubled_whenever_somebody_dies(void) {
    for (int first = 0, killed = 1; killed; first++)
        for (int second = 0, again = 1; again && second < SECOND; second++) {
            dk_center *center = create(4);
            alone(leave_five, center, -1);
            killed = alone(lease_some, center, first);
            again = killed && alone(lease_some, center, second);
            expect_all_once(center, first, second);
            dk_center_free(center);
        }
}

static void what_waits_is_leased_first_and_oldest_first(uint32_t slots) {
    dk_center *center = create(slots);
    dk_worker *worker;
    alone(leave_five, center, -1);
    OK(dk_worker_claim(center, 0, &worker));
    dk_tickets got = lease(worker, 9);
    CHECK(got.first == SETTLED && got.count == 5, "%llu and %llu more", (unsigned long long)got.first, (unsigned long long)got.count);
    got = lease(worker, 9);
    CHECK(got.first == 7 && got.count == 3, "a lease goes beyond its epoch: %llu", (unsigned long long)got.count);
    dk_worker_free(worker);
    dk_center_free(center);
}

static void wrong_numbers_are_refused(void) {
    static double w[LENGTH], p[LENGTH];
    dk_center *center = create(4);
    dk_worker *worker;
    OK(dk_worker_claim(center, 0, &worker));
    REFUSED(DK_INVALID, "Expected 10 batches an epoch", dk_lease_open(center, 11));
    dk_call call = downpour(worker, 8, p);
    call.settles = 1;
    REFUSED(DK_INVALID, "that this worker holds, 0. Received: 1", dk_exchange(&call, 1, (void *[]){w}, &(uint64_t){LENGTH}));
    lease(worker, 4);
    REFUSED(DK_INVALID, "after ticket 4 was leased", dk_lease_restore(center, BATCHES, 5, NULL, 0));
    dk_worker_free(worker);
    dk_center_free(center);
}

static void a_job_goes_on_where_it_was(void) {
    dk_center *center = create(4);
    dk_worker *worker;
    dk_leases leases;
    dk_tickets waiting[] = {{1, 5}, {8, 1}}, seen[4];
    uint64_t count;
    OK(dk_lease_restore(center, BATCHES, 12, waiting, 2));
    OK(dk_worker_claim(center, 0, &worker));
    OK(dk_lease_resume(worker, 3, 2)); /* with something before it, and behind */
    REFUSED(DK_NOT_FOUND, "2 batches from ticket 4 on do not wait", dk_lease_resume(worker, 4, 2));
    CHECK(lease(worker, 9).count == 2 && lease(worker, 9).first == 5 && lease(worker, 9).first == 8, "the order of what waited");
    CHECK(lease(worker, 2).first == 12, "what comes next");
    OK(dk_lease_unsettled(center, seen, 4, &count, &leases));
    CHECK(count == 4 + 1 && leases.next == 14 && leases.held == 2 + 2 + 1 + 1 + 2, "%llu ranges", (unsigned long long)count);
    dk_worker_free(worker);
    dk_center_free(center);
}

int main(void) {
    what_waits_is_leased_first_and_oldest_first(4);
    what_waits_is_leased_first_and_oldest_first(1); /* in the slot of who died */
    wrong_numbers_are_refused();
    a_job_goes_on_where_it_was();
    nothing_is_lost_or_doubled_whenever_somebody_dies();
    return 0;
}
