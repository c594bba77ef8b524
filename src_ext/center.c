/* center.c: looking at a center, and copying it in and out, stripe by stripe; whether it is whole. */
#include <string.h>

#include "undo.h"

#define LOOK_PATIENCE 1.0 /* seconds for a stripe that the owner of a slot died in */

dk_status dk_center_layout(const dk_center *center, dk_layout *out) {
    *out = center->layout;
    return DK_OK;
}

const char *dk_center_note(const dk_center *center) { return center->note; }

uint64_t dk_center_stripes(const dk_center *center) { return center->count; }

static dk_status check_vector(const dk_center *center, uint32_t index) {
    if (index <= center->header->layout.states)
        return DK_OK;
    return dk_fail(DK_INVALID, "vector %u of a center with %u states", index, center->header->layout.states);
}

void *dk_center_vector(dk_center *center, uint32_t index) {
    if (dk_enter(center) != DK_OK)
        return NULL;
    void *vector = check_vector(center, index) == DK_OK ? dk_vector(center, index) : NULL;
    dk_leave(center);
    return vector;
}

static dk_status copy_out(dk_center *center, uint32_t vector, char *out, double timeout_s) {
    uint32_t item = center->header->layout.itemsize;
    DK_CHECK(check_vector(center, vector));
    for (uint64_t s = 0; s < center->header->stripes; s++) {
        uint64_t at = dk_stripe_begin(center, s) * item, bytes = dk_stripe_end(center, s) * item - at;
        DK_CHECK(dk_stripe_lock(center, s, 0, timeout_s));
        memcpy(out + at, dk_vector(center, vector) + at, bytes);
        dk_stripe_unlock(center, s);
    }
    return DK_OK;
}

static dk_status copy_in_as(dk_center *center, uint32_t holder, uint32_t vector, const char *data, double timeout_s) {
    uint64_t item = center->header->layout.itemsize;
    for (uint64_t s = 0, n; s < center->header->stripes; s++) {
        DK_CHECK(dk_stripe_lock(center, s, holder, timeout_s));
        dk_commit commit = dk_commit_of(center, s, dk_stripe_begin(center, s), dk_stripe_end(center, s), 1u << vector, 0);
        dk_commit_begin(&commit);
        for (; (n = dk_commit_block(&commit)); dk_commit_add(&commit, n)) {
            uint64_t at = (commit.begin + commit.in) * item;
            dk_commit_save(&commit, n);
            memcpy(dk_vector(center, vector) + at, data + at, n * item);
            DK_FAULT(DK_POINT_HALF);
        }
        dk_commit_end(&commit);
        dk_stripe_unlock(center, s);
    }
    return DK_OK;
}

static dk_status copy_in(dk_center *center, uint32_t vector, const void *data, double timeout_s) {
    uint32_t holder;
    DK_CHECK(check_vector(center, vector));
    DK_CHECK(dk_guest_take(center, timeout_s, &holder));
    dk_status status = copy_in_as(center, holder, vector, data, timeout_s);
    dk_guest_leave(center, holder);
    return status;
}

dk_status dk_center_snapshot(dk_center *center, uint32_t vector, void *out, double timeout_s) {
    DK_WITHIN(center, copy_out(center, vector, out, timeout_s));
}

dk_status dk_center_restore(dk_center *center, uint32_t vector, const void *data, double timeout_s) {
    DK_WITHIN(center, copy_in(center, vector, data, timeout_s));
}

dk_status dk_center_versions(dk_center *center, uint64_t *out) {
    DK_CHECK(dk_enter(center));
    dk_versions_read(center, out);
    dk_leave(center);
    return DK_OK;
}

/* Unlocked, as versions are: counts of a stripe that is being mended may not fit together until it is. */
static void add_up(const dk_center *center, dk_counts *out) {
    for (uint64_t s = 0; s < center->header->stripes; s++) {
        const dk_stripe *stripe = &center->stripes[s];
        out->recovered += atomic_load_explicit(&stripe->recovered, memory_order_relaxed);
        out->undone += atomic_load_explicit(&stripe->undone, memory_order_relaxed);
        out->kept += atomic_load_explicit(&stripe->kept, memory_order_relaxed);
        out->elements += atomic_load_explicit(&stripe->elements, memory_order_relaxed);
    }
}

dk_status dk_center_counts(dk_center *center, dk_counts *out) {
    *out = (dk_counts){0};
    DK_CHECK(dk_enter(center));
    dk_slots_bury(center);
    out->live = atomic_load(&center->header->live);
    out->deaths = atomic_load(&center->header->deaths);
    add_up(center, out);
    dk_leave(center);
    return DK_OK;
}

/* The stripe that its owner died in is mended first, which tells the slot what of the exchange is in. */
static dk_status look_at_slot(dk_center *center, uint32_t slot, dk_slot_view *out) {
    DK_CHECK(dk_slot_look(center, slot, out));
    if (out->state != DK_SLOT_DEAD)
        return DK_OK;
    /* Somebody may hold that stripe for long: a monitor does not wait for it. */
    int unknown = dk_undo_settle(center, slot + 1, LOOK_PATIENCE) != DK_OK;
    DK_CHECK(dk_slot_look(center, slot, out));
    out->in_part |= (uint64_t)unknown;
    return DK_OK;
}

dk_status dk_center_slot(dk_center *center, uint32_t slot, dk_slot_view *out) { DK_WITHIN(center, look_at_slot(center, slot, out)); }

dk_status dk_broken(const dk_center *center) {
    if (atomic_load_explicit(&center->header->broken, memory_order_acquire) != 2)
        return DK_OK;
    return dk_fail(DK_BROKEN, "%s", center->header->reason);
}

dk_status dk_center_check(dk_center *center) { DK_WITHIN(center, dk_broken(center)); }
