/* finite.c: are all elements finite? Compiled once for each instruction set, like the generated kernels.
 *
 * A float is NaN or infinite when all bits of its exponent are set. Integers, because gcc vectorizes no reduction of
 * floats without -ffast-math, and -ffast-math assumes that there is no NaN. */
#include <string.h>

#include "kernel.h"

#define FINITE(NAME, WORD, EXPONENT)                   \
    int DK_NAME(NAME)(size_t n, const void *vector) {  \
        const WORD *bits = vector;                     \
        WORD found = 0;                                \
        for (size_t i = 0; i < n; i++)                 \
            found |= (bits[i] & EXPONENT) == EXPONENT; \
        return found == 0;                             \
    }

FINITE(dk_finite32, uint32_t, 0x7f800000u)
FINITE(dk_finite64, uint64_t, 0x7ff0000000000000ull)
