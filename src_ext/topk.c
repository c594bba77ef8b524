/* topk.c: the codec that sends only the largest magnitudes.
 *
 * They are found without sorting: a histogram of the magnitudes' leading bits says which of its bins the k-th largest lies in,
 * the next bits of those in that bin are counted likewise, and so on until a bin is taken whole or no bits are left. The
 * magnitude of a float is compared as an integer. The sum is formed anew in every pass: memory is read, not written. */
#include <string.h>

#include "block.h"

enum { DIGIT = 11 }; /* bits of one histogram */
typedef uint32_t histogram[1 << DIGIT];

/* Of two magnitudes whose leading bits (all but `shift`) are those of `prefix`, the one of the lower index is kept. */
typedef struct threshold {
    uint64_t prefix, wanted; /* wanted: how many of those with just this prefix are kept; all above it are */
    uint32_t shift;
} threshold;

static inline uint64_t magnitude(const dk_block *block, uint64_t i, uint32_t itemsize) {
    uint32_t narrow;
    uint64_t wide;
    if (itemsize == sizeof narrow) {
        memcpy(&narrow, block->narrow + i, sizeof narrow);
        return narrow & 0x7fffffffu;
    }
    memcpy(&wide, block->wide + i, sizeof wide);
    return wide & 0x7fffffffffffffffu;
}

/* Counts the bits from `shift` on of all that have the prefix. In two histograms by turns: neighbours are alike, and a counter
 * that was just written cannot be raised again at once. */
static dk_status count(const dk_source *source, threshold at, uint32_t shift, histogram *counts) {
    uint64_t low = at.prefix << at.shift, high = low + ((1ull << at.shift) - 1);
    uint32_t itemsize = source->itemsize, mask = (1u << (at.shift - shift)) - 1;
    dk_block sum;
    uint16_t picked[DK_CODEC_BLOCK + 1]; /* one that is not picked may be written after them */
    double largest;
    int all = at.shift == 8 * itemsize - 1;
    for (uint16_t j = 0; all && j < DK_CODEC_BLOCK; j++)
        picked[j] = j;
    memset(counts, 0, 2 * sizeof *counts);
    for (uint64_t i = 0; i < source->n; i += DK_CODEC_BLOCK) {
        DK_CHECK(dk_block_gather(source, i, &sum, &largest));
        size_t n = dk_block_length(source->n, i), found = all ? n : source->scan->pick(n, &sum, low, high, picked);
        for (size_t j = 0; j < found; j++)
            counts[j & 1][magnitude(&sum, picked[j], itemsize) >> shift & mask]++;
    }
    return DK_OK;
}

/* One histogram further; 1 in *done when it settles who is kept. */
static dk_status refine(const dk_source *source, threshold *at, int *done) {
    histogram counts[2];
    uint32_t shift = at->shift > DIGIT ? at->shift - DIGIT : 0;
    DK_CHECK(count(source, *at, shift, counts));
    uint32_t bin = (1u << (at->shift - shift)) - 1;
    for (; at->wanted > counts[0][bin] + counts[1][bin]; bin--)
        at->wanted -= counts[0][bin] + counts[1][bin];
    *done = shift == 0 || at->wanted == counts[0][bin] + counts[1][bin];
    at->prefix = at->prefix << (at->shift - shift) | bin;
    at->shift = shift;
    return DK_OK;
}

/* Writes one block: all into the residual, and from there those that are kept into values and message. */
static uint64_t split(const dk_source *source, uint64_t begin, threshold *at, const dk_block *sum, char *indices, char *kept) {
    uint64_t n = dk_block_length(source->n, begin), taken = 0;
    uint32_t itemsize = source->itemsize;
    char *values = source->values + begin * itemsize, *residual = source->residual ? source->residual + begin * itemsize : NULL;
    uint16_t picked[DK_CODEC_BLOCK + 1];
    size_t found = source->scan->pick(n, sum, at->prefix << at->shift, UINT64_MAX >> (64 - 8 * itemsize + 1), picked);
    memset(values, 0, n * itemsize);
    if (residual)
        memcpy(residual, sum, n * itemsize);
    for (size_t j = 0; j < found; j++) {
        uint32_t i = picked[j], index = (uint32_t)(begin + i);
        int last = magnitude(sum, i, itemsize) >> at->shift == at->prefix;
        if (last && at->wanted == 0)
            continue;
        at->wanted -= last;
        memcpy(indices + taken * sizeof index, &index, sizeof index);
        memcpy(kept + taken++ * itemsize, sum->bytes + i * itemsize, itemsize);
        memcpy(values + i * itemsize, sum->bytes + i * itemsize, itemsize);
        if (residual)
            memset(residual + i * itemsize, 0, itemsize);
    }
    return taken;
}

dk_status dk_topk_encode(const dk_source *source, uint64_t kept, char *bytes) {
    threshold at = {0, kept, 8 * source->itemsize - 1};
    for (int done = kept == 0; !done;)
        DK_CHECK(refine(source, &at, &done));
    char *numbers = bytes + kept * sizeof(uint32_t);
    dk_block sum;
    double largest;
    for (uint64_t i = 0; i < source->n; i += DK_CODEC_BLOCK) {
        DK_CHECK(dk_block_gather(source, i, &sum, &largest));
        uint64_t taken = split(source, i, &at, &sum, bytes, numbers);
        bytes += taken * sizeof(uint32_t);
        numbers += taken * source->itemsize;
    }
    return DK_OK;
}

dk_status dk_topk_decode(uint32_t itemsize, uint64_t kept, uint64_t n, const char *bytes, char *values, int add) {
    const char *numbers = bytes + kept * sizeof(uint32_t);
    if (!add && n > 0)
        memset(values, 0, n * itemsize);
    for (uint64_t k = 0; k < kept; k++, numbers += itemsize) {
        uint32_t index;
        memcpy(&index, bytes + k * sizeof index, sizeof index);
        if (index >= n) /* it came over a wire */
            return dk_fail(DK_INVALID, "a message of topk names element %u of %llu", index, (unsigned long long)n);
        char *value = values + index * (uint64_t)itemsize;
        float narrow;
        double wide;
        if (!add)
            memcpy(value, numbers, itemsize);
        else if (itemsize == sizeof narrow)
            memcpy(&narrow, numbers, sizeof narrow), *(float *)value += narrow;
        else
            memcpy(&wide, numbers, sizeof wide), *(double *)value += wide;
    }
    return DK_OK;
}
