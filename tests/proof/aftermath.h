/* aftermath.h: after a death, and when a survivor has been to all stripes: what must be true of the center. */
#ifndef DKCORE_AFTERMATH_H
#define DKCORE_AFTERMATH_H

#include "laws.h"

#define FUTEX_OWNER_DIED 0x40000000

/* What the dead left in each stripe, before anybody came; again: what the second left, who died of mending. */
typedef struct remains {
    int odd[STRIPES], orphaned[STRIPES], again[STRIPES];
} remains;

static inline remains examine(const world *world) {
    remains found = {0};
    for (int s = 0; s < STRIPES; s++) {
        const dk_stripe *stripe = &world->center->stripes[s];
        found.odd[s] = (int)(atomic_load(&stripe->version) % 2);
        found.orphaned[s] = (stripe->lock.__data.__lock & FUTEX_OWNER_DIED) != 0;
        CHECK(!found.odd[s] || found.orphaned[s], "stripe %d has the version %d, and nobody holds it", s,
              (int)atomic_load(&stripe->version));
    }
    return found;
}

/* Where the block of the stripe's element m ends. */
static inline int block_end(const world *world, int s, int m) {
    int end = STRIPE;
    if (world->scenario->undo == DK_UNDO_STRIPE)
        return end;
    for (int k = 0, piece = 0; k < PIECES && world->scenario->act <= ROUND; k++) {
        piece += (int)lengths[k];
        if (piece - s * STRIPE > m && piece - s * STRIPE < end)
            end = piece - s * STRIPE;
    }
    return m + DK_BLOCK < end ? m + DK_BLOCK : end;
}

/* Whether of this stripe the first m elements of all vectors are new, and the others old. */
static inline int split_at(const world *world, int s, int m) {
    size_t item = world->scenario->itemsize, begin = (size_t)s * STRIPE * item, cut = (size_t)m * item, all = STRIPE * item;
    for (uint32_t k = 0; k <= world->scenario->states; k++) {
        const char *now = dk_vector(world->center, k) + begin;
        if (memcmp(now, world->after[k].bytes + begin, cut) || memcmp(now + cut, world->before[k].bytes + begin + cut, all - cut))
            return 0;
    }
    return 1;
}

/* How many elements of a stripe are new; -1: not whole blocks from the first on. */
static inline int whole_blocks(const world *world, int s) {
    int m = 0;
    while (!split_at(world, s, m) && m < STRIPE)
        m = block_end(world, s, m);
    return split_at(world, s, m) ? m : -1;
}

/* Where nothing is undone: every element of every vector is the old or the new one. */
static inline void check_elements(const world *world, int s) {
    size_t item = world->scenario->itemsize;
    for (uint32_t k = 0; k <= world->scenario->states; k++)
        for (size_t at = (size_t)s * STRIPE * item; at < (size_t)(s + 1) * STRIPE * item; at += item) {
            const char *now = dk_vector(world->center, k) + at;
            CHECK(!memcmp(now, world->before[k].bytes + at, item) || !memcmp(now, world->after[k].bytes + at, item), "a torn element");
        }
}

static inline uint64_t commits_of(act act) { return act == PASS ? PASS_COUNTS : act == RESTORE ? 0 : 1; }

static inline void check_settled(const world *world) {
    const dk_center *center = world->center;
    for (int s = 0; s < STRIPES; s++)
        CHECK(!center->stripes[s].mending && center->stripes[s].lock.__data.__lock == 0, "stripe %d is not settled", s);
    for (uint32_t holder = 1; center->header->undo_block && holder <= center->header->layout.slots + DK_GUESTS; holder++)
        CHECK(!atomic_load(&dk_undo_of(center, holder)->stripe), "the area of holder %u is not settled", holder);
}

static inline void check_arrivals(const world *world, int s, int in) {
    uint32_t arrivals = world->center->stripes[s].arrivals;
    CHECK(arrivals == (in == STRIPE), "%u hand-ins where %d elements are in", arrivals, in);
}

/* extra: commits that a newcomer added. Returns the dead's elements that are in. */
static inline int check_stripe(const world *world, int s, uint64_t extra) {
    uint64_t version = atomic_load(&world->center->stripes[s].version), had = world->versions[s] + extra;
    uint64_t counts = commits_of(world->scenario->act);
    CHECK(version % 2 == 0, "stripe %d is left at the version %d", s, (int)version);
    if (world->scenario->undo == DK_UNDO_NONE) {
        check_elements(world, s);
        CHECK(version / 2 == had || version / 2 == had + counts, "stripe %d has %d commits", s, (int)version / 2);
        return 0;
    }
    int in = whole_blocks(world, s);
    CHECK(in >= 0, "stripe %d has other than whole blocks of a commit", s);
    CHECK(version / 2 == had + (in > 0) * counts, "stripe %d has %d commits, had %d, and %d elements are in", s, (int)version / 2, (int)had,
          in);
    if (world->scenario->act == ROUND)
        check_arrivals(world, s, in);
    return in;
}

/* Each commit is counted once, however many died of mending it. Those died with a lock, too: each of them may be one more. */
static inline void check_counts(const world *world, const remains *found, const int *in) {
    dk_counts counts, due = world->counts;
    uint64_t more = 0;
    OK(dk_center_counts(world->center, &counts));
    for (int s = 0; s < STRIPES; s++) {
        due.recovered += (uint64_t)(found->orphaned[s] || found->again[s]);
        more += (uint64_t)(found->orphaned[s] && found->again[s]);
        if (world->scenario->undo == DK_UNDO_NONE)
            continue;
        due.undone += in[s] == 0 && found->odd[s];
        due.kept += in[s] > 0 && in[s] < STRIPE;
        due.elements += in[s] < STRIPE ? (uint64_t)in[s] : 0;
    }
    CHECK(counts.undone == due.undone, "%d undone, of %d", (int)counts.undone, (int)due.undone);
    CHECK(counts.kept == due.kept, "%d kept, of %d", (int)counts.kept, (int)due.kept);
    CHECK(counts.elements == due.elements, "%d elements, of %d", (int)counts.elements, (int)due.elements);
    CHECK(counts.recovered >= due.recovered && counts.recovered <= due.recovered + more, "%d recovered, of %d", (int)counts.recovered,
          (int)due.recovered);
}

/* Returns how many elements of the dead's are in; in: OUT, of each stripe. */
static inline int check_aftermath(const world *world, const remains *found, uint64_t extra, int *in) {
    int sum = 0;
    check_settled(world);
    for (int s = 0; s < STRIPES; s++)
        sum += in[s] = check_stripe(world, s, extra);
    check_counts(world, found, in);
    return sum;
}

#endif
