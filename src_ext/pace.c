/* pace.c: bounded staleness (Ho et al. 2013, stale synchronous parallel): nobody is too far ahead of the slowest. The dead are
 * buried, and not waited for. */
#define _GNU_SOURCE
#include <time.h>

#include "internal.h"

uint64_t dk_slowest_here(const dk_center *center) {
    uint64_t slowest = UINT64_MAX;
    for (uint32_t i = 0; i < center->header->layout.slots; i++) {
        dk_slot *slot = &center->slots[i];
        uint64_t exchanges = atomic_load_explicit(&slot->exchanges, memory_order_relaxed);
        if ((atomic_load_explicit(&slot->state, memory_order_relaxed) & 0xff) == DK_SLOT_CLAIMED && exchanges < slowest)
            slowest = exchanges;
    }
    return slowest;
}

static uint64_t slowest_of_all(const dk_center *center) {
    uint64_t here = dk_slowest_here(center), others = atomic_load_explicit(&center->header->others_slowest, memory_order_relaxed);
    return here < others ? here : others;
}

static int too_far_ahead(const dk_call *call) {
    const dk_center *center = call->worker->center;
    uint64_t mine = atomic_load_explicit(&center->slots[call->worker->slot].exchanges, memory_order_relaxed);
    uint64_t slowest = slowest_of_all(center);
    return slowest < mine && mine - slowest > call->max_ahead;
}

dk_status dk_pace_keep(const dk_call *call) {
    dk_center *center = call->worker->center;
    double until = dk_now(CLOCK_MONOTONIC) + call->patience_s;
    struct timespec nap = {.tv_nsec = 100000};
    dk_status status = DK_OK;
    if (!too_far_ahead(call))
        return DK_OK;
    atomic_fetch_add(&center->header->waiting, 1);
    for (int naps = 0; status == DK_OK && too_far_ahead(call); naps++) {
        nanosleep(&nap, NULL);
        status = dk_broken(center);
        if (naps % 500 == 499 && status == DK_OK) {
            dk_slots_bury(center);
            status = dk_heed(center);
        }
        if (status == DK_OK && dk_now(CLOCK_MONOTONIC) > until)
            status = dk_fail(DK_TIMEOUT, "the slowest worker has stood at %llu exchanges for %g s, and none may be more than %llu ahead",
                             (unsigned long long)slowest_of_all(center), call->patience_s, (unsigned long long)call->max_ahead);
    }
    atomic_fetch_sub(&center->header->waiting, 1);
    return status;
}
