/* block.c: what a codec encodes, block by block: values and what was held back of them. */
#include <math.h>
#include <string.h>

#include "block.h"

uint64_t dk_block_length(uint64_t n, uint64_t at) { return n - at < DK_CODEC_BLOCK ? n - at : DK_CODEC_BLOCK; }

dk_status dk_block_gather(const dk_source *source, uint64_t at, dk_block *sum, double *magnitude) {
    uint64_t n = dk_block_length(source->n, at), begin = at * source->itemsize;
    uint64_t bits = source->scan->gather(n, source->values + begin, source->residual ? source->residual + begin : NULL, sum);
    memset(sum->bytes + n * source->itemsize, 0, (DK_CODEC_BLOCK - n) * source->itemsize);
    uint32_t half = (uint32_t)bits;
    float narrow;
    memcpy(&narrow, &half, sizeof narrow);
    memcpy(magnitude, &bits, sizeof bits);
    if (source->itemsize == sizeof(float))
        *magnitude = narrow;
    if (isfinite(*magnitude))
        return DK_OK;
    uint64_t i = 0;
    while (dk_finite_for(source->itemsize)(1, sum->bytes + i * source->itemsize))
        i++;
    return dk_fail(DK_NOT_FINITE, "NaN or infinity in element %llu of what is to be encoded", (unsigned long long)(at + i));
}
