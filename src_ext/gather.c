/* gather.c: what a codec encodes, and its largest magnitude. Compiled once for each instruction set, like the generated kernels.
 *
 * Magnitudes are compared as integers, as in finite.c: the order is the same, NaN and infinity are the largest of all, and
 * gcc vectorizes it. */
#include <string.h>

#include "kernel.h"

#define GATHER(NAME, REAL, WORD)                                                            \
    uint64_t DK_NAME(NAME)(size_t n, const void *values, const void *residual, void *sum) { \
        const REAL *restrict one = values, *restrict two = residual;                        \
        REAL *restrict both = sum;                                                          \
        WORD most = 0;                                                                      \
        if (two == NULL)                                                                    \
            memcpy(both, one, n * sizeof(REAL));                                            \
        for (size_t i = 0; i < (two == NULL ? 0 : n); i++)                                  \
            both[i] = one[i] + two[i];                                                      \
        for (size_t i = 0; i < n; i++) {                                                    \
            WORD bits;                                                                      \
            memcpy(&bits, both + i, sizeof bits);                                           \
            bits = (WORD)((bits << 1) >> 1);                                                \
            most = bits > most ? bits : most;                                               \
        }                                                                                   \
        return most;                                                                        \
    }

GATHER(dk_gather32, float, uint32_t)
GATHER(dk_gather64, double, uint64_t)
