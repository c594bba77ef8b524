/* gate.c: where the workers of a node meet. Members arrive and wait; a coordinator sees them come, and opens.
 *
 * A futex on one counter, and not a process-shared condition variable: glibc's can wait for ever for a waiter that died. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <math.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

void dk_sleep_on(_Atomic uint32_t *word, uint32_t value, double seconds) {
    struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(fmod(seconds, 1.0) * 1e9)};
    syscall(SYS_futex, word, FUTEX_WAIT, value, &time, NULL, 0); /* woken, changed before, interrupted: all look again */
}

static void wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0); }

void dk_gate_wake(dk_gate *gate) {
    wake(&gate->opened);
    wake(&gate->arrived);
}

static dk_status gate_of(dk_center *center, uint32_t index, dk_gate **out) {
    if (index >= DK_GATES)
        return dk_fail(DK_INVALID, "gate %u of %d", index, DK_GATES);
    *out = &center->header->gates[index];
    return DK_OK;
}

static dk_status members(dk_center *center, uint32_t index, int32_t change, int absolute) {
    dk_gate *gate = NULL;
    DK_CHECK(gate_of(center, index, &gate));
    if (absolute)
        atomic_store(&gate->members, (uint32_t)change);
    else
        atomic_fetch_add(&gate->members, (uint32_t)change);
    wake(&gate->arrived);
    return DK_OK;
}

static dk_status arrive(dk_center *center, uint32_t index, uint32_t *ticket) {
    dk_gate *gate = NULL;
    DK_CHECK(gate_of(center, index, &gate));
    *ticket = atomic_load(&gate->opened); /* before we count as arrived: the opening that follows is ours */
    atomic_fetch_add(&gate->arrived, 1);
    wake(&gate->arrived);
    return DK_OK;
}

static dk_status await_opening(dk_center *center, uint32_t index, uint32_t ticket, double timeout_s) {
    dk_gate *gate = NULL;
    DK_CHECK(gate_of(center, index, &gate));
    double until = dk_now(CLOCK_MONOTONIC) + timeout_s, left;
    while (atomic_load(&gate->opened) == ticket) {
        DK_CHECK(dk_broken(center));
        DK_CHECK(dk_heed(center));
        if ((left = until - dk_now(CLOCK_MONOTONIC)) <= 0)
            return DK_TIMEOUT;
        dk_sleep_on(&gate->opened, ticket, fmin(left, DK_SLICE));
    }
    return DK_OK;
}

static dk_status await_members(dk_center *center, uint32_t index, double timeout_s, dk_gate_view *out) {
    dk_gate *gate = NULL;
    DK_CHECK(gate_of(center, index, &gate));
    double until = dk_now(CLOCK_MONOTONIC) + timeout_s, left;
    for (;;) {
        out->arrived = atomic_load(&gate->arrived);
        out->members = atomic_load(&gate->members);
        if (out->arrived >= out->members || (left = until - dk_now(CLOCK_MONOTONIC)) <= 0)
            return DK_OK;
        DK_CHECK(dk_heed(center));
        dk_sleep_on(&gate->arrived, out->arrived, fmin(left, DK_SLICE));
    }
}

static dk_status open_gate(dk_center *center, uint32_t index, uint32_t arrived) {
    dk_gate *gate = NULL;
    DK_CHECK(gate_of(center, index, &gate));
    atomic_fetch_sub(&gate->arrived, arrived);
    atomic_fetch_add(&gate->opened, 1);
    wake(&gate->opened);
    return DK_OK;
}

dk_status dk_gate_members(dk_center *center, uint32_t gate, int32_t change, int absolute) {
    DK_WITHIN(center, members(center, gate, change, absolute));
}

dk_status dk_gate_arrive(dk_center *center, uint32_t gate, uint32_t *ticket) { DK_WITHIN(center, arrive(center, gate, ticket)); }

dk_status dk_gate_wait(dk_center *center, uint32_t gate, uint32_t ticket, double timeout_s) {
    DK_WITHIN(center, await_opening(center, gate, ticket, timeout_s));
}

dk_status dk_gate_await(dk_center *center, uint32_t gate, double timeout_s, dk_gate_view *out) {
    DK_WITHIN(center, await_members(center, gate, timeout_s, out));
}

dk_status dk_gate_open(dk_center *center, uint32_t gate, uint32_t arrived) { DK_WITHIN(center, open_gate(center, gate, arrived)); }
