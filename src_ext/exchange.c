/* exchange.c: the hot path. One pass over the stripes; of each, under its lock: staleness, kernels, version. */
#define _GNU_SOURCE
#include "pass.h"

/* Elements that are checked, and then exchanged, at a time: few enough that the kernel finds them in the first cache, and that
 * the processor does not stop to fetch the other vectors meanwhile (2048 cost 16 % of the bandwidth, 512 cost 5 %). */
enum { BLOCK = 512 };

static void run_rule(const pass *pass, char *weights, uint64_t at, uint64_t n) {
    dk_call *call = pass->call;
    void *vectors[DK_MAX_VECTORS];
    for (int v = 0; v < call->vectors; v++) {
        int role = call->role[v];
        if (role == DK_WORKER)
            vectors[v] = weights;
        else if (role == DK_PREVIOUS)
            vectors[v] = (char *)call->previous + at * pass->item;
        else
            vectors[v] = dk_vector(pass->center, role == DK_CENTER ? 0 : (uint32_t)(role - DK_STATE + 1)) + at * pass->item;
    }
    call->kernel(n, vectors, call->scalars);
}

static void run_statistic(const pass *pass, char *weights, uint64_t at, uint64_t n) {
    const dk_statistic *statistic = &pass->call->statistic;
    void *vectors[] = {dk_vector(pass->center, statistic->in_rounds ? 1 : 0) + at * pass->item, weights, NULL};
    if (!statistic->in_rounds)
        vectors[2] = held(pass, at);
    statistic->kernel(n, vectors, &statistic->sharers);
}

static void run_block(const pass *pass, char *weights, uint64_t at, uint64_t n) {
    if (at + n <= pass->split) {
        run_rule(pass, weights, at, n);
    } else {
        uint64_t ruled = at < pass->split ? pass->split - at : 0;
        if (ruled)
            run_rule(pass, weights, at, ruled);
        run_statistic(pass, weights + ruled * pass->item, at + ruled, n - ruled);
    }
    DK_FAULT(DK_POINT_HALF);
}

/* What is not finite never reaches the center: the blocks before it are exchanged, it and those after it are not. */
static dk_status run_stripe(const pass *pass, cursor at, uint64_t begin, uint64_t end) {
    dk_finite finite = pass->call->check_finite ? dk_finite_for(pass->item) : NULL;
    for (uint64_t i = begin, n; i < end; i += n) {
        char *weights = address(&pass->weights, &at, pass->item);
        n = piece(&pass->weights, &at, i, end);
        if (finite && n > BLOCK)
            n = BLOCK;
        if (finite && !finite(n, weights)) {
            for (; finite(1, weights); weights += pass->item)
                i++;
            pass->call->bad_element = i;
            return dk_fail(DK_NOT_FINITE, "NaN or infinity in the worker's element %llu", (unsigned long long)i);
        }
        run_block(pass, weights, i, n);
        advance(&pass->weights, &at, n);
    }
    return DK_OK;
}

/* Who hands a statistic in is told how many have done so in this round. Counted once it is in: who fails is not of them. */
static dk_status run_round(const pass *pass, cursor at, uint64_t s, uint64_t begin, uint64_t end) {
    dk_stripe *stripe = &pass->center->stripes[s];
    uint32_t round = atomic_load(&pass->center->header->gates[DK_GATE_ROUND].opened);
    if (stripe->round != round)
        stripe->arrivals = 0;
    stripe->round = round;
    pass->call->statistic.sharers = stripe->arrivals + 1.0;
    DK_CHECK(run_stripe(pass, at, begin, end));
    stripe->arrivals++;
    return DK_OK;
}

/* Waits for the stripe, or is DK_TIMEOUT at once. */
static dk_status exchange_stripe(const pass *pass, const cursor *at, uint64_t s, int wait) {
    dk_call *call = pass->call;
    dk_slot *slot = &pass->center->slots[pass->worker->slot];
    dk_stripe *stripe = &pass->center->stripes[s];
    uint64_t begin = dk_stripe_begin(pass->center, s), end = dk_stripe_end(pass->center, s);
    DK_FAULT(DK_POINT_BEFORE);
    uint32_t holder = pass->worker->slot + 1;
    DK_CHECK(wait ? dk_stripe_lock(pass->center, s, holder, call->timeout_s) : dk_stripe_try(pass->center, s, holder));
    DK_FAULT(DK_POINT_LOCKED);
    uint64_t version = atomic_load_explicit(&stripe->version, memory_order_relaxed);
    uint64_t staleness = version - pass->worker->seen[s];
    if (call->staleness_at >= 0)
        call->scalars[call->staleness_at] = (double)staleness;
    dk_status status = call->statistic.in_rounds ? run_round(pass, *at, s, begin, end) : run_stripe(pass, *at, begin, end);
    DK_FAULT(DK_POINT_WRITTEN);
    atomic_store_explicit(&stripe->version, version + 1, memory_order_relaxed);
    DK_FAULT(DK_POINT_VERSION);
    dk_stripe_unlock(pass->center, s);
    DK_FAULT(DK_POINT_UNLOCKED);
    pass->worker->seen[s] = version + 1;
    _Atomic uint64_t *bin = &slot->histogram[staleness < DK_HISTOGRAM - 1 ? staleness : DK_HISTOGRAM - 1];
    atomic_store_explicit(bin, atomic_load_explicit(bin, memory_order_relaxed) + 1, memory_order_relaxed);
    call->staleness += (double)staleness;
    return status;
}

static void add_to(_Atomic double *field, double by) {
    atomic_store_explicit(field, atomic_load_explicit(field, memory_order_relaxed) + by, memory_order_relaxed);
}

static dk_status check_call(const dk_call *call, const dk_center *center) {
    for (int v = 0; v < call->vectors; v++)
        if (call->role[v] >= DK_STATE && (uint32_t)(call->role[v] - DK_STATE) >= center->header->layout.states)
            return dk_fail(DK_INVALID, "the rule has more state vectors than center %s (%u)", center->name, center->header->layout.states);
    const dk_statistic *statistic = &call->statistic;
    int nowhere = statistic->in_rounds ? center->header->layout.states == 0 : !statistic->held && !call->previous;
    if (statistic->length > center->header->layout.length || (statistic->length && nowhere))
        return dk_fail(DK_INVALID, "%llu statistics in a center of %llu, and %s memory for what was held of them",
                       (unsigned long long)statistic->length, (unsigned long long)center->header->layout.length, nowhere ? "no" : "some");
    return DK_OK;
}

/* Stripes that others held when we came by, and where they begin in the worker. Who holds a stripe may have lost its core,
 * and then keeps it for milliseconds: we go on, and come back in the end. More than these are waited for at once. */
enum { LATE = 64 };
typedef struct late {
    uint64_t stripe[LATE];
    cursor at[LATE];
    int count;
} late;

static dk_status exchange_or_defer(const pass *pass, const cursor *at, uint64_t s, late *late) {
    dk_status status = exchange_stripe(pass, at, s, late->count == LATE);
    if (status != DK_TIMEOUT || late->count == LATE)
        return status;
    late->stripe[late->count] = s;
    late->at[late->count++] = *at;
    return DK_OK;
}

static double workers_of_all_nodes(const dk_center *center, uint32_t live) {
    return (live > 1 ? live : 1) + atomic_load_explicit(&center->header->others, memory_order_relaxed);
}

static dk_status exchange_all(const pass *pass) {
    dk_call *call = pass->call;
    uint64_t stripes = pass->center->header->stripes;
    DK_CHECK(check_call(call, pass->center));
    DK_CHECK(check_lengths(pass->center, &pass->weights));
    DK_CHECK(dk_broken(pass->center));
    if (call->bounded)
        DK_CHECK(dk_pace_keep(call));
    uint32_t live = atomic_load_explicit(&pass->center->header->live, memory_order_relaxed);
    if (call->workers_at >= 0)
        call->scalars[call->workers_at] = workers_of_all_nodes(pass->center, live);
    call->statistic.sharers = live > 1 ? live : 1;
    /* Each worker starts at its own place, so that workers that start together do not queue at the first stripe. */
    uint64_t first = live > 1 ? pass->worker->slot % live * stripes / live : 0;
    cursor at = {0, 0};
    late late;
    late.count = 0;
    advance(&pass->weights, &at, dk_stripe_begin(pass->center, first));
    for (uint64_t k = 0, s = first; k < stripes; k++) {
        DK_CHECK(exchange_or_defer(pass, &at, s, &late));
        advance(&pass->weights, &at, dk_stripe_end(pass->center, s) - dk_stripe_begin(pass->center, s));
        if (++s == stripes) {
            s = 0;
            at = (cursor){0, 0};
            advance(&pass->weights, &at, 0); /* past empty segments */
        }
    }
    for (int k = 0; k < late.count; k++)
        DK_CHECK(exchange_stripe(pass, &late.at[k], late.stripe[k], 1));
    call->staleness /= (double)stripes;
    return DK_OK;
}

dk_status dk_exchange(dk_call *call, size_t count, void *const *addresses, const uint64_t *lengths) {
    pass pass = pass_of(call, count, addresses, lengths);
    double start = dk_now(CLOCK_MONOTONIC);
    dk_status status = dk_worker_begin(pass.worker);
    if (status != DK_OK)
        return status == DK_BUSY ? status : finish(call, status, start);
    dk_slot *slot = &pass.center->slots[pass.worker->slot];
    call->staleness = 0;
    if (finish(call, exchange_all(&pass), start) == DK_OK) {
        atomic_store_explicit(&slot->exchanges, atomic_load_explicit(&slot->exchanges, memory_order_relaxed) + 1, memory_order_relaxed);
        add_to(&slot->exchange_seconds, call->seconds);
        add_to(&slot->staleness_sum, call->staleness);
    }
    dk_worker_end(pass.worker);
    return call->status;
}
