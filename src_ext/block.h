/* block.h: what a codec's files share: the blocks of what is to be encoded, and how they are looked at. */
#ifndef DKCORE_BLOCK_H
#define DKCORE_BLOCK_H

#include "internal.h"

/* How a codec looks at a block; of each instruction set, see scan.c.
 * gather: OUT sum = values + residual (NULL: values); returns the bits of the largest magnitude.
 * pick: OUT picked: indices of those whose magnitude has bits from low to high, ascending; returns how many. It reads and writes
 * beyond n, but within the block, and one index more. */
typedef struct dk_scan {
    uint64_t (*gather)(size_t n, const void *values, const void *residual, void *sum);
    size_t (*pick)(size_t n, const void *sum, uint64_t low, uint64_t high, uint16_t *picked);
} dk_scan;
const dk_scan *dk_scan_find(uint32_t itemsize, const char *isa); /* NULL: the widest that runs here */

/* What is to be encoded: values + residual, block by block. */
typedef struct dk_source {
    uint64_t n;
    uint32_t itemsize;
    char *values, *residual; /* residual: may be NULL */
    const dk_scan *scan;
} dk_source;
typedef union dk_block {
    float narrow[DK_CODEC_BLOCK];
    double wide[DK_CODEC_BLOCK];
    char bytes[DK_CODEC_BLOCK * sizeof(double)];
} dk_block;
uint64_t dk_block_length(uint64_t n, uint64_t at);
/* OUT sum: of the block at that element, then zeros; OUT magnitude: its largest. DK_NOT_FINITE names the element. */
dk_status dk_block_gather(const dk_source *source, uint64_t at, dk_block *sum, double *magnitude);
dk_status dk_topk_encode(const dk_source *source, uint64_t kept, char *bytes);
dk_status dk_topk_decode(uint32_t itemsize, uint64_t kept, uint64_t n, const char *bytes, char *values, int add);

#endif
