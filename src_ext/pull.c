/* pull.c: how a worker joins: it takes the center over, stripe by stripe, and nothing is stale. */
#define _GNU_SOURCE
#include <string.h>

#include "pass.h"

static dk_status pull_all(const pass *pass) {
    DK_CHECK(check_lengths(pass->center, &pass->weights));
    DK_CHECK(dk_broken(pass->center));
    cursor at = {0, 0};
    advance(&pass->weights, &at, 0);
    for (uint64_t s = 0; s < pass->center->header->stripes; s++) {
        uint64_t end = dk_stripe_end(pass->center, s);
        DK_CHECK(dk_stripe_lock(pass->center, s, pass->worker->slot + 1, pass->call->timeout_s));
        for (uint64_t i = dk_stripe_begin(pass->center, s), n; i < end; i += n) {
            const char *from = dk_vector(pass->center, 0) + i * pass->item;
            n = piece(&pass->weights, &at, i, end);
            memcpy(address(&pass->weights, &at, pass->item), from, n * pass->item);
            if (pass->call->previous)
                memcpy((char *)pass->call->previous + i * pass->item, from, n * pass->item);
            if (pass->call->statistic.held && i + n > pass->split) {
                uint64_t ruled = i < pass->split ? pass->split - i : 0;
                memcpy(held(pass, i + ruled), from + ruled * pass->item, (n - ruled) * pass->item);
            }
            advance(&pass->weights, &at, n);
        }
        pass->worker->seen[s] = atomic_load_explicit(&pass->center->stripes[s].version, memory_order_relaxed) / 2;
        dk_stripe_unlock(pass->center, s);
    }
    return DK_OK;
}

dk_status dk_pull(dk_call *call, size_t count, void *const *addresses, const uint64_t *lengths) {
    pass pass = pass_of(call, count, addresses, lengths);
    double start = dk_now(CLOCK_MONOTONIC);
    dk_status status = dk_worker_begin(pass.worker);
    if (status != DK_OK)
        return status == DK_BUSY ? status : finish(call, status, start);
    finish(call, pull_all(&pass), start);
    dk_worker_end(pass.worker);
    return call->status;
}
