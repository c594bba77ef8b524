/* layout.c: where everything lies in a segment. internal.h has the picture. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "ledger.h"

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

dk_status dk_layout_check(const dk_layout *l) {
    if (l->length == 0 || (l->itemsize != 4 && l->itemsize != 8) || l->slots == 0 || l->states > DK_MAX_VECTORS - 3 ||
        l->statistics > l->length || l->undo > DK_UNDO_NONE)
        return dk_fail(DK_INVALID, "length %llu, itemsize %u, slots %u, states %u, statistics %llu, undo %u", (unsigned long long)l->length,
                       l->itemsize, l->slots, l->states, (unsigned long long)l->statistics, l->undo);
    if (l->stripe_length == 0 || l->stripe_length > UINT32_MAX || l->stripe_length * l->itemsize % 64)
        return dk_fail(DK_INVALID, "stripes of %llu elements do not fill whole cache lines", (unsigned long long)l->stripe_length);
    return DK_OK;
}

static uint64_t undo_block(const dk_layout *layout) {
    uint64_t stripe = layout->stripe_length < layout->length ? layout->stripe_length : layout->length;
    if (layout->undo == DK_UNDO_NONE)
        return 0;
    return layout->undo == DK_UNDO_STRIPE || stripe < DK_BLOCK ? stripe : DK_BLOCK;
}

void dk_layout_plan(dk_header *header, const dk_layout *layout) {
    header->layout = *layout;
    header->stripes = (layout->length + layout->stripe_length - 1) / layout->stripe_length;
    header->slots_at = round_up(sizeof *header, DK_LINE);
    header->members_at = header->slots_at + layout->slots * sizeof(dk_slot);
    header->ledger_at = round_up(header->members_at + layout->slots * sizeof(uint32_t), DK_LINE);
    header->stripes_at = round_up(header->ledger_at + dk_ledger_bytes(layout), DK_LINE);
    header->vectors_at = round_up(header->stripes_at + header->stripes * sizeof(dk_stripe), DK_PAGE);
    header->vector_bytes = round_up(layout->length * layout->itemsize, DK_PAGE);
    header->undo_block = undo_block(layout);
    uint64_t saved = header->undo_block * layout->itemsize * (1 + layout->states);
    header->undo_bytes = saved ? round_up(sizeof(dk_undo) + saved, DK_PAGE) : 0;
    header->undo_at = header->vectors_at + (1 + layout->states) * header->vector_bytes;
    header->fixed = header->undo_at + DK_GUESTS * header->undo_bytes;
    header->bytes = header->fixed + layout->slots * header->undo_bytes;
}

void dk_layout_find(dk_center *center) {
    char *base = (char *)center->header;
    center->layout = center->header->layout;
    center->count = center->header->stripes;
    memcpy(center->note, center->header->note, sizeof center->note);
    center->slots = (dk_slot *)(base + center->header->slots_at);
    center->members = (_Atomic uint32_t *)(base + center->header->members_at);
    center->stripes = (dk_stripe *)(base + center->header->stripes_at);
    center->copy = dk_copy_best();
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* The memory is there; this process has yet to map each page of it, and would do so with others waiting for the stripe. An older kernel
 * refuses: then it happens there. */
void dk_layout_touch(const dk_center *center, uint32_t slot) {
    char *base = (char *)center->header;
    uint64_t bytes = center->header->undo_bytes;
    madvise(base, center->header->fixed, MADV_POPULATE_WRITE);
    if (bytes)
        madvise(base + center->header->fixed + slot * bytes, bytes, MADV_POPULATE_WRITE);
}

char *dk_vector(const dk_center *center, uint32_t index) {
    return (char *)center->header + center->header->vectors_at + index * center->header->vector_bytes;
}

uint64_t dk_stripe_begin(const dk_center *center, uint64_t stripe) { return stripe * center->header->layout.stripe_length; }

uint64_t dk_stripe_end(const dk_center *center, uint64_t stripe) {
    uint64_t end = (stripe + 1) * center->header->layout.stripe_length;
    return end < center->header->layout.length ? end : center->header->layout.length;
}

void dk_versions_read(const dk_center *center, uint64_t *out) {
    for (uint64_t s = 0; s < center->header->stripes; s++)
        out[s] = atomic_load_explicit(&center->stripes[s].version, memory_order_relaxed) / 2;
}
