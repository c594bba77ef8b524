/* exchange.c: the hot path. One pass over the stripes; of each, under its lock: staleness, kernels, version. */
#define _GNU_SOURCE
#include "ledger.h"
#include "pass.h"
#include "undo.h"

/* Each of these returns how many elements it did: fewer than n, if one of those that follow is not finite. */
static uint64_t run_rule(const pass *pass, char *weights, uint64_t at, uint64_t n) {
    dk_call *call = pass->call;
    void *vectors[DK_MAX_VECTORS];
    for (int v = 0; v < call->vectors; v++) {
        int role = call->role[v];
        if (role == DK_WORKER)
            vectors[v] = weights;
        else if (role == DK_PREVIOUS)
            vectors[v] = (char *)call->previous + at * pass->item;
        else
            vectors[v] = dk_vector(pass->center, dk_vector_of(role)) + at * pass->item;
    }
    if (call->looking)
        return call->looking(n, vectors, call->scalars);
    call->kernel(n, vectors, call->scalars);
    return n;
}

static uint64_t run_statistic(const pass *pass, char *weights, uint64_t at, uint64_t n) {
    const dk_statistic *statistic = &pass->call->statistic;
    void *vectors[] = {dk_vector(pass->center, statistic->in_rounds ? 1 : 0) + at * pass->item, weights, NULL};
    if (!statistic->in_rounds)
        vectors[2] = held(pass, at);
    if (pass->call->looking)
        return statistic->looking(n, vectors, &statistic->sharers);
    statistic->kernel(n, vectors, &statistic->sharers);
    return n;
}

static uint64_t run_block(const pass *pass, char *weights, uint64_t at, uint64_t n) {
    uint64_t ruled = at >= pass->split ? 0 : pass->split - at < n ? pass->split - at : n;
    uint64_t done = ruled ? run_rule(pass, weights, at, ruled) : 0;
    if (done == ruled && ruled < n)
        done += run_statistic(pass, weights + ruled * pass->item, at + ruled, n - ruled);
    DK_FAULT(DK_POINT_HALF);
    return done;
}

static dk_status refuse(const pass *pass, const char *weights, uint64_t at) {
    dk_finite finite = dk_finite_for(pass->item);
    for (; finite(1, weights); weights += pass->item)
        at++;
    pass->call->bad_element = at;
    return dk_fail(DK_NOT_FINITE, "NaN or infinity in the worker's element %llu", (unsigned long long)at);
}

/* What is not finite never reaches the center: elements before it are exchanged, it and those after it are not. */
static dk_status run_blocks(const pass *pass, dk_commit *commit, cursor at, uint64_t most, int save) {
    for (uint64_t i = commit->begin, end = i + commit->length, n; i < end; i += n) {
        char *weights = address(&pass->weights, &at, pass->item);
        n = piece(&pass->weights, &at, i, end);
        n = n < most ? n : most;
        if (save)
            dk_commit_save(commit, n);
        DK_FAULT(DK_POINT_SAVED);
        uint64_t done = run_block(pass, weights, i, n);
        if (save)
            dk_commit_add(commit, done);
        DK_FAULT(DK_POINT_ADDED);
        if (done < n)
            return refuse(pass, weights + done * pass->item, i + done);
        advance(&pass->weights, &at, n);
    }
    return DK_OK;
}

static uint64_t block_of(const pass *pass, const dk_commit *commit) {
    if (!commit->area)
        return UINT64_MAX;
    uint64_t most = DK_SAVED / pass->item / (uint64_t)__builtin_popcount(commit->vectors);
    return most < DK_BLOCK ? most : DK_BLOCK;
}

/* Where a stripe is all or nothing it is one block, although the worker's segments cut it, and the kernel runs on pieces. */
static dk_status run_stripe(const pass *pass, dk_commit *commit, cursor at) {
    if (pass->center->layout.undo != DK_UNDO_STRIPE)
        return run_blocks(pass, commit, at, block_of(pass, commit), 1);
    dk_commit_save(commit, commit->length);
    dk_status status = run_blocks(pass, commit, at, UINT64_MAX, 0);
    if (status == DK_OK)
        dk_commit_add(commit, commit->length);
    else
        dk_commit_take_back(commit);
    return status;
}

/* Who hands in is told how many have done so since the last were taken out. */
static void count_hand_in(const pass *pass, dk_commit *commit) {
    commit->arrivals += pass->call->hands_in != 0;
    pass->call->statistic.sharers = commit->stripe->arrivals + 1.0;
}

static dk_status commit_to(const pass *pass, dk_commit *commit, const cursor *at) {
    if (pass->call->statistic.in_rounds)
        count_hand_in(pass, commit);
    dk_commit_begin(commit);
    dk_status status = run_stripe(pass, commit, *at);
    DK_FAULT(DK_POINT_WRITTEN);
    dk_commit_end(commit);
    DK_FAULT(DK_POINT_VERSION);
    return status;
}

static void count(const pass *pass, uint64_t s, uint64_t staleness, uint64_t commits) {
    dk_slot *slot = &pass->center->slots[pass->worker->slot];
    _Atomic uint64_t *bin = &slot->histogram[staleness < DK_HISTOGRAM - 1 ? staleness : DK_HISTOGRAM - 1];
    atomic_store_explicit(bin, atomic_load_explicit(bin, memory_order_relaxed) + 1, memory_order_relaxed);
    pass->worker->seen[s] = commits;
    pass->call->staleness += (double)staleness;
}

/* Waits for the stripe, or is DK_TIMEOUT at once. */
static dk_status exchange_stripe(const pass *pass, const cursor *at, uint64_t s, int wait) {
    dk_call *call = pass->call;
    dk_center *center = pass->center;
    uint32_t holder = pass->worker->slot + 1;
    DK_FAULT(DK_POINT_BEFORE);
    DK_CHECK(wait ? dk_stripe_lock(center, s, holder, call->timeout_s) : dk_stripe_try(center, s, holder));
    DK_FAULT(DK_POINT_LOCKED);
    dk_commit commit = dk_commit_of(center, s, dk_stripe_begin(center, s), dk_stripe_end(center, s), pass->written, 1);
    uint64_t staleness = commit.before / 2 - pass->worker->seen[s];
    if (call->staleness_at >= 0)
        call->scalars[call->staleness_at] = (double)staleness;
    dk_status status = commit_to(pass, &commit, at);
    dk_stripe_unlock(center, s);
    DK_FAULT(DK_POINT_UNLOCKED);
    if (commit.in)
        count(pass, s, staleness, commit.complete / 2);
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
    if (call->looking && statistic->length && !statistic->looking)
        return dk_fail(DK_INVALID, "a kernel that looks at the worker, and another for statistics that does not");
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

static dk_status exchange_all(pass *pass) {
    dk_call *call = pass->call;
    uint64_t stripes = pass->center->header->stripes;
    DK_CHECK(check_call(call, pass->center));
    DK_CHECK(check_lengths(pass->center, &pass->weights));
    DK_CHECK(dk_broken(pass->center));
    if (call->bounded)
        DK_CHECK(dk_pace_keep(call));
    DK_CHECK(dk_settle_begin(pass->worker, call->settles, &pass->hold));
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
    dk_settle_end(pass->hold);
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
    dk_slot_begin(pass.worker);
    if (finish(call, exchange_all(&pass), start) == DK_OK) {
        dk_slot_complete(pass.worker);
        add_to(&slot->exchange_seconds, call->seconds);
        add_to(&slot->staleness_sum, call->staleness);
    } else {
        dk_settle_fail(pass.hold, slot);
    }
    dk_worker_end(pass.worker);
    return call->status;
}
