/* undo.c: what becomes of a stripe whose lock's owner died. undo.h says what it left behind.
 *
 * Design:
 * (a) Who mends a stripe may die, too, after any instruction; then the next who locks it mends it. So each step may be done again.
 * (b) Putting back is: it copies from the area, which stays as it is. What can be done once only, counting, is first written beside
 *     the stripe as what is to be (next_*). One store of `mending` makes that valid; from then on it is just copied.
 * (c) holder leads to the dead owner's area. So it changes last, when all is over. */
#define _GNU_SOURCE
#include "undo.h"

/* The block that was open: its elements may be half written. */
void dk_undo_put_back(const dk_center *center, const dk_undo *area) {
    uint64_t progress = atomic_load_explicit(&area->progress, memory_order_relaxed);
    uint64_t item = center->header->layout.itemsize, saved = progress & UINT32_MAX, at = area->begin + (progress >> 32);
    const char *room = (const char *)(area + 1);
    for (uint32_t k = 0, left = area->vectors; left; k++, left >>= 1)
        if (left & 1) {
            memcpy(dk_vector(center, k) + at * item, room, saved * item);
            room += center->header->undo_block * item;
        }
}

/* A commit counts once if any of it is in, and else not at all. */
static void foresee(dk_stripe *stripe, const dk_undo *area) {
    uint64_t version = atomic_load_explicit(&stripe->version, memory_order_relaxed);
    uint64_t in = area ? atomic_load_explicit(&area->progress, memory_order_relaxed) >> 32 : 0;
    int begun = version % 2 == 1, whole = begun && area && in == area->length, undone = begun && area && !whole && in == 0;
    int part = begun && area && !whole && !undone;
    stripe->next_recovered = atomic_load_explicit(&stripe->recovered, memory_order_relaxed) + 1;
    stripe->next_undone = atomic_load_explicit(&stripe->undone, memory_order_relaxed) + (uint32_t)undone;
    stripe->next_kept = atomic_load_explicit(&stripe->kept, memory_order_relaxed) + (uint32_t)part;
    stripe->next_elements = atomic_load_explicit(&stripe->elements, memory_order_relaxed) + (part ? in : 0);
    stripe->next_arrivals = whole ? area->arrivals : stripe->arrivals;
    if (undone)
        stripe->next_version = version - 1;
    else if (begun && area)
        stripe->next_version = area->complete;
    else
        stripe->next_version = version + (uint64_t)begun; /* begun: nobody knows; some of it may be in */
}

/* What the dead owner's slot says of its exchange. It is whole, or in part, for as long as the area is there: this may be repeated. */
static void tell(dk_center *center, uint32_t holder, const dk_undo *area) {
    uint64_t in = area ? atomic_load_explicit(&area->progress, memory_order_relaxed) >> 32 : 0;
    if (!in || holder > center->header->layout.slots)
        return;
    dk_slot *slot = &center->slots[holder - 1];
    if (in == area->length)
        atomic_store_explicit(&slot->stripes_in, area->stripes_in, memory_order_relaxed);
    else
        atomic_store_explicit(&slot->in_part, 1, memory_order_relaxed);
}

static void fulfil(dk_stripe *stripe) {
    atomic_store_explicit(&stripe->recovered, stripe->next_recovered, memory_order_relaxed);
    atomic_store_explicit(&stripe->undone, stripe->next_undone, memory_order_relaxed);
    atomic_store_explicit(&stripe->kept, stripe->next_kept, memory_order_relaxed);
    atomic_store_explicit(&stripe->elements, stripe->next_elements, memory_order_relaxed);
    atomic_store_explicit(&stripe->version, stripe->next_version, memory_order_relaxed);
    stripe->arrivals = stripe->next_arrivals;
}

void dk_undo_mend(dk_center *center, uint64_t index) {
    dk_stripe *stripe = &center->stripes[index];
    uint32_t holder = atomic_load_explicit(&stripe->holder, memory_order_relaxed);
    dk_undo *area = holder && center->header->undo_block ? dk_undo_of(center, holder) : NULL;
    if (area && atomic_load_explicit(&area->stripe, memory_order_relaxed) != index + 1)
        area = NULL; /* its owner is elsewhere, or died before it began to write, or after it was through */
    if (!stripe->mending) {
        if (area)
            dk_undo_put_back(center, area);
        DK_FAULT(DK_POINT_PUT_BACK);
        foresee(stripe, area);
        DK_IN_ORDER();
        stripe->mending = 1;
        DK_FAULT(DK_POINT_FORESEEN);
    }
    DK_IN_ORDER();
    fulfil(stripe);
    tell(center, holder, area);
    DK_IN_ORDER();
    if (area)
        atomic_store_explicit(&area->stripe, 0, memory_order_relaxed);
    DK_IN_ORDER();
    pthread_mutex_consistent(&stripe->lock);
    DK_IN_ORDER();
    stripe->mending = 0;
    DK_IN_ORDER();
    DK_FAULT(DK_POINT_MENDED);
}
