/* pass.h: one pass of a prepared call over the stripes: where the worker's weights are, and what became of it. An exchange and a pull
 * share it. Inline: it is on the hot path. */
#ifndef DKCORE_PASS_H
#define DKCORE_PASS_H

#include <stdio.h>
#include <time.h>

#include "internal.h"

/* A place in the worker's segments. Stripes are walked in order, so a cursor only ever moves forward, or back to zero. */
typedef struct cursor {
    size_t segment;
    uint64_t offset;
} cursor;

typedef struct segments {
    size_t count;
    void *const *addresses;
    const uint64_t *lengths;
} segments;

typedef struct pass {
    dk_call *call;
    dk_center *center;
    dk_worker *worker;
    segments weights;
    uint32_t item;
    uint64_t split;       /* elements from here on are statistics */
    uint32_t written;     /* bits of the vectors of the segment that it writes, as dk_vector counts them */
    struct dk_hold *hold; /* whose leases it settles; NULL: none */
} pass;

/* The kernel of the statistics writes one vector, too. */
static inline uint32_t written_by(const dk_call *call) {
    uint32_t written = call->statistic.length ? 1u << (call->statistic.in_rounds ? 1 : 0) : 0;
    for (int v = 0; v < call->vectors; v++)
        if (call->role[v] != DK_WORKER && call->role[v] != DK_PREVIOUS && !(call->only_read >> v & 1))
            written |= 1u << dk_vector_of(call->role[v]);
    return written;
}

static inline void advance(const segments *weights, cursor *at, uint64_t n) {
    at->offset += n;
    while (at->segment < weights->count && at->offset >= weights->lengths[at->segment]) {
        at->offset -= weights->lengths[at->segment];
        at->segment++;
    }
}

/* The longest piece of [begin, end) that lies in one segment. */
static inline uint64_t piece(const segments *weights, const cursor *at, uint64_t begin, uint64_t end) {
    uint64_t left = weights->lengths[at->segment] - at->offset;
    return left < end - begin ? left : end - begin;
}

static inline char *address(const segments *weights, const cursor *at, uint32_t item) {
    return (char *)weights->addresses[at->segment] + at->offset * item;
}

static inline dk_status check_lengths(const dk_center *center, const segments *weights) {
    uint64_t total = 0;
    for (size_t i = 0; i < weights->count; i++)
        total += weights->lengths[i];
    if (total != center->header->layout.length)
        return dk_fail(DK_INVALID, "weights of %llu elements for a center of %llu", (unsigned long long)total,
                       (unsigned long long)center->header->layout.length);
    return DK_OK;
}

/* Where this worker keeps what it held of the statistic at that element. */
static inline char *held(const pass *pass, uint64_t at) {
    const dk_call *call = pass->call;
    return call->statistic.held ? (char *)call->statistic.held + (at - pass->split) * pass->item : (char *)call->previous + at * pass->item;
}

static inline dk_status finish(dk_call *call, dk_status status, double start) {
    call->status = status;
    call->seconds = dk_now(CLOCK_MONOTONIC) - start;
    if (status != DK_OK)
        snprintf(call->message, sizeof call->message, "%s", dk_error());
    return status;
}

static inline pass pass_of(dk_call *call, size_t count, void *const *addresses, const uint64_t *lengths) {
    dk_center *center = call->worker->center;
    const dk_layout *layout = &center->layout;
    segments weights = {count, addresses, lengths};
    return (pass){call, center, call->worker, weights, layout->itemsize, layout->length - call->statistic.length, written_by(call), NULL};
}

#endif
