/* codec.c: encoding and decoding in blocks that stay in the first-level cache. The kernels are printed from
 * dkcore/engine/codec_formulas.py. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "block.h"

#define SCALE_LARGEST 0x1p121 /* 127 times it is still a float32 */

static const struct {
    const char *name;
    uint32_t bytes; /* of an element; 0: those of the center */
    uint32_t scale; /* bytes before each block */
} codecs[] = {{"none", 0, 0}, {"bf16", 2, 0}, {"fp16", 2, 0}, {"int8", 1, sizeof(float)}, {"topk", 0, 0}};

static dk_status check(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n) {
    if ((unsigned)kind >= sizeof codecs / sizeof codecs[0])
        return dk_fail(DK_INVALID, "no codec has the number %d", (int)kind);
    if (itemsize != sizeof(float) && itemsize != sizeof(double))
        return dk_fail(DK_INVALID, "no codec for elements of %u bytes: 4 or 8", itemsize);
    if (kind == DK_CODEC_TOPK && !(fraction > 0 && fraction <= 1))
        return dk_fail(DK_INVALID, "topk of the fraction %g: it must be above 0, and 1 at most", fraction);
    if (kind == DK_CODEC_TOPK && n > UINT32_MAX)
        return dk_fail(DK_INVALID, "topk of %llu elements: its indices have 32 bits", (unsigned long long)n);
    return DK_OK;
}

static uint64_t kept_of(double fraction, uint64_t n) {
    uint64_t kept = (uint64_t)nearbyint(fraction * (double)n);
    return n == 0 ? 0 : kept == 0 ? 1 : kept;
}

uint64_t dk_codec_bytes(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n) {
    if (check(kind, itemsize, fraction, n) != DK_OK)
        return 0;
    if (kind == DK_CODEC_TOPK)
        return kept_of(fraction, n) * (sizeof(uint32_t) + itemsize);
    uint64_t blocks = n / DK_CODEC_BLOCK + (n % DK_CODEC_BLOCK != 0);
    return n * (codecs[kind].bytes ? codecs[kind].bytes : itemsize) + blocks * codecs[kind].scale;
}

static dk_kernel kernel_of(dk_codec kind, uint32_t itemsize, const char *pass) {
    char name[32];
    snprintf(name, sizeof name, "%s_%s", codecs[kind].name, pass);
    return dk_kernel_find(name, itemsize == sizeof(float) ? "float32" : "float64", NULL);
}

/* Begins to load the values of a block. Always inline: gcc 12 drops calls of functions that only prefetch. */
static inline __attribute__((always_inline)) void look_ahead(const dk_source *source, uint64_t at) {
    const char *begin = source->values + at * source->itemsize;
    for (uint64_t i = 0; i < dk_block_length(source->n, at) * source->itemsize; i += DK_LINE / 2)
        __builtin_prefetch(begin + i, 1, 2);
}

static dk_status encode_blocks(dk_codec kind, const dk_source *source, char *bytes) {
    dk_kernel kernel = kernel_of(kind, source->itemsize, "encode");
    dk_block sum, spare;
    for (uint64_t at = 0, n; at < source->n; at += n) {
        n = dk_block_length(source->n, at);
        double magnitude;
        DK_CHECK(dk_block_gather(source, at, &sum, &magnitude));
        if (kind >= DK_CODEC_FP16) /* they compute for so long that memory would idle; the others lose by it */
            look_ahead(source, at + n);
        float scale = (float)fmin(magnitude / 127, SCALE_LARGEST);
        memcpy(bytes, &scale, codecs[kind].scale);
        bytes += codecs[kind].scale;
        char *residual = source->residual ? source->residual + at * source->itemsize : spare.bytes;
        kernel(n, (void *[]){&sum, bytes, source->values + at * source->itemsize, residual}, &(double){scale});
        bytes += dk_codec_bytes(kind, source->itemsize, 1, n) - codecs[kind].scale;
    }
    return DK_OK;
}

dk_status dk_encode(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, void *values, void *residual, void *bytes) {
    DK_CHECK(check(kind, itemsize, fraction, n));
    dk_source source = {n, itemsize, values, residual, dk_scan_find(itemsize, NULL)};
    return kind == DK_CODEC_TOPK ? dk_topk_encode(&source, kept_of(fraction, n), bytes) : encode_blocks(kind, &source, bytes);
}

static dk_status decode(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, const char *bytes, char *values, int add) {
    DK_CHECK(check(kind, itemsize, fraction, n));
    if (kind == DK_CODEC_TOPK)
        return dk_topk_decode(itemsize, kept_of(fraction, n), n, bytes, values, add);
    dk_kernel kernel = kernel_of(kind, itemsize, add ? "add" : "decode");
    uint64_t most = codecs[kind].scale ? DK_CODEC_BLOCK : n; /* in one go, where there are no scales between */
    for (uint64_t at = 0, count; at < n; at += count) {
        count = n - at < most ? n - at : most;
        float scale = 0;
        memcpy(&scale, bytes, codecs[kind].scale);
        kernel(count, (void *[]){(char *)bytes + codecs[kind].scale, values + at * itemsize}, &(double){scale});
        bytes += dk_codec_bytes(kind, itemsize, 1, count);
    }
    return DK_OK;
}

dk_status dk_decode(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, const void *bytes, void *values) {
    return decode(kind, itemsize, fraction, n, bytes, values, 0);
}

dk_status dk_decode_add(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, const void *bytes, void *values) {
    return decode(kind, itemsize, fraction, n, bytes, values, 1);
}
