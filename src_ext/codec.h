/* codec.h: what crosses the wire between nodes. A part of dkcore.h, which includes it. */
#ifndef DKCORE_CODEC_H
#define DKCORE_CODEC_H

/* What crosses the wire between nodes, smaller. itemsize 4: float32, 8: float64. n elements take dk_codec_bytes() bytes,
 * whatever their values; bytes need no alignment, values and residual that of their type, and none may overlap another.
 *
 *     none    as they are             fp16    IEEE 754 half precision, saturated at 65504
 *     bf16    the upper half of a float32, saturated likewise
 *     int8    blocks of DK_CODEC_BLOCK: a float32 scale, its largest magnitude / 127, and a whole number of scales each
 *     topk    the max(1, round(fraction n)) largest magnitudes: their indices (uint32, ascending), then their values
 *
 * fraction is that of topk, in (0, 1]; the others ignore it. */
typedef enum dk_codec { DK_CODEC_NONE = 0, DK_CODEC_BF16 = 1, DK_CODEC_FP16 = 2, DK_CODEC_INT8 = 3, DK_CODEC_TOPK = 4 } dk_codec;
#define DK_CODEC_BLOCK 1024

uint64_t dk_codec_bytes(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n); /* 0 for what dk_encode refuses */
/* Encodes values + residual (NULL: values). Afterwards values are what dk_decode gives, bit for bit, and residual the rest.
 * DK_NOT_FINITE: the blocks before the one that is not finite may be encoded already; it and those after it are as they were. */
dk_status dk_encode(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, void *values, void *residual, void *bytes);
dk_status dk_decode(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, const void *bytes, void *values);
/* values += what dk_decode gives. */
dk_status dk_decode_add(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, const void *bytes, void *values);

#endif
