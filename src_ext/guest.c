/* guest.c: who writes stripes without a slot, as merges and restores do, has an undo area meanwhile. There are few areas, each under
 * a robust lock of its own. Of those who had an area before and died, the stripe is mended before the area is used anew. */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>

#include "undo.h"

dk_status dk_undo_settle(dk_center *center, uint32_t holder, double timeout_s) {
    uint64_t stripe;
    while (center->header->undo_block && (stripe = atomic_load(&dk_undo_of(center, holder)->stripe))) {
        DK_CHECK(dk_stripe_lock(center, stripe - 1, 0, timeout_s)); /* whoever has the lock after that death mends the stripe */
        dk_stripe_unlock(center, stripe - 1);
    }
    return DK_OK;
}

/* One that is free, as a number from 0 on; DK_GUESTS: all are in use. */
static uint32_t try_each(dk_header *header) {
    uint32_t k = 0;
    for (int error = EBUSY; k < DK_GUESTS; k++) {
        error = pthread_mutex_trylock(&header->guests[k]);
        if (error == EOWNERDEAD)
            pthread_mutex_consistent(&header->guests[k]);
        if (error == 0 || error == EOWNERDEAD)
            break;
    }
    return k;
}

dk_status dk_guest_take(dk_center *center, double timeout_s, uint32_t *holder) {
    double deadline = dk_now(CLOCK_MONOTONIC) + timeout_s;
    uint32_t k = 0;
    *holder = 0;
    if (!center->header->undo_block)
        return DK_OK;
    for (int naps = 1; (k = try_each(center->header)) == DK_GUESTS; naps++) {
        if (dk_now(CLOCK_MONOTONIC) >= deadline)
            return dk_fail(DK_TIMEOUT, "%d others have written to center %s without a slot for %g s", DK_GUESTS, center->name, timeout_s);
        if (naps % 50 == 0)
            DK_CHECK(dk_heed(center));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    *holder = center->header->layout.slots + 1 + k;
    dk_status status = dk_undo_settle(center, *holder, timeout_s);
    if (status != DK_OK)
        dk_guest_leave(center, *holder);
    return status;
}

void dk_guest_leave(dk_center *center, uint32_t holder) {
    if (holder)
        pthread_mutex_unlock(&center->header->guests[holder - center->header->layout.slots - 1]);
}
