/* node.c: what the leader of a node does with the center while its workers go on, and what it tells them of other nodes. */
#include <stdio.h>
#include <string.h>

#include "undo.h"

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

/* Bits of the vectors of the segment that the kernel writes. */
static uint32_t written_by(const dk_pass *pass) {
    uint32_t written = 0;
    for (int v = 0; v < pass->vectors; v++)
        if (pass->role[v] != DK_OUTSIDE && !(pass->only_read >> v & 1))
            written |= 1u << dk_vector_of(pass->role[v]);
    return written;
}

/* base: the element where the vectors outside begin. */
static void run_block(dk_center *center, const dk_pass *pass, uint64_t base, uint64_t at, uint64_t n) {
    uint32_t item = center->header->layout.itemsize;
    void *vectors[DK_MAX_VECTORS];
    for (int v = 0; v < pass->vectors; v++) {
        int role = pass->role[v];
        vectors[v] = role == DK_OUTSIDE ? (char *)pass->outside[v] + (at - base) * item : dk_vector(center, dk_vector_of(role)) + at * item;
    }
    pass->kernel(n, vectors, pass->scalars);
    DK_FAULT(DK_POINT_HALF);
}

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

static dk_status run_pass_as(dk_center *center, const dk_pass *pass, uint32_t holder, uint32_t written) {
    uint64_t base = later(dk_stripe_begin(center, pass->first), pass->begin);
    for (uint64_t s = pass->first, n; s < pass->end; s++) {
        uint64_t begin = later(dk_stripe_begin(center, s), pass->begin), end = dk_stripe_end(center, s), k = s - pass->first;
        end = later(begin, pass->until && pass->until < end ? pass->until : end);
        DK_CHECK(dk_stripe_lock(center, s, holder, pass->timeout_s));
        dk_commit commit = dk_commit_of(center, s, begin, end, written, pass->raise ? pass->raise[k] : 0);
        if (pass->versions)
            pass->versions[k] = commit.before / 2;
        if (pass->arrivals)
            pass->arrivals[k] = commit.arrivals;
        if (pass->taken)
            commit.arrivals -= (uint32_t)pass->taken[k];
        dk_commit_begin(&commit);
        for (; (n = dk_commit_block(&commit)); dk_commit_add(&commit, n)) {
            dk_commit_save(&commit, n);
            DK_FAULT(DK_POINT_SAVED);
            run_block(center, pass, base, commit.begin + commit.in, n);
        }
        dk_commit_end(&commit);
        dk_stripe_unlock(center, s);
    }
    return DK_OK;
}

static dk_status run_pass(dk_center *center, const dk_pass *pass) {
    DK_CHECK(check_pass(center, pass));
    uint32_t written = written_by(pass), holder = 0;
    if (written)
        DK_CHECK(dk_guest_take(center, pass->timeout_s, &holder));
    dk_status status = run_pass_as(center, pass, holder, written);
    dk_guest_leave(center, holder);
    return status;
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
