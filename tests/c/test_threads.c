/* test_threads.c: threads instead of processes, each with a slot of its own, so that ThreadSanitizer sees all accesses.
 *
 * Workers add ones to a center of small stripes, while others look on and come and go. No addition may be lost. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "check.h"

enum { LENGTH = 500, WORKERS = 4, EXCHANGES = 400, CLAIMS = 100 };

static dk_center *center;
static _Atomic int working = WORKERS;

static void *work(void *rank) {
    dk_worker *worker;
    OK(dk_worker_claim(center, (intptr_t)rank, &worker));
    float w[LENGTH], p[LENGTH];
    uint64_t lengths[] = {100, 400};
    void *addresses[] = {w, w + 100};
    dk_call call = downpour(worker, 4, p);
    call.looking = dk_looking_find("downpour", "float32", NULL);
    OK(dk_pull(&call, 2, addresses, lengths));
    for (int k = 0; k < EXCHANGES; k++) {
        for (int i = 0; i < LENGTH; i++)
            w[i] += 1;
        OK(dk_exchange(&call, 2, addresses, lengths));
        OK(dk_worker_report(worker, k, 32 * k, 0, 32 * EXCHANGES, 1.0 / (k + 1)));
    }
    OK(dk_worker_release(worker));
    atomic_fetch_sub(&working, 1);
    return NULL;
}

/* A monitor: it must never see more or less than whole numbers, nor too many of them. */
static void *look(void *unused) {
    while (atomic_load(&working)) {
        float seen[LENGTH];
        uint64_t versions[LENGTH];
        dk_counts counts;
        dk_slot_view view;
        OK(dk_center_snapshot(center, 0, seen, 30));
        OK(dk_center_versions(center, versions));
        OK(dk_center_counts(center, &counts));
        OK(dk_center_slot(center, 0, &view));
        for (int i = 0; i < LENGTH; i++)
            CHECK(seen[i] == (int)seen[i] && seen[i] <= WORKERS * EXCHANGES, "element %d is %g", i, seen[i]);
        CHECK(counts.deaths == 0 && counts.recovered == 0, "%u deaths", counts.deaths);
    }
    return unused;
}

/* Workers that only join and leave: slots are claimed while others are claimed, looked at and left. */
static void *come_and_go(void *unused) {
    float w[LENGTH];
    uint64_t length = LENGTH;
    void *address = w;
    for (int k = 0; k < CLAIMS; k++) {
        dk_worker *worker;
        OK(dk_worker_claim(center, -1, &worker));
        dk_call call = downpour(worker, 4, NULL);
        OK(dk_pull(&call, 1, &address, &length));
        OK(dk_worker_release(worker));
    }
    return unused;
}

int main(void) {
    const char *name = segment_name("threads");
    float zeros[LENGTH] = {0}, seen[LENGTH];
    dk_layout layout = {.length = LENGTH, .stripe_length = 64, .itemsize = 4, .slots = WORKERS + 1};
    OK(dk_center_create(name, &layout, zeros, NULL, &center));
    pthread_t threads[WORKERS + 2];
    for (intptr_t i = 0; i < WORKERS; i++)
        CHECK(!pthread_create(&threads[i], NULL, work, (void *)i), "thread %d", (int)i);
    CHECK(!pthread_create(&threads[WORKERS], NULL, look, NULL), "monitor");
    CHECK(!pthread_create(&threads[WORKERS + 1], NULL, come_and_go, NULL), "passer-by");
    for (int i = 0; i < WORKERS + 2; i++)
        pthread_join(threads[i], NULL);
    OK(dk_center_snapshot(center, 0, seen, 1));
    for (int i = 0; i < LENGTH; i++)
        CHECK(seen[i] == WORKERS * EXCHANGES, "element %d is %g, of %d", i, seen[i], WORKERS * EXCHANGES);
    dk_counts counts;
    OK(dk_center_counts(center, &counts));
    CHECK(counts.live == 0 && counts.deaths == 0, "%u live, %u deaths", counts.live, counts.deaths);
    OK(dk_center_close(center));
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "a segment was left behind");
    return 0;
}
