/* test_merge.c: the two halves of a merge between two centers of one process, while workers go on adding ones to both.
 *
 * The sum is kept whatever happens in between, and after a last merge, when nobody works, both centers hold all of it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"

enum { LENGTH = 500, STRIPE = 64, STRIPES = 8, NODES = 2, WORKERS = 2, EXCHANGES = 400 };

static dk_center *centers[NODES];
static _Atomic int working = NODES * WORKERS;

static void *work(void *node) {
    dk_worker *worker;
    OK(dk_worker_claim(centers[(intptr_t)node], -1, &worker));
    float w[LENGTH], p[LENGTH];
    uint64_t length = LENGTH;
    void *address = w;
    dk_call call = downpour(worker, 4, p);
    OK(dk_pull(&call, 1, &address, &length));
    for (int k = 0; k < EXCHANGES; k++) {
        for (int i = 0; i < LENGTH; i++)
            w[i] += 1;
        OK(dk_exchange(&call, 1, &address, &length));
    }
    OK(dk_worker_release(worker));
    atomic_fetch_sub(&working, 1);
    return NULL;
}

/* What the leader of a node keeps: agreed, and versions that all agreed on. */
typedef struct leader {
    float agreed[LENGTH], given[LENGTH];
    uint64_t counted[STRIPES], counts[STRIPES];
} leader;

static dk_pass pass_of(const char *name, int vectors, uint64_t first, uint64_t end) {
    dk_pass pass = {.kernel = dk_kernel_find(name, "float32", NULL), .vectors = vectors, .role = {DK_CENTER}, .timeout_s = 30};
    CHECK(pass.kernel, "no %s", name);
    for (int v = 1; v < vectors; v++)
        pass.role[v] = DK_OUTSIDE;
    pass.first = first, pass.end = end;
    return pass;
}

/* Stripes first ... end - 1, as a chunk of a round. */
static void merge(leader *leaders, uint64_t first, uint64_t end, int last) {
    float total[LENGTH] = {0};
    uint64_t at = first * STRIPE, to = end * STRIPE < LENGTH ? end * STRIPE : LENGTH, all[STRIPES] = {0}, raised[STRIPES];
    for (int node = 0; node < NODES; node++) {
        leader *mine = &leaders[node];
        dk_pass pass = pass_of("merge_difference", 3, first, end);
        pass.outside[1] = mine->agreed + at, pass.outside[2] = mine->given + at;
        pass.versions = mine->counts + first;
        OK(dk_center_pass(centers[node], &pass));
        for (uint64_t i = at; i < to; i++)
            total[i] += mine->given[i];
        for (uint64_t s = first; s < end; s++)
            all[s] += mine->counts[s] -= mine->counted[s];
    }
    for (int node = 0; node < NODES; node++) {
        leader *mine = &leaders[node];
        dk_pass pass = pass_of(last ? "merge_agree" : "merge_absorb", last ? 3 : 4, first, end);
        pass.outside[1] = mine->agreed + at, pass.outside[2] = last ? total + at : mine->given + at, pass.outside[3] = total + at;
        for (uint64_t s = first; s < end; s++) {
            mine->counted[s] += all[s];
            raised[s] = all[s] - mine->counts[s];
        }
        pass.raise = raised + first;
        OK(dk_center_pass(centers[node], &pass));
    }
}

static void a_pass_stays_within_the_center(void) {
    dk_pass pass = pass_of("merge_difference", 3, 0, STRIPES + 1);
    REFUSED(DK_INVALID, "stripes 0 to 9 of 8", dk_center_pass(centers[0], &pass));
    pass.first = 3, pass.end = 2;
    REFUSED(DK_INVALID, "stripes 3 to 2 of 8", dk_center_pass(centers[0], &pass));
    float agreed[LENGTH] = {0}, seen[LENGTH] = {0};
    pass.first = 0, pass.end = 2, pass.begin = 3, pass.until = STRIPE + 2; /* and within what it is told of its stripes */
    pass.outside[1] = agreed, pass.outside[2] = seen;
    for (int i = 0; i < LENGTH; i++)
        agreed[i] = -1;
    OK(dk_center_pass(centers[0], &pass));
    for (int i = 0; i < LENGTH; i++)
        CHECK(seen[i] == (i < STRIPE - 1), "element %d is %g", i, seen[i]);
    pass.first = 0, pass.end = 1, pass.role[1] = DK_STATE;
    REFUSED(DK_INVALID, "more state vectors", dk_center_pass(centers[0], &pass));
    pass.role[1] = DK_WORKER;
    REFUSED(DK_INVALID, "vector 1 of the formula has the role 1", dk_center_pass(centers[0], &pass));
}

int main(void) {
    static leader leaders[NODES];
    float zeros[LENGTH] = {0}, seen[LENGTH];
    uint64_t versions[STRIPES];
    pthread_t threads[NODES * WORKERS];
    dk_layout layout = {.length = LENGTH, .stripe_length = STRIPE, .itemsize = 4, .slots = WORKERS};
    for (int node = 0; node < NODES; node++) {
        char name[80];
        snprintf(name, sizeof name, "%s-%d", segment_name("merge"), node);
        OK(dk_center_create(name, &layout, zeros, NULL, &centers[node]));
    }
    a_pass_stays_within_the_center();
    for (intptr_t k = 0; k < NODES * WORKERS; k++)
        CHECK(!pthread_create(&threads[k], NULL, work, (void *)(k % NODES)), "thread");
    for (uint64_t k = 0; atomic_load(&working); k++)
        merge(leaders, k % STRIPES, k % STRIPES + 1 + k % (STRIPES - k % STRIPES), 0); /* chunks of all lengths */
    for (int k = 0; k < NODES * WORKERS; k++)
        pthread_join(threads[k], NULL);
    merge(leaders, 0, STRIPES, 1);
    for (int node = 0; node < NODES; node++) {
        OK(dk_center_snapshot(centers[node], 0, seen, 1));
        OK(dk_center_versions(centers[node], versions));
        for (int i = 0; i < LENGTH; i++)
            CHECK(seen[i] == NODES * WORKERS * EXCHANGES, "element %d of node %d is %g", i, node, seen[i]);
        for (int s = 0; s < STRIPES; s++)
            CHECK(versions[s] == NODES * WORKERS * EXCHANGES, "version %d of node %d is %d", s, node, (int)versions[s]);
        OK(dk_center_close(centers[node]));
    }
    return 0;
}
