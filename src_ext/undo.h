/* undo.h: a commit to a stripe, and what makes it exact when its owner is killed. Inline: it is on the hot path.
 *
 * Design:
 * (a) A version is odd while a commit is under way. Who dies between two versions leaves an odd one behind.
 * (b) Before a block is written, what it is about to overwrite is saved in the owner's undo area, which lies in the segment. One store
 *     of `progress` opens the block, once it is saved, and one store completes it: no death between two stores can misreport.
 * (c) Who finds a dead owner's lock puts the open block back (undo.c): so whole blocks of the commit are in, from its first on. Where the
 *     area is as large as a stripe, the stripe is one block.
 * (d) SIGKILL is precise: stores before it have happened, those after it never do. So the compiler must keep their order, and the
 *     processor need not: whoever looks has the lock, which the kernel passed on. */
#ifndef DKCORE_UNDO_H
#define DKCORE_UNDO_H

#include <string.h>

#include "internal.h"

#define DK_IN_ORDER() atomic_signal_fence(memory_order_seq_cst)

/* One commit of one holder. */
typedef struct dk_commit {
    dk_center *center;
    dk_stripe *stripe;
    dk_slot *slot;             /* whose exchange it is a part of; NULL: of none */
    dk_undo *area;             /* NULL: nothing will be undone */
    uint64_t begin, length;    /* its first element, and how many it writes */
    uint64_t in;               /* how many are in */
    uint64_t before, complete; /* the stripe's version; what it becomes */
    uint32_t vectors;          /* bits of those that it writes, as dk_vector counts them */
    uint32_t arrivals;         /* of the stripe, once it is complete */
} dk_commit;

static inline dk_undo *dk_undo_of(const dk_center *center, uint32_t holder) {
    const dk_header *header = center->header;
    uint64_t slots = header->layout.slots; /* holders up to here have one */
    uint64_t index = holder > slots ? holder - slots - 1 : holder - 1 + DK_GUESTS;
    return (dk_undo *)((char *)header + header->undo_at + index * header->undo_bytes);
}

/* Of the lock's holder to elements of a stripe, which counts as so many commits. */
static inline dk_commit dk_commit_of(dk_center *center, uint64_t s, uint64_t begin, uint64_t end, uint32_t vectors, uint64_t counts) {
    dk_stripe *stripe = &center->stripes[s];
    uint64_t version = atomic_load_explicit(&stripe->version, memory_order_relaxed);
    uint32_t holder = atomic_load_explicit(&stripe->holder, memory_order_relaxed);
    dk_undo *area = center->header->undo_block && vectors ? dk_undo_of(center, holder) : NULL;
    dk_slot *slot = holder && holder <= center->header->layout.slots ? &center->slots[holder - 1] : NULL;
    return (dk_commit){center, stripe, slot, area, begin, end - begin, 0, version, version + 2 * counts, vectors, stripe->arrivals};
}

/* What the slot will say once the stripe has the commit whole. */
static inline uint64_t dk_commit_stripes_in(const dk_commit *commit) {
    return commit->slot ? atomic_load_explicit(&commit->slot->stripes_in, memory_order_relaxed) + 1 : 0;
}

static inline void dk_commit_tell_whole(const dk_commit *commit) {
    if (commit->slot)
        atomic_store_explicit(&commit->slot->stripes_in, dk_commit_stripes_in(commit), memory_order_relaxed);
}

static inline void dk_commit_tell_part(const dk_commit *commit, uint64_t in_part) {
    if (commit->slot)
        atomic_store_explicit(&commit->slot->in_part, in_part, memory_order_relaxed);
}

/* From here on a death is one within the commit. Where nothing will be undone, the slot says meanwhile that a part may be in. */
static inline void dk_commit_begin(const dk_commit *commit) {
    dk_undo *area = commit->area;
    if (!area) {
        dk_commit_tell_part(commit, 1);
    } else {
        area->stripes_in = dk_commit_stripes_in(commit);
        area->begin = commit->begin, area->length = commit->length, area->complete = commit->complete;
        area->vectors = commit->vectors, area->arrivals = commit->arrivals;
        atomic_store_explicit(&area->progress, 0, memory_order_relaxed);
        DK_IN_ORDER();
        atomic_store_explicit(&area->stripe, (uint64_t)(commit->stripe - commit->center->stripes) + 1, memory_order_relaxed);
    }
    DK_IN_ORDER();
    if (commit->vectors)
        atomic_store_explicit(&commit->stripe->version, commit->before + 1, memory_order_relaxed);
    DK_IN_ORDER();
}

/* The next block, of who need not mind where the worker's segments end: so many elements; 0: all are in. */
static inline uint64_t dk_commit_block(const dk_commit *commit) {
    uint64_t left = commit->length - commit->in, most = commit->center->header->undo_block;
    return most && most < left ? most : left;
}

/* A block is about to be written: the n elements that follow those that are in. */
static inline void dk_commit_save(const dk_commit *commit, uint64_t n) {
    dk_undo *area = commit->area;
    if (!area)
        return;
    const dk_header *header = commit->center->header;
    uint64_t item = header->layout.itemsize, at = (commit->begin + commit->in) * item;
    char *room = (char *)(area + 1);
    for (uint32_t k = 0, left = commit->vectors; left; k++, left >>= 1)
        if (left & 1) {
            commit->center->copy(n * item, dk_vector(commit->center, k) + at, room);
            room += header->undo_block * item;
        }
    DK_IN_ORDER();
    atomic_store_explicit(&area->progress, commit->in << 32 | n, memory_order_relaxed);
    DK_IN_ORDER();
}

/* The block is written. */
static inline void dk_commit_add(dk_commit *commit, uint64_t n) {
    commit->in += n;
    DK_IN_ORDER();
    if (commit->area)
        atomic_store_explicit(&commit->area->progress, commit->in << 32, memory_order_relaxed);
    DK_IN_ORDER();
}

/* The owner itself gives up a block that it has only half written. */
static inline void dk_commit_take_back(const dk_commit *commit) {
    if (commit->area)
        dk_undo_put_back(commit->center, commit->area);
}

/* It counts if any of it is in. Hand-ins are counted when they are whole. The slot is told before the area is cleared: until then, who
 * mends the stripe would tell it the same. */
static inline void dk_commit_end(const dk_commit *commit) {
    int whole = commit->in == commit->length;
    if (whole) {
        commit->stripe->arrivals = commit->arrivals;
        dk_commit_tell_whole(commit);
    } else if (commit->in) {
        dk_commit_tell_part(commit, 1);
    }
    DK_IN_ORDER();
    atomic_store_explicit(&commit->stripe->version, whole || commit->in ? commit->complete : commit->before, memory_order_relaxed);
    DK_IN_ORDER();
    if (commit->area)
        atomic_store_explicit(&commit->area->stripe, 0, memory_order_relaxed);
    else if (whole || !commit->in)
        dk_commit_tell_part(commit, 0);
    DK_IN_ORDER();
}

#endif
