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
        else if (pass->role[v] != DK_CENTER && pass->role[v] != DK_OUTSIDE && pass->role[v] < DK_STATE)
            return dk_fail(DK_INVALID, "vector %d of the formula has the role %d, which no pass knows", v, pass->role[v]);
    return DK_OK;
}

static dk_status run_pass(dk_center *center, const dk_pass *pass) {
    uint32_t item = center->header->layout.itemsize;
    DK_CHECK(check_pass(center, pass));
    uint64_t base = dk_stripe_begin(center, pass->first);
    base = base < pass->begin ? pass->begin : base;
    for (uint64_t s = pass->first; s < pass->end; s++) {
        uint64_t begin = dk_stripe_begin(center, s), end = dk_stripe_end(center, s), k = s - pass->first;
        begin = begin < pass->begin ? pass->begin : begin;
        end = pass->until && pass->until < end ? pass->until : end;
        uint64_t n = begin < end ? end - begin : 0;
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

dk_status dk_center_pass(dk_center *center, const dk_pass *pass) { DK_WITHIN(center, run_pass(center, pass)); }

static dk_status declare_broken(dk_center *center, const char *reason) {
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

dk_status dk_center_break(dk_center *center, const char *reason) { DK_WITHIN(center, declare_broken(center, reason)); }

dk_status dk_center_others(dk_center *center, uint32_t workers, uint64_t slowest) {
    DK_CHECK(dk_enter(center));
    atomic_store_explicit(&center->header->others, workers, memory_order_relaxed);
    atomic_store_explicit(&center->header->others_slowest, slowest, memory_order_relaxed);
    dk_leave(center);
    return DK_OK;
}

/* Readers may see half of a name that is just being written, and see it whole the next time they look. */
dk_status dk_center_declare(dk_center *center, const char *rule) {
    DK_CHECK(dk_enter(center));
    snprintf(center->header->rule, DK_RULE, "%s", rule);
    dk_leave(center);
    return DK_OK;
}

dk_status dk_center_pulse(dk_center *center, dk_pulse *out) {
    DK_CHECK(dk_enter(center));
    dk_slots_bury(center);
    out->live = atomic_load(&center->header->live);
    out->waiting = atomic_load(&center->header->waiting);
    out->slowest = dk_slowest_here(center);
    memcpy(out->rule, center->header->rule, DK_RULE);
    out->rule[DK_RULE - 1] = 0;
    dk_leave(center);
    return DK_OK;
}
