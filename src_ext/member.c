/* member.c: how far the ranks of a node are, one number each: how often it has finished, DK_LEFT once it will not come again.
 *
 * Numbers only rise, and each is of one rank. So it does not matter in which order ranks finish, leave and die, who tells of
 * it, or how often it is told: nobody counts others, and no count can go wrong. */
#define _GNU_SOURCE
#include <math.h>
#include <time.h>

#include "internal.h"

static dk_status reach(dk_center *center, uint32_t member, uint32_t phase) {
    if (member >= center->header->layout.slots)
        return dk_fail(DK_INVALID, "member %u of %u", member, center->header->layout.slots);
    uint32_t had = atomic_load(&center->members[member]);
    while (had < phase && !atomic_compare_exchange_weak(&center->members[member], &had, phase))
        ;
    dk_gate *gate = &center->header->gates[DK_GATE_FINISH];
    atomic_fetch_add(&gate->opened, 1);
    dk_gate_wake(gate);
    return DK_OK;
}

static dk_status await(dk_center *center, uint32_t first, uint32_t end, uint32_t phase, double timeout_s, uint32_t *slowest) {
    if (end > center->header->layout.slots || first >= end)
        return dk_fail(DK_INVALID, "members %u to %u of %u", first, end, center->header->layout.slots);
    dk_gate *gate = &center->header->gates[DK_GATE_FINISH];
    double until = dk_now(CLOCK_MONOTONIC) + timeout_s, left;
    for (;;) {
        uint32_t bell = atomic_load(&gate->opened); /* before we look: what is told later rings it once more */
        *slowest = DK_LEFT;
        for (uint32_t i = first; i < end; i++) {
            uint32_t reached = atomic_load(&center->members[i]);
            *slowest = reached < *slowest ? reached : *slowest;
        }
        if (*slowest >= phase)
            return DK_OK;
        DK_CHECK(dk_broken(center));
        DK_CHECK(dk_heed(center));
        if ((left = until - dk_now(CLOCK_MONOTONIC)) <= 0)
            return DK_OK;
        dk_sleep_on(&gate->opened, bell, fmin(left, DK_SLICE));
    }
}

dk_status dk_member_reach(dk_center *center, uint32_t member, uint32_t phase) { DK_WITHIN(center, reach(center, member, phase)); }

dk_status dk_member_await(dk_center *center, uint32_t first, uint32_t end, uint32_t phase, double timeout_s, uint32_t *slowest) {
    DK_WITHIN(center, await(center, first, end, phase, timeout_s, slowest));
}
