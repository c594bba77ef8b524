/* lease.c: who trains which batches: they are leased, waited for, looked at. ledger.c has the design. */
#define _GNU_SOURCE
#include <math.h>
#include <time.h>

#include "ledger.h"

#define PUT(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)
#define GET(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define IN_ORDER() atomic_signal_fence(memory_order_seq_cst)

static dk_status open_at(dk_center *center, uint64_t batches) {
    dk_ledger *ledger = dk_ledger_of(center);
    if (batches == 0 || (GET(ledger->batches) && GET(ledger->batches) != batches))
        return dk_fail(DK_INVALID, "Expected %llu batches an epoch, as others lease. Received: %llu. All workers need the same batch size.",
                       (unsigned long long)GET(ledger->batches), (unsigned long long)batches);
    PUT(ledger->batches, batches);
    return DK_OK;
}

/* The place of the oldest range that waits below `until`; the room's end: none does. */
static uint64_t oldest(const dk_center *center, uint64_t until) {
    uint64_t room = dk_ledger_room(&center->header->layout), place = room, first = until;
    const _Atomic uint64_t *waiting = dk_waiting_of(center);
    for (uint64_t i = 0, left = GET(dk_ledger_of(center)->ranges); left; i++) {
        dk_tickets range = dk_unpack(GET(waiting[i]));
        left -= range.count != 0;
        if (range.count && range.first < first)
            place = i, first = range.first;
    }
    return place;
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static int free_range(const dk_hold *hold) {
    int k = 0;
    while (k < DK_HELD && dk_rest_of(hold, k, dk_settled_of(hold)).count)
        k++;
    return k;
}

static void plan_hold(dk_center *center, dk_hold *hold, int k, dk_tickets range) {
    dk_ledger_plan(center, &hold->ranges[k].begin, GET(hold->leased));
    dk_ledger_plan(center, &hold->ranges[k].range, dk_pack(range.first, range.count));
    dk_ledger_plan(center, &hold->leased, GET(hold->leased) + range.count);
}

static void take_from(dk_center *center, dk_hold *hold, int k, uint64_t most, uint64_t until, dk_tickets *out) {
    dk_ledger *ledger = dk_ledger_of(center);
    uint64_t place = oldest(center, until), next = GET(ledger->next), batches = GET(ledger->batches);
    int again = place < dk_ledger_room(&center->header->layout);
    dk_tickets range = again ? dk_unpack(GET(dk_waiting_of(center)[place])) : (dk_tickets){next, next < until ? until - next : 0};
    uint64_t count = least(least(least(range.count, most), DK_RANGE_MOST), least(batches - range.first % batches, until - range.first));
    if (!range.count)
        return;
    *out = (dk_tickets){range.first, count};
    if (again) {
        dk_ledger_plan(center, &dk_waiting_of(center)[place], dk_pack(range.first + count, range.count - count));
        dk_ledger_plan(center, &ledger->ranges, GET(ledger->ranges) - (range.count == count));
    } else {
        dk_ledger_plan(center, &ledger->next, next + count);
    }
    plan_hold(center, hold, k, *out);
    dk_ledger_change(center);
}

static dk_status take(dk_worker *worker, uint64_t most, uint64_t until, dk_tickets *out) {
    dk_center *center = worker->center;
    dk_hold *hold = dk_hold_of(center, worker->slot);
    if (!most || !GET(dk_ledger_of(center)->batches))
        return dk_fail(DK_INVALID, "Expected one batch or more of an epoch whose length is known. Received: %llu of %llu.",
                       (unsigned long long)most, (unsigned long long)GET(dk_ledger_of(center)->batches));
    DK_CHECK(dk_ledger_lock(center));
    dk_ledger_reclaim(center);
    int k = free_range(hold);
    if (k < DK_HELD && atomic_load(&center->slots[worker->slot].state) == (worker->generation << 8 | DK_SLOT_CLAIMED))
        take_from(center, hold, k, most, until, out);
    dk_ledger_unlock(center);
    return DK_OK;
}

/* Also while another thread is within an exchange of this worker: that one settles, and this one adds. */
dk_status dk_lease_take(dk_worker *worker, uint64_t most, uint64_t until, dk_tickets *out) {
    *out = (dk_tickets){0, 0};
    DK_CHECK(dk_worker_check(worker, 0));
    DK_WITHIN(worker->center, take(worker, most, until, out));
}

/* Out of the range that waits at that place; what is left of it before and behind goes on waiting. 0: it is not in it. */
static int take_out(dk_center *center, uint64_t place, dk_hold *hold, int k, dk_tickets wanted) {
    dk_ledger *ledger = dk_ledger_of(center);
    _Atomic uint64_t *waiting = dk_waiting_of(center);
    dk_tickets range = dk_unpack(GET(waiting[place]));
    uint64_t end = wanted.first + wanted.count, before = wanted.first - range.first, behind = range.first + range.count - end;
    uint64_t room = dk_ledger_room(&center->header->layout), other = 0;
    if (wanted.first < range.first || end > range.first + range.count)
        return 0;
    while (other < room && GET(waiting[other]))
        other++;
    if (before && behind && other == room)
        return 0;
    dk_ledger_plan(center, &waiting[place], before ? dk_pack(range.first, before) : dk_pack(end, behind));
    if (before && behind)
        dk_ledger_plan(center, &waiting[other], dk_pack(end, behind));
    dk_ledger_plan(center, &ledger->ranges, GET(ledger->ranges) - 1 + (before != 0) + (behind != 0));
    plan_hold(center, hold, k, wanted);
    dk_ledger_change(center);
    return 1;
}

static dk_status take_again(dk_worker *worker, dk_tickets wanted) {
    dk_center *center = worker->center;
    dk_hold *hold = dk_hold_of(center, worker->slot);
    DK_CHECK(dk_ledger_lock(center));
    int k = free_range(hold), taken = 0;
    for (uint64_t i = 0; k < DK_HELD && wanted.count && !taken && i < dk_ledger_room(&center->header->layout); i++)
        taken = take_out(center, i, hold, k, wanted);
    dk_ledger_unlock(center);
    return taken ? DK_OK
                 : dk_fail(DK_NOT_FOUND, "%llu batches from ticket %llu on do not wait", (unsigned long long)wanted.count,
                           (unsigned long long)wanted.first);
}

dk_status dk_lease_resume(dk_worker *worker, uint64_t first, uint64_t count) {
    DK_CHECK(dk_worker_check(worker, 0));
    DK_WITHIN(worker->center, take_again(worker, (dk_tickets){first, count}));
}

dk_status dk_settle_begin(const dk_worker *worker, uint64_t batches, dk_hold **out) {
    dk_hold *hold = *out = batches ? dk_hold_of(worker->center, worker->slot) : NULL;
    if (!hold)
        return DK_OK;
    uint64_t settled = GET(hold->settled), left = GET(hold->leased) - settled;
    if (batches > left)
        return dk_fail(DK_INVALID, "Expected an exchange of batches that this worker holds, %llu. Received: %llu of them.",
                       (unsigned long long)left, (unsigned long long)batches);
    if (GET(hold->until) <= settled)
        PUT(hold->failed, 0);
    IN_ORDER(); /* the slot has forgotten the stripes of the exchange before */
    PUT(hold->until, settled + batches);
    IN_ORDER();
    return DK_OK;
}

void dk_settle_fail(dk_hold *hold, const dk_slot *slot) {
    if (!hold || GET(hold->until) <= GET(hold->settled))
        return;
    if (GET(slot->stripes_in) || GET(slot->in_part))
        PUT(hold->failed, 1);
    else if (!GET(hold->failed))
        PUT(hold->until, GET(hold->settled)); /* it is in no stripe, as if it had not begun */
    IN_ORDER();
}

/* ------------------------------------------------------------------ looking */

/* Under the lock. */
static void add_up(dk_center *center, uint64_t until, dk_leases *out) {
    const dk_ledger *ledger = dk_ledger_of(center);
    *out = (dk_leases){.batches = GET(ledger->batches), .next = GET(ledger->next)};
    out->returned = GET(ledger->returned), out->doubtful = GET(ledger->doubtful);
    out->open = out->next < until || oldest(center, until) < dk_ledger_room(&center->header->layout);
    for (uint32_t i = 0; i < center->header->layout.slots; i++) {
        const dk_hold *hold = dk_hold_of(center, i);
        uint64_t settled = dk_settled_of(hold);
        out->under_way += GET(hold->until) > settled;
        for (int k = 0; k < DK_HELD; k++) {
            dk_tickets rest = dk_rest_of(hold, k, settled);
            out->held += rest.count;
            out->busy |= rest.count && rest.first < until;
        }
    }
    for (uint64_t i = 0, left = GET(ledger->ranges); left; i++) {
        uint64_t count = dk_unpack(GET(dk_waiting_of(center)[i])).count;
        out->waiting += count;
        left -= count != 0;
    }
}

static dk_status await(dk_center *center, uint64_t until, double timeout_s, dk_leases *out) {
    double deadline = dk_now(CLOCK_MONOTONIC) + timeout_s;
    for (int naps = 1;; naps++) {
        DK_CHECK(dk_ledger_lock(center));
        dk_ledger_reclaim(center);
        add_up(center, until, out);
        dk_ledger_unlock(center);
        if (out->open || !out->busy || dk_now(CLOCK_MONOTONIC) >= deadline)
            return DK_OK;
        DK_CHECK(dk_broken(center));
        if (naps % 25 == 0)
            DK_CHECK(dk_heed(center));
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

static void note(dk_tickets *out, uint64_t room, uint64_t *count, dk_tickets range) {
    if (range.count && *count < room)
        out[*count] = range;
    *count += range.count != 0;
}

static dk_status unsettled(dk_center *center, dk_tickets *out, uint64_t room, uint64_t *count, dk_leases *leases) {
    *count = 0;
    DK_CHECK(dk_ledger_lock(center));
    dk_ledger_reclaim(center);
    add_up(center, UINT64_MAX, leases);
    for (uint32_t i = 0; i < center->header->layout.slots; i++) {
        const dk_hold *hold = dk_hold_of(center, i);
        uint64_t settled = dk_settled_of(hold);
        for (int k = 0; k < DK_HELD; k++)
            note(out, room, count, dk_rest_of(hold, k, settled));
    }
    for (uint64_t i = 0; i < dk_ledger_room(&center->header->layout); i++)
        note(out, room, count, dk_unpack(GET(dk_waiting_of(center)[i])));
    dk_ledger_unlock(center);
    return DK_OK;
}

static dk_status restore(dk_center *center, uint64_t batches, uint64_t next, const dk_tickets *waiting, uint64_t count) {
    dk_ledger *ledger = dk_ledger_of(center);
    if (GET(ledger->next) || count > dk_ledger_room(&center->header->layout))
        return dk_fail(GET(ledger->next) ? DK_INVALID : DK_FULL, "%llu ranges of batches for %llu places, after ticket %llu was leased",
                       (unsigned long long)count, (unsigned long long)dk_ledger_room(&center->header->layout),
                       (unsigned long long)GET(ledger->next));
    DK_CHECK(open_at(center, batches));
    for (uint64_t i = 0; i < count; i++)
        PUT(dk_waiting_of(center)[i], dk_pack(waiting[i].first, waiting[i].count));
    PUT(ledger->ranges, count);
    PUT(ledger->next, next);
    return DK_OK;
}

static dk_status look(dk_center *center, dk_leases *out) { return await(center, 0, 0, out); }

dk_status dk_lease_open(dk_center *center, uint64_t batches) { DK_WITHIN(center, open_at(center, batches)); }

dk_status dk_lease_look(dk_center *center, dk_leases *out) { DK_WITHIN(center, look(center, out)); }

dk_status dk_lease_await(dk_center *center, uint64_t until, double timeout_s, dk_leases *out) {
    DK_WITHIN(center, await(center, until, timeout_s, out));
}

dk_status dk_lease_unsettled(dk_center *center, dk_tickets *out, uint64_t room, uint64_t *count, dk_leases *leases) {
    DK_WITHIN(center, unsettled(center, out, room, count, leases));
}

dk_status dk_lease_restore(dk_center *center, uint64_t batches, uint64_t next, const dk_tickets *waiting, uint64_t count) {
    DK_WITHIN(center, restore(center, batches, next, waiting, count));
}
