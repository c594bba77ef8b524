/* test_close.c: a center is closed while threads are within calls on it, and while others come: each is through, or is refused.
 *
 * ThreadSanitizer and AddressSanitizer see what is read after it was unmapped or freed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"

enum { LENGTH = 4096, ROUNDS = 60 };

static dk_center *center;
static pthread_barrier_t start;
static const char *name;

/* Whether the call was refused, as one on a closed center is; any other failure ends the test. */
static int refused(dk_status status) {
    CHECK(status == DK_OK || status == DK_INVALID || status == DK_TIMEOUT, "%d: %s", (int)status, dk_error());
    return status == DK_INVALID;
}

static void *look(void *unused) {
    float seen[LENGTH];
    uint64_t versions[LENGTH];
    dk_counts counts;
    dk_slot_view view;
    dk_pulse pulse;
    pthread_barrier_wait(&start);
    while (!refused(dk_center_snapshot(center, 0, seen, 30)) && !refused(dk_center_versions(center, versions)) &&
           !refused(dk_center_counts(center, &counts)) && !refused(dk_center_slot(center, 0, &view)) &&
           !refused(dk_center_pulse(center, &pulse)) && dk_center_vector(center, 0))
        CHECK(counts.deaths == 0, "%u deaths", counts.deaths);
    return unused;
}

static void *work(void *unused) {
    float w[LENGTH] = {0}, p[LENGTH] = {0};
    uint64_t length = LENGTH;
    void *address = w;
    pthread_barrier_wait(&start);
    for (int end = 0; !end;) {
        dk_worker *worker;
        if (refused(dk_worker_claim(center, -1, &worker)))
            break;
        dk_call call = downpour(worker, 4, p);
        for (int i = 0; i < 50 && !end; i++)
            end = refused(dk_exchange(&call, 1, &address, &length)) || refused(dk_worker_report(worker, 1, 1, 1, 1, 0.5));
        OK(dk_worker_release(worker));
        REFUSED(DK_INVALID, "Expected a live worker", dk_exchange(&call, 1, &address, &length));
        dk_worker_free(worker);
    }
    return unused;
}

static void *merge(void *unused) {
    float outside[LENGTH] = {0};
    dk_pass pass = {.kernel = dk_kernel_find("merge_put_back", "float32", NULL), .vectors = 2, .role = {DK_CENTER, DK_OUTSIDE}};
    pass.outside[1] = outside;
    pass.end = dk_center_stripes(center);
    pass.timeout_s = 30;
    pthread_barrier_wait(&start);
    while (!refused(dk_center_pass(center, &pass)))
        continue;
    return unused;
}

/* Nobody opens the gate: only the close ends this wait. */
static void *meet(void *unused) {
    uint32_t ticket;
    pthread_barrier_wait(&start);
    if (!refused(dk_gate_arrive(center, DK_GATE_ROUND, &ticket)))
        CHECK(refused(dk_gate_wait(center, DK_GATE_ROUND, ticket, 1e6)), "the gate was opened");
    return unused;
}

static void *end(void *unused) {
    pthread_barrier_wait(&start);
    usleep(2000);
    OK(dk_center_close(center));
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "the close returned before the segment was gone");
    return unused;
}

static void one_round(void) {
    static void *(*const parts[])(void *) = {look, work, work, merge, meet, end, end};
    enum { PARTS = sizeof parts / sizeof parts[0] };
    static float zeros[LENGTH];
    dk_layout layout = {.length = LENGTH, .stripe_length = 64, .itemsize = 4, .slots = 8}, same;
    OK(dk_center_create(name, &layout, zeros, "a note", &center));
    pthread_barrier_init(&start, NULL, PARTS);
    pthread_t threads[PARTS];
    for (int i = 0; i < PARTS; i++)
        CHECK(!pthread_create(&threads[i], NULL, parts[i], NULL), "thread %d", i);
    for (int i = 0; i < PARTS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
    REFUSED(DK_INVALID, "Expected an open center", dk_center_check(center));
    OK(dk_center_layout(center, &same)); /* what it was can still be read */
    CHECK(same.length == LENGTH && !strcmp(dk_center_note(center), "a note"), "%s", dk_center_note(center));
    OK(dk_center_close(center));
    dk_center_free(center);
}

static int closes(void) {
    OK(dk_center_close(center)); /* within the wait below: it must not wait for that */
    CHECK(shm_open(name, O_RDONLY, 0) >= 0, "unmapped under the wait");
    return 0;
}

static void a_listener_closes(void) {
    static float zeros[LENGTH];
    uint32_t ticket;
    dk_layout layout = {.length = LENGTH, .stripe_length = 64, .itemsize = 4, .slots = 8};
    OK(dk_center_create(name, &layout, zeros, NULL, &center));
    dk_listen(closes);
    OK(dk_gate_arrive(center, DK_GATE_ROUND, &ticket));
    REFUSED(DK_INVALID, "closed during the call", dk_gate_wait(center, DK_GATE_ROUND, ticket, 1e6));
    dk_listen(NULL);
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "the last call did not let go");
    dk_center_free(center);
}

static int interrupts(void) { return 1; }

static void a_listener_interrupts(void) {
    static float zeros[LENGTH];
    uint32_t ticket;
    dk_gate_view view;
    dk_center *other;
    dk_layout layout = {.length = LENGTH, .stripe_length = 64, .itemsize = 4, .slots = 8};
    OK(dk_center_create(name, &layout, zeros, NULL, &center));
    dk_listen(interrupts);
    OK(dk_gate_arrive(center, DK_GATE_ROUND, &ticket));
    OK(dk_gate_members(center, DK_GATE_ROUND, 2, 1));
    REFUSED(DK_INTERRUPTED, "a signal", dk_gate_wait(center, DK_GATE_ROUND, ticket, 1e6));
    REFUSED(DK_INTERRUPTED, "a signal", dk_gate_await(center, DK_GATE_ROUND, 1e6, &view));
    REFUSED(DK_INTERRUPTED, "a signal", dk_center_attach("dkcore-never", NULL, 1e6, &other));
    dk_listen(NULL);
    OK(dk_center_close(center));
    dk_center_free(center);
}

/* The child has copies of the descriptors: neither the worker nor the segment is its own. */
static void a_fork_gives_up(void) {
    static float zeros[LENGTH];
    dk_worker *worker;
    dk_counts counts;
    dk_layout layout = {.length = LENGTH, .stripe_length = 64, .itemsize = 4, .slots = 8};
    OK(dk_center_create(name, &layout, zeros, NULL, &center));
    OK(dk_worker_claim(center, 0, &worker));
    int pipes[2];
    CHECK(!pipe(pipes), "pipe");
    pid_t child = fork();
    if (child == 0) {
        char byte;
        dk_worker *own;
        REFUSED(DK_INVALID, "Received: its parent's", dk_worker_check(worker, 0));
        OK(dk_worker_claim(center, 1, &own));
        OK(dk_worker_release(own));
        dk_worker_free(own);
        CHECK(read(pipes[0], &byte, 1) == 1, "read"); /* it lives on while the parent looks */
        dk_worker_free(worker);
        dk_center_free(center);
        _exit(0);
    }
    OK(dk_worker_release(worker));
    OK(dk_worker_claim(center, 0, &worker));
    OK(dk_center_counts(center, &counts));
    CHECK(counts.live >= 1 && counts.deaths == 0, "%u live, %u deaths", counts.live, counts.deaths);
    int status;
    CHECK(write(pipes[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && status == 0, "the child failed");
    OK(dk_center_counts(center, &counts));
    CHECK(counts.live == 1 && counts.deaths == 0, "%u live, %u deaths", counts.live, counts.deaths);
    close(pipes[0]);
    close(pipes[1]);
    dk_center_free(center);
    REFUSED(DK_INVALID, "Expected a live worker", dk_worker_check(worker, 1));
    dk_worker_free(worker); /* after the center */
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "a segment was left behind");
}

int main(void) {
    name = segment_name("close");
    for (int i = 0; i < ROUNDS; i++)
        one_round();
    a_listener_closes();
    a_listener_interrupts();
    a_fork_gives_up();
    return 0;
}
