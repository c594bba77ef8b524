/* storage.h: how a number lies in the bytes of a codec. The generated loops read and write them by DK_LOAD_x and DK_STORE_x.
 *
 * In a register a stored number is an int32 of its own lanes, not a narrow integer: gcc vectorizes a loop that mixes lanes of
 * 16 bits and choices between floats badly or not at all. In memory they need no alignment, since parts of a message follow
 * each other without gaps. No F16C: gcc does not vectorize its conversions, and one at a time they are slower than this.
 *
 * Numbers to store are finite and within the format's range; the formulas of dkcore/engine/codec_formulas.py saturate before. */
#ifndef DKCORE_STORAGE_H
#define DKCORE_STORAGE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define DK_PACKED __attribute__((aligned(1), may_alias))
typedef float dk_float32 DK_PACKED;
typedef double dk_float64 DK_PACKED;
typedef uint16_t dk_bf16 DK_PACKED;
typedef uint16_t dk_fp16 DK_PACKED;
typedef int8_t dk_int8;

static inline int32_t dk_bits(float number) {
    int32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static inline float dk_number(int32_t bits) {
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* To float, rounded to odd: who rounds the result again, to nearest, gets what one rounding of the double would give
 * (Boldo and Melquiond 2008, IEEE Transactions on Computers 57). */
static inline float dk_narrow(double wide) {
    float near = (float)wide;
    int32_t bits = dk_bits(near) - (fabs((double)near) > fabs(wide));
    return dk_number(bits | ((double)near != wide));
}

static inline float dk_same(float number) { return number; }

/* The upper half of a float, rounded to nearest even. */
static inline int32_t dk_bf16_of(float number) {
    uint32_t bits = (uint32_t)dk_bits(number);
    return (int32_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float dk_of_bf16(int32_t stored) { return dk_number((int32_t)((uint32_t)stored << 16)); }

/* Half precision. The sum with `unit`, a power of two whose last place is that of the half to come, is rounded by the
 * processor just where the half ends; below 2**-14 all halves share one last place. */
enum { DK_HALF_LEAST = 113 << 23, DK_HALF_PLACES = 13 << 23 }; /* the bits of 2**-14; 13 powers of two */

static inline int32_t dk_fp16_of(float number) {
    int32_t bits = dk_bits(number), magnitude = bits & 0x7fffffff;
    int32_t power = (magnitude > DK_HALF_LEAST ? magnitude : DK_HALF_LEAST) & 0x7f800000, unit = power + DK_HALF_PLACES;
    int32_t places = dk_bits(dk_number(magnitude) + dk_number(unit)) - unit;
    return (bits >> 16 & 0x8000) | (places + ((power - DK_HALF_LEAST) >> 13));
}

static inline float dk_of_fp16(int32_t stored) {
    int32_t magnitude = stored & 0x7fff, power = (magnitude > 0x400 ? magnitude & 0x7c00 : 0x400) - 0x400;
    int32_t unit = (power << 13) + DK_HALF_LEAST + DK_HALF_PLACES;
    float number = dk_number(unit + (magnitude - power)) - dk_number(unit);
    return dk_number(dk_bits(number) | (int32_t)((uint32_t)(stored & 0x8000) << 16));
}

#define DK_STORE_same(x) (x)
#define DK_LOAD_same(stored) (stored)
#define DK_STORE_bf16(x) dk_bf16_of(_Generic((x), double: dk_narrow, float: dk_same)(x))
#define DK_STORE_fp16(x) dk_fp16_of(_Generic((x), double: dk_narrow, float: dk_same)(x))
/* + 0 makes the zero positive: without traps gcc 12 reads (float)(int32_t)x as truncf(x), which would keep the sign of -0. */
#define DK_STORE_int8(x) ((int32_t)((x) + 0))
#define DK_LOAD_bf16(stored) dk_of_bf16(stored)
#define DK_LOAD_fp16(stored) dk_of_fp16(stored)
#define DK_LOAD_int8(stored) ((float)(stored))

#endif
