/* test_engine.c: the laws of the engine, stated in C. What needs other processes is in test_kill.c and in the Python tests. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>

#include "check.h"

enum { LENGTH = 1000, STRIPE = 64, STRIPES = 16, SLOTS = 3 };

static dk_center *create(uint32_t states) {
    double initial[LENGTH];
    for (int i = 0; i < LENGTH; i++)
        initial[i] = i;
    dk_layout layout = {.length = LENGTH, .stripe_length = STRIPE, .digest = 7, .itemsize = 8, .states = states, .slots = SLOTS};
    dk_center *center;
    OK(dk_center_create(segment_name("engine"), &layout, initial, "a note", &center));
    return center;
}

/* One pass over weights that lie in many segments, empty ones and ones across stripes among them. The second of two
 * workers begins in the middle of the center, and so comes past the end of its segments. */
static void segments_are_one_vector(int second) {
    dk_center *center = create(0);
    dk_worker *worker, *first = NULL;
    if (second)
        OK(dk_worker_claim(center, 4, &first));
    OK(dk_worker_claim(center, 5, &worker));
    double w[LENGTH], p[LENGTH], c[LENGTH];
    uint64_t lengths[] = {0, 1, 63, 0, 200, 736, 0};
    void *addresses[7] = {w, w, w + 1, w + 64, w + 64, w + 264, w + LENGTH};
    dk_call call = downpour(worker, 8, p);
    OK(dk_pull(&call, 7, addresses, lengths));
    for (int i = 0; i < LENGTH; i++) {
        CHECK(w[i] == i && p[i] == i, "pull of element %d: %g", i, w[i]);
        w[i] += 2 * i;
    }
    OK(dk_exchange(&call, 7, addresses, lengths));
    OK(dk_center_snapshot(center, 0, c, 1));
    for (int i = 0; i < LENGTH; i++)
        CHECK(c[i] == 3 * i && w[i] == c[i] && p[i] == c[i], "element %d: %g %g %g", i, c[i], w[i], p[i]);
    REFUSED(DK_INVALID, "weights of 264 elements for a center of 1000", dk_exchange(&call, 5, addresses, lengths));
    OK(dk_worker_release(worker));
    if (second)
        OK(dk_worker_release(first));
    OK(dk_center_close(center));
}

/* The last elements are averaged, and no rule touches them: beside each other in a stripe, a segment and a block. */
static void statistics_are_averaged(int in_rounds) {
    dk_center *center = create(1);
    dk_worker *workers[2];
    dk_call calls[2];
    enum { STATISTICS = 900, SPLIT = LENGTH - STATISTICS };
    static double w[2][LENGTH], p[2][LENGTH], held[2][STATISTICS], c[LENGTH];
    uint64_t lengths[] = {30, LENGTH - 30};
    for (int k = 0; k < 2; k++) {
        void *addresses[] = {w[k], w[k] + 30};
        OK(dk_worker_claim(center, k, &workers[k]));
        calls[k] = downpour(workers[k], 8, p[k]);
        calls[k].statistic = (dk_statistic){.length = STATISTICS, .in_rounds = in_rounds, .held = k ? held[k] : NULL};
        calls[k].statistic.kernel = dk_kernel_find(in_rounds ? "statistic_handed" : "statistic", "float64", NULL);
        calls[k].hands_in = in_rounds;
        calls[k].looking = k ? dk_looking_find("downpour", "float64", NULL) : NULL;
        calls[k].statistic.looking = dk_looking_find(in_rounds ? "statistic_handed" : "statistic", "float64", NULL);
        OK(dk_pull(&calls[k], 2, addresses, lengths));
        CHECK(!k || held[k][0] == SPLIT, "held is %g", held[k][0]);
    }
    for (int k = 0; k < 2; k++) {
        void *addresses[] = {w[k], w[k] + 30};
        for (int i = 0; i < LENGTH; i++)
            w[k][i] += k + 1;
        OK(dk_exchange(&calls[k], 2, addresses, lengths));
    }
    OK(dk_center_snapshot(center, in_rounds ? 1 : 0, c, 1));
    for (int i = SPLIT; i < LENGTH; i++)
        CHECK(c[i] == i + 1.5, "statistic %d: %g", i, c[i]);
    OK(dk_center_snapshot(center, 0, c, 1));
    for (int i = 0; i < SPLIT; i++)
        CHECK(c[i] == i + 3, "element %d: %g", i, c[i]);
    CHECK(in_rounds || (w[1][LENGTH - 1] == LENGTH + 0.5 && held[1][STATISTICS - 1] == LENGTH + 0.5), "worker %g", w[1][LENGTH - 1]);
    CHECK(!in_rounds || w[1][LENGTH - 1] == LENGTH + 1, "who hands in keeps his own: %g", w[1][LENGTH - 1]);
    calls[0].previous = calls[0].statistic.held = NULL, calls[0].vectors = 2;
    void *address = w[0];
    uint64_t length = LENGTH;
    if (!in_rounds)
        REFUSED(DK_INVALID, "no memory for what was held", dk_exchange(&calls[0], 1, &address, &length));
    for (int k = 0; k < 2; k++)
        OK(dk_worker_release(workers[k]));
    OK(dk_center_close(center));
}

/* Staleness is what others committed meanwhile, stripe by stripe. */
static void staleness_is_counted(void) {
    dk_center *center = create(0);
    dk_worker *workers[2];
    dk_call calls[2];
    double w[2][LENGTH], p[2][LENGTH];
    uint64_t length = LENGTH;
    void *address[2] = {w[0], w[1]};
    for (int i = 0; i < 2; i++) {
        OK(dk_worker_claim(center, i, &workers[i]));
        calls[i] = downpour(workers[i], 8, p[i]);
        OK(dk_pull(&calls[i], 1, &address[i], &length));
    }
    for (int i = 0; i < 3; i++)
        OK(dk_exchange(&calls[0], 1, &address[0], &length));
    OK(dk_exchange(&calls[1], 1, &address[1], &length));
    dk_slot_view view;
    OK(dk_center_slot(center, dk_worker_slot(workers[1]), &view));
    CHECK(calls[1].staleness == 3 && view.staleness_sum == 3, "staleness %g", calls[1].staleness);
    CHECK(view.histogram[3] == STRIPES && view.exchanges == 1 && view.rank == 1, "%llu", (unsigned long long)view.histogram[3]);
    for (int i = 0; i < 2; i++)
        OK(dk_worker_release(workers[i]));
    OK(dk_center_close(center));
}

static void slots_run_out_and_come_back(void) {
    dk_center *center = create(0);
    dk_worker *workers[SLOTS], *more;
    dk_counts counts;
    dk_slot_view view;
    for (int i = 0; i < SLOTS; i++)
        OK(dk_worker_claim(center, i, &workers[i]));
    REFUSED(DK_FULL, "all 3 slots", dk_worker_claim(center, 9, &more));
    OK(dk_worker_release(workers[1]));
    OK(dk_center_slot(center, 1, &view));
    CHECK(view.state == DK_SLOT_DONE, "state %u", view.state);
    OK(dk_worker_claim(center, 9, &workers[1]));
    CHECK(dk_worker_slot(workers[1]) == 1, "slot %u", dk_worker_slot(workers[1]));
    for (int i = 0; i < SLOTS; i++)
        OK(dk_worker_release(workers[i]));
    OK(dk_center_counts(center, &counts));
    CHECK(counts.live == 0 && counts.deaths == 0, "live %u, deaths %u", counts.live, counts.deaths);
    REFUSED(DK_INVALID, "slot 3 of 3", dk_center_slot(center, SLOTS, &view));
    OK(dk_center_close(center));
}

static void bad_layouts_are_refused(void) {
    const char *name = segment_name("engine");
    dk_center *center = create(1), *other;
    double zeros[LENGTH] = {0};
    dk_layout wrong[] = {{.length = LENGTH + 1}, {.itemsize = 4}, {.digest = 8}};
    for (int i = 0; i < 3; i++)
        REFUSED(DK_LAYOUT, "has 1000 elements of 8 bytes", dk_center_attach(name, &wrong[i], 0, &other));
    dk_layout impossible[] = {
        {.length = 0, .stripe_length = 64, .itemsize = 8, .slots = 1},
        {.length = 9, .stripe_length = 64, .itemsize = 2, .slots = 1},
        {.length = 9, .stripe_length = 64, .itemsize = 8, .slots = 0},
        {.length = 9, .stripe_length = 64, .itemsize = 8, .slots = 1, .states = 6},
        {.length = 9, .stripe_length = 65, .itemsize = 8, .slots = 1},
    };
    for (int i = 0; i < 5; i++)
        REFUSED(DK_INVALID, "", dk_center_create("dkcore-never", &impossible[i], zeros, NULL, &other));
    dk_layout same;
    OK(dk_center_layout(center, &same));
    REFUSED(DK_EXISTS, name, dk_center_create(name, &same, zeros, NULL, &other));
    REFUSED(DK_INVALID, "vector 2 of a center with 1 states", dk_center_snapshot(center, 2, zeros, 1));
    REFUSED(DK_NOT_FOUND, "dkcore-never", dk_center_attach("dkcore-never", NULL, 0.01, &other));
    OK(dk_center_close(center));
}

int main(void) {
    segments_are_one_vector(0);
    segments_are_one_vector(1);
    statistics_are_averaged(0);
    statistics_are_averaged(1);
    staleness_is_counted();
    slots_run_out_and_come_back();
    bad_layouts_are_refused();
    CHECK(shm_open(segment_name("engine"), O_RDONLY, 0) < 0, "a segment was left behind");
    return 0;
}
