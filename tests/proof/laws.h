/* laws.h: a tiny center, what is done to it, and the laws that hold however far that came. */
#ifndef DKCORE_LAWS_H
#define DKCORE_LAWS_H

#include "check.h"
#include "internal.h"
#include "undo.h"

enum { STRIPES = 2, STRIPE = 64, LENGTH = STRIPES * STRIPE, VECTORS = 3, PIECES = 3, STATISTICS = 40, PASS_COUNTS = 3 };
static const uint64_t lengths[PIECES] = {40, 60, 28}; /* the worker's segments cut blocks and stripes */

enum { BATCHES = 1 << 20, LEASES = 2, LEASED = 3, SETTLES = 2, TICKETS = 64 }; /* a worker leases 3 batches twice, and settles 2 */

typedef enum act { EXCHANGE, ROUND, PASS, RESTORE } act;
/* Who comes by after a death: one who looks at all stripes; one who looks at the leases, or at the slot; or a worker that claims the dead
 * one's slot, and exchanges. */
typedef enum survivor { LOOKER, LESSOR, MONITOR, NEWCOMER } survivor;

typedef struct scenario {
    const char *name, *rule;
    uint32_t itemsize, states, undo;
    act act;
    int finite; /* the worker is looked at */
    survivor survivor;
} scenario;

typedef union numbers {
    float narrow[LENGTH];
    double wide[LENGTH];
    char bytes[LENGTH * sizeof(double)];
} numbers;

/* Of the act under way: the vectors of the segment, and the worker's. */
typedef struct world {
    const scenario *scenario;
    dk_center *center;
    uint64_t number; /* of acts before this one: no two bring the same numbers */
    numbers before[VECTORS], after[VECTORS], w, p;
    uint64_t versions[STRIPES];
    dk_counts counts;
    dk_leases leases;
    uint64_t unsettled[TICKETS]; /* leases.held + leases.waiting tickets, in order: a worker gets them so, and then those from next on */
} world;

/* A rule of several states: all of them change, whatever they were. */
#define SEVERAL(NAME, REAL)                                                                       \
    static void NAME(size_t n, void *const *vectors, const double *scalars) {                     \
        REAL *c = vectors[0], *w = vectors[1], *p = vectors[2], *v = vectors[3], *b = vectors[4]; \
        (void)scalars;                                                                            \
        for (size_t i = 0; i < n; i++) {                                                          \
            REAL d = w[i] - p[i];                                                                 \
            v[i] = d - v[i], b[i] += d, c[i] += d + v[i] / 4;                                     \
            w[i] = p[i] = c[i];                                                                   \
        }                                                                                         \
    }
SEVERAL(several32, float)
SEVERAL(several64, double)

static inline dk_kernel kernel_of(const char *rule, uint32_t itemsize) {
    if (!strcmp(rule, "several"))
        return itemsize == 8 ? several64 : several32;
    dk_kernel kernel = dk_kernel_find(rule, itemsize == 8 ? "float64" : "float32", NULL);
    CHECK(kernel, "no %s", rule);
    return kernel;
}

static inline void put(numbers *to, uint32_t itemsize, int i, double number) {
    if (itemsize == 8)
        to->wide[i] = number;
    else
        to->narrow[i] = (float)number;
}

static inline double get(const numbers *from, uint32_t itemsize, int i) { return itemsize == 8 ? from->wide[i] : from->narrow[i]; }

/* What is new of this act: progress of the worker, or what a merge or a restore brings. */
static inline double fresh(const world *world, int i) { return 1 + i % 7 + (double)world->number; }

static inline void add_fresh(const world *world, numbers *to) {
    for (int i = 0; i < LENGTH; i++)
        put(to, world->scenario->itemsize, i, get(to, world->scenario->itemsize, i) + fresh(world, i));
}

static inline dk_call call_of(const world *world, dk_worker *worker, void *p) {
    const scenario *s = world->scenario;
    dk_call call = downpour(worker, s->itemsize, p);
    call.kernel = kernel_of(s->rule, s->itemsize), call.timeout_s = 5;
    if (s->finite)
        call.looking = dk_looking_find(s->rule, s->itemsize == 8 ? "float64" : "float32", NULL);
    call.scalars[0] = call.scalars[1] = 0.5; /* lr and epsilon, of rules that have them */
    if (s->act == ROUND) {                   /* c, w, m */
        call.role[2] = DK_STATE, call.only_read = call.hands_in = 1, call.previous = NULL;
        call.statistic = (dk_statistic){.length = STATISTICS, .in_rounds = 1};
        call.statistic.kernel = kernel_of("statistic_handed", s->itemsize);
        return call;
    }
    for (uint32_t k = 0; k < s->states; k++)
        call.role[call.vectors++] = (int32_t)(DK_STATE + k);
    return call;
}

/* What the act makes of the vectors, by the kernels alone. */
static inline void foretell(world *world) {
    const scenario *s = world->scenario;
    memcpy(world->after, world->before, sizeof world->after);
    numbers w = world->before[0], p = w;
    add_fresh(world, &w);
    dk_call call = call_of(world, NULL, NULL);
    char *at[VECTORS] = {world->after[0].bytes, world->after[1].bytes, world->after[2].bytes};
    if (s->act == PASS) {
        numbers r = {0};
        add_fresh(world, &r);
        kernel_of("merge_put_back", s->itemsize)(LENGTH, (void *[]){at[0], &r}, call.scalars);
    } else if (s->act == RESTORE) {
        world->after[0] = w;
    } else if (s->act == ROUND) {
        uint64_t split = (LENGTH - STATISTICS) * s->itemsize;
        call.kernel(LENGTH - STATISTICS, (void *[]){at[0], &w, at[1]}, call.scalars);
        call.statistic.kernel(STATISTICS, (void *[]){at[1] + split, w.bytes + split}, (double[]){1});
    } else {
        call.kernel(LENGTH, (void *[]){at[0], &w, &p, at[1], at[2]}, call.scalars);
    }
}

/* Where a worker stands after so many exchanges. */
static inline dk_place place_after(uint64_t n) { return (dk_place){n, 3 * n + 1, 5 * n + 2, 7 * n + 3}; }

static inline int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* All that is not settled, in order; how many. */
static inline uint64_t unsettled(const world *world, uint64_t *tickets, dk_leases *leases) {
    dk_tickets ranges[TICKETS];
    uint64_t count, all = 0;
    OK(dk_lease_unsettled(world->center, ranges, TICKETS, &count, leases));
    for (uint64_t k = 0; k < count; k++)
        for (uint64_t i = 0; i < ranges[k].count && all < TICKETS; i++)
            tickets[all++] = ranges[k].first + i;
    qsort(tickets, all, sizeof *tickets, by_number);
    CHECK(all == leases->held + leases->waiting, "%d tickets, and more", (int)all);
    return all;
}

static inline void look(world *world) {
    for (uint32_t k = 0; k <= world->scenario->states; k++)
        memcpy(&world->before[k], dk_vector(world->center, k), LENGTH * world->scenario->itemsize);
    OK(dk_center_versions(world->center, world->versions));
    OK(dk_center_counts(world->center, &world->counts));
    for (int s = 0; s < STRIPES; s++)
        world->center->stripes[s].arrivals = 0; /* a new round */
    unsettled(world, world->unsettled, &world->leases);
    foretell(world);
}

#endif
