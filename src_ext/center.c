/* center.c: looking at a center, and copying it in and out, stripe by stripe. */
#include <string.h>

#include "internal.h"

char *dk_vector(const dk_center *center, uint32_t index) {
    return (char *)center->header + center->header->vectors_at + index * center->header->vector_bytes;
}

uint64_t dk_stripe_begin(const dk_center *center, uint64_t stripe) { return stripe * center->header->layout.stripe_length; }

uint64_t dk_stripe_end(const dk_center *center, uint64_t stripe) {
    uint64_t end = (stripe + 1) * center->header->layout.stripe_length;
    return end < center->header->layout.length ? end : center->header->layout.length;
}

dk_status dk_center_layout(const dk_center *center, dk_layout *out) {
    *out = center->header->layout;
    return DK_OK;
}

const char *dk_center_note(const dk_center *center) { return center->header->note; }

uint64_t dk_center_stripes(const dk_center *center) { return center->header->stripes; }

void *dk_center_vector(dk_center *center, uint32_t index) { return dk_vector(center, index); }

static dk_status copy(dk_center *center, uint32_t vector, char *out, const char *data, double timeout_s) {
    uint32_t item = center->header->layout.itemsize;
    if (vector > center->header->layout.states)
        return dk_fail(DK_INVALID, "vector %u of a center with %u states", vector, center->header->layout.states);
    for (uint64_t s = 0; s < center->header->stripes; s++) {
        uint64_t at = dk_stripe_begin(center, s) * item, bytes = dk_stripe_end(center, s) * item - at;
        DK_CHECK(dk_stripe_lock(center, s, 0, timeout_s));
        if (out)
            memcpy(out + at, dk_vector(center, vector) + at, bytes);
        else
            memcpy(dk_vector(center, vector) + at, data + at, bytes);
        dk_stripe_unlock(center, s);
    }
    return DK_OK;
}

dk_status dk_center_snapshot(dk_center *center, uint32_t vector, void *out, double timeout_s) {
    return copy(center, vector, out, NULL, timeout_s);
}

dk_status dk_center_restore(dk_center *center, uint32_t vector, const void *data, double timeout_s) {
    return copy(center, vector, NULL, data, timeout_s);
}

dk_status dk_center_versions(dk_center *center, uint64_t *out) {
    for (uint64_t s = 0; s < center->header->stripes; s++)
        out[s] = atomic_load_explicit(&center->stripes[s].version, memory_order_relaxed);
    return DK_OK;
}

dk_status dk_center_counts(dk_center *center, dk_counts *out) {
    dk_slots_bury(center);
    out->live = atomic_load(&center->header->live);
    out->deaths = atomic_load(&center->header->deaths);
    out->recovered = atomic_load(&center->header->recovered);
    return DK_OK;
}
