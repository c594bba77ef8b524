/* node.c: what the leader of a node does with the center while its workers go on, and what it tells them of other nodes. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

static dk_status check_pass(const dk_center *center, const dk_pass *pass) {
    if (pass->end > center->header->stripes || pass->first > pass->end)
        return dk_fail(DK_INVALID, "stripes %llu to %llu of %llu", (unsigned long long)pass->first, (unsigned long long)pass->end,
                       (unsigned long long)center->header->stripes);
    for (int v = 0; v < pass->vectors; v++)
        if (pass->role[v] >= DK_STATE && (uint32_t)(pass->role[v] - DK_STATE) >= center->header->layout.states)
            return dk_fail(DK_INVALID, "the formula has more state vectors than center %s (%u)", center->name,
                           center->header->layout.states);
    return DK_OK;
}

dk_status dk_center_pass(dk_center *center, const dk_pass *pass) {
    uint32_t item = center->header->layout.itemsize;
    DK_CHECK(check_pass(center, pass));
    uint64_t base = dk_stripe_begin(center, pass->first);
    for (uint64_t s = pass->first; s < pass->end; s++) {
        uint64_t begin = dk_stripe_begin(center, s), n = dk_stripe_end(center, s) - begin, k = s - pass->first;
        void *vectors[DK_MAX_VECTORS];
        for (int v = 0; v < pass->vectors; v++) {
            int role = pass->role[v];
            char *inside = dk_vector(center, role >= DK_STATE ? (uint32_t)(role - DK_STATE + 1) : 0) + begin * item;
            vectors[v] = role == DK_OUTSIDE ? (char *)pass->outside[v] + (begin - base) * item : inside;
        }
        DK_CHECK(dk_stripe_lock(center, s, 0, pass->timeout_s));
        pass->kernel(n, vectors, pass->scalars);
        uint64_t version = atomic_load_explicit(&center->stripes[s].version, memory_order_relaxed);
        if (pass->versions)
            pass->versions[k] = version;
        if (pass->raise)
            atomic_store_explicit(&center->stripes[s].version, version + pass->raise[k], memory_order_relaxed);
        dk_stripe_unlock(center, s);
    }
    return DK_OK;
}

dk_status dk_center_break(dk_center *center, const char *reason) {
    dk_header *header = center->header;
    uint32_t whole = 0;
    if (atomic_compare_exchange_strong(&header->broken, &whole, 1)) {
        snprintf(header->reason, DK_REASON, "%s", reason);
        atomic_store(&header->broken, 2);
        for (uint32_t gate = 0; gate < DK_GATES; gate++)
            dk_gate_wake(&header->gates[gate]);
    }
    return DK_OK;
}

dk_status dk_center_check(const dk_center *center) {
    if (atomic_load_explicit(&center->header->broken, memory_order_acquire) != 2)
        return DK_OK;
    return dk_fail(DK_BROKEN, "%s", center->header->reason);
}

dk_status dk_center_others(dk_center *center, uint32_t workers, uint64_t slowest) {
    atomic_store_explicit(&center->header->others, workers, memory_order_relaxed);
    atomic_store_explicit(&center->header->others_slowest, slowest, memory_order_relaxed);
    return DK_OK;
}

/* Readers may see half of a name that is just being written, and see it whole the next time they look. */
dk_status dk_center_declare(dk_center *center, const char *rule) {
    snprintf(center->header->rule, DK_RULE, "%s", rule);
    return DK_OK;
}

static uint64_t slowest_here(const dk_center *center) {
    uint64_t slowest = UINT64_MAX;
    for (uint32_t i = 0; i < center->header->layout.slots; i++) {
        dk_slot *slot = &center->slots[i];
        uint64_t exchanges = atomic_load_explicit(&slot->exchanges, memory_order_relaxed);
        if ((atomic_load_explicit(&slot->state, memory_order_relaxed) & 0xff) == DK_SLOT_CLAIMED && exchanges < slowest)
            slowest = exchanges;
    }
    return slowest;
}

uint64_t dk_slowest(const dk_center *center) {
    uint64_t here = slowest_here(center), others = atomic_load_explicit(&center->header->others_slowest, memory_order_relaxed);
    return here < others ? here : others;
}

dk_status dk_center_pulse(dk_center *center, dk_pulse *out) {
    dk_slots_bury(center);
    out->live = atomic_load(&center->header->live);
    out->waiting = atomic_load(&center->header->waiting);
    out->slowest = slowest_here(center);
    memcpy(out->rule, center->header->rule, DK_RULE);
    out->rule[DK_RULE - 1] = 0;
    return DK_OK;
}
