/* ledger.h: where leases are written down, in the segment. lease.c has the design; inline is what an exchange does. */
#ifndef DKCORE_LEDGER_H
#define DKCORE_LEDGER_H

#include "internal.h"

#define DK_IN_LEDGER(word) ((uint64_t)((char *)(word) - (char *)center->header))
#ifndef DK_WAITING
#define DK_WAITING 256 /* ranges that may wait, beside those that slots may hold */
#endif
enum { DK_CHANGES = 8 }; /* words of one change at most */

/* A range of tickets in one word: first << 24 | count; 0: none. */
typedef struct dk_change {
    uint64_t at, value;
} dk_change;

typedef struct dk_ledger {
    _Alignas(DK_LINE) pthread_mutex_t lock;                     /* robust: over all that follows, and over each hold's ranges */
    _Atomic uint64_t batches, next, ranges, returned, doubtful; /* ranges: that wait */
    uint32_t planned, valid; /* changes that are written down; 1: they are to be carried out, whoever does it */
    dk_change changes[DK_CHANGES];
} dk_ledger;

/* Of one slot. Batches of a slot are counted in the order in which they were leased, over all its owners. */
typedef struct dk_hold {
    _Alignas(DK_LINE) _Atomic uint64_t settled; /* so many. These three are its owner's; once it is gone, of who has the ledger's lock */
    _Atomic uint64_t until;                     /* so many once the exchange under way is through; not more than settled: none is */
    _Atomic uint64_t failed;                    /* 1: some stripes have an exchange of these that failed, and is tried again */
    _Atomic uint64_t leased;                    /* so many. This one and what follows: under the ledger's lock */
    struct {
        _Atomic uint64_t begin, range; /* how many were leased before it */
    } ranges[DK_HELD];
} dk_hold;

static inline dk_ledger *dk_ledger_of(const dk_center *center) { return (dk_ledger *)((char *)center->header + center->header->ledger_at); }

static inline dk_hold *dk_hold_of(const dk_center *center, uint32_t slot) { return (dk_hold *)(dk_ledger_of(center) + 1) + slot; }

static inline uint64_t dk_ledger_room(const dk_layout *layout) { return DK_WAITING + (uint64_t)layout->slots * DK_HELD; }

/* The ranges that wait: dk_ledger_room words. */
static inline _Atomic uint64_t *dk_waiting_of(const dk_center *center) {
    return (_Atomic uint64_t *)dk_hold_of(center, center->header->layout.slots);
}

static inline uint64_t dk_ledger_bytes(const dk_layout *layout) {
    return sizeof(dk_ledger) + layout->slots * sizeof(dk_hold) + dk_ledger_room(layout) * sizeof(uint64_t);
}

#define DK_RANGE_MOST ((1ull << 24) - 1) /* batches of one range */

static inline uint64_t dk_pack(uint64_t first, uint64_t count) { return count ? first << 24 | count : 0; }

static inline dk_tickets dk_unpack(uint64_t range) { return (dk_tickets){range >> 24, range & DK_RANGE_MOST}; }

static inline uint64_t dk_settled_of(const dk_hold *hold) { return atomic_load_explicit(&hold->settled, memory_order_acquire); }

/* What is not settled of the k-th range of a slot. settled: read once for all of them, because its owner raises it. */
static inline dk_tickets dk_rest_of(const dk_hold *hold, int k, uint64_t settled) {
    dk_tickets range = dk_unpack(atomic_load_explicit(&hold->ranges[k].range, memory_order_relaxed));
    uint64_t begin = atomic_load_explicit(&hold->ranges[k].begin, memory_order_relaxed);
    uint64_t done = settled <= begin ? 0 : settled - begin < range.count ? settled - begin : range.count;
    return (dk_tickets){range.first + done, range.count - done};
}

dk_status dk_ledger_lock(dk_center *center);
void dk_ledger_unlock(dk_center *center);
/* A word of the ledger shall have this value: once dk_ledger_change has carried out all that was planned, or never. */
void dk_ledger_plan(dk_center *center, _Atomic uint64_t *word, uint64_t value);
void dk_ledger_change(dk_center *center);
/* Under the lock: what is in slots that nobody owns goes back. */
void dk_ledger_reclaim(dk_center *center);

/* An exchange that settles so many batches of this worker begins; NULL when it settles none. */
dk_status dk_settle_begin(const dk_worker *worker, uint64_t batches, dk_hold **out);

/* It failed, and its worker lives on. */
void dk_settle_fail(dk_hold *hold, const dk_slot *slot);

/* All stripes have it. The one store of `settled` settles the batches. */
static inline void dk_settle_end(dk_hold *hold) {
    if (!hold)
        return;
    atomic_store_explicit(&hold->settled, atomic_load_explicit(&hold->until, memory_order_relaxed), memory_order_release);
}

/* Of a slot whose owner is gone: what it has not settled goes back. */
dk_status dk_lease_reclaim(dk_center *center, uint32_t slot);

#endif
