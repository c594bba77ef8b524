/* ledger.c: the book of leases: how it is changed, and how what somebody left unsettled goes back.
 *
 * Design:
 * (a) What is below `next` is settled, unless a slot holds it or it waits. So settled batches need no memory, and an epoch may have any
 *     number of them.
 * (b) A range moves from one of these places to another: two words or more change. They are first written down beside the lock; one
 *     store of `valid` decides that they will be carried out, and who has the lock next does so if its owner died. Carrying out is
 *     storing, and may be repeated. So a death between any two instructions neither loses nor doubles a batch.
 * (c) To settle is one store of its owner's, without the lock, at the end of its exchange.
 * (d) Who leaves gives nothing back, and who dies cannot: whoever leases next looks for slots without an owner, and takes back what is in
 *     them. Whether an exchange that a death ended settles its batches follows from what its slot says of it, once the stripe that its
 *     owner died in is mended. No stripe has any of it: they go back. All have it whole: they are settled. Else they count as settled,
 *     and as doubtful.
 * (e) Batches of a slot are trained in the order in which they were leased, so `settled` is a number, and the rest of each range goes back
 *     as one range. Ranges that touch become one. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <time.h>

#include "ledger.h"

#define PUT(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)
#define GET(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define IN_ORDER() atomic_signal_fence(memory_order_seq_cst)

#define PATIENCE 60.0 /* seconds for the lock */

/* ------------------------------------------------------------------ changes */

static void carry_out(dk_center *center, dk_ledger *ledger) {
    for (uint32_t i = 0; i < ledger->planned; i++) {
        PUT(*(_Atomic uint64_t *)((char *)center->header + ledger->changes[i].at), ledger->changes[i].value);
        DK_FAULT(DK_POINT_LEDGER);
    }
    IN_ORDER();
    ledger->valid = 0;
    IN_ORDER();
    DK_FAULT(DK_POINT_LEDGER);
    ledger->planned = 0;
    IN_ORDER();
}

void dk_ledger_plan(dk_center *center, _Atomic uint64_t *word, uint64_t value) {
    dk_ledger *ledger = dk_ledger_of(center);
    ledger->changes[ledger->planned] = (dk_change){DK_IN_LEDGER(word), value};
    IN_ORDER();
    ledger->planned++;
    DK_FAULT(DK_POINT_LEDGER);
}

/* All that was planned, or nothing. */
void dk_ledger_change(dk_center *center) {
    dk_ledger *ledger = dk_ledger_of(center);
    IN_ORDER();
    ledger->valid = 1;
    IN_ORDER();
    DK_FAULT(DK_POINT_LEDGER);
    carry_out(center, ledger);
}

dk_status dk_ledger_lock(dk_center *center) {
    dk_ledger *ledger = dk_ledger_of(center);
    int error = 0;
    DK_CHECK(dk_lock_take(center, &ledger->lock, PATIENCE, &error));
    if (error == ETIMEDOUT)
        return dk_fail(DK_TIMEOUT, "the leases of center %s were locked for %g s", center->name, PATIENCE);
    if (error && error != EOWNERDEAD)
        return dk_fail(DK_SYSTEM, "pthread_mutex_lock of the leases: error %d", error);
    if (ledger->valid)
        carry_out(center, ledger);
    ledger->planned = 0;
    IN_ORDER();
    if (error == EOWNERDEAD)
        pthread_mutex_consistent(&ledger->lock);
    return DK_OK;
}

void dk_ledger_unlock(dk_center *center) { pthread_mutex_unlock(&dk_ledger_of(center)->lock); }

/* ------------------------------------------------------------------ what goes back */

/* The place of the range that waits and touches this one, or a free one; the room's end: there is none. *joined: what is then there. */
static uint64_t place_for(const dk_center *center, dk_tickets range, dk_tickets *joined) {
    uint64_t room = dk_ledger_room(&center->header->layout), place = room;
    const _Atomic uint64_t *waiting = dk_waiting_of(center);
    for (uint64_t i = 0; i < room; i++) {
        dk_tickets other = dk_unpack(GET(waiting[i]));
        if (!other.count && place == room)
            place = i;
        int touches = other.count && other.count + range.count <= DK_RANGE_MOST &&
                      (other.first + other.count == range.first || range.first + range.count == other.first);
        if (!touches)
            continue;
        *joined = (dk_tickets){other.first < range.first ? other.first : range.first, other.count + range.count};
        return i;
    }
    *joined = range;
    return place;
}

/* 0: there is no room for it. */
static int give_back(dk_center *center, dk_hold *hold, int k) {
    dk_ledger *ledger = dk_ledger_of(center);
    dk_tickets range = dk_rest_of(hold, k, dk_settled_of(hold)), joined;
    if (range.count) {
        _Atomic uint64_t *waiting = dk_waiting_of(center);
        uint64_t place = place_for(center, range, &joined);
        if (place == dk_ledger_room(&center->header->layout))
            return 0;
        dk_ledger_plan(center, &waiting[place], dk_pack(joined.first, joined.count));
        dk_ledger_plan(center, &ledger->ranges, GET(ledger->ranges) + !GET(waiting[place]));
        dk_ledger_plan(center, &ledger->returned, GET(ledger->returned) + range.count);
    }
    dk_ledger_plan(center, &hold->ranges[k].range, 0);
    dk_ledger_change(center);
    return 1;
}

/* The exchange that a death ended. */
static void decide(dk_center *center, dk_hold *hold, const dk_slot *slot) {
    dk_ledger *ledger = dk_ledger_of(center);
    uint64_t settled = GET(hold->settled), until = GET(hold->until), in = GET(slot->stripes_in), in_part = GET(slot->in_part);
    if (until <= settled || !(in || in_part || GET(hold->failed)))
        return;
    dk_ledger_plan(center, &hold->settled, until);
    if (in < center->header->stripes || in_part)
        dk_ledger_plan(center, &ledger->doubtful, GET(ledger->doubtful) + until - settled);
    dk_ledger_change(center);
}

/* Nobody owns the slot, and this process has the lock. */
static dk_status reclaim(dk_center *center, uint32_t slot) {
    dk_hold *hold = dk_hold_of(center, slot);
    if (GET(hold->settled) == GET(hold->leased))
        return DK_OK;
    DK_CHECK(dk_undo_settle(center, slot + 1, PATIENCE));
    decide(center, hold, &center->slots[slot]);
    for (int k = 0; k < DK_HELD; k++)
        if (GET(hold->ranges[k].range) && !give_back(center, hold, k))
            return dk_fail(DK_FULL, "more than %llu ranges of batches wait", (unsigned long long)GET(dk_ledger_of(center)->ranges));
    dk_ledger_plan(center, &hold->until, 0);
    dk_ledger_plan(center, &hold->settled, GET(hold->leased));
    dk_ledger_change(center);
    return DK_OK;
}

static int owned(const dk_center *center, uint32_t slot) { return (atomic_load(&center->slots[slot].state) & 0xff) == DK_SLOT_CLAIMED; }

void dk_ledger_reclaim(dk_center *center) {
    dk_slots_bury(center);
    for (uint32_t i = 0; i < center->header->layout.slots; i++)
        if (!owned(center, i))
            (void)reclaim(center, i); /* what has no room now stays where it is */
}

dk_status dk_lease_reclaim(dk_center *center, uint32_t slot) {
    if (!GET(dk_ledger_of(center)->batches))
        return DK_OK;
    DK_CHECK(dk_ledger_lock(center));
    dk_status status = reclaim(center, slot);
    dk_ledger_unlock(center);
    return status;
}
