/* scan.c: what a codec encodes, its largest magnitude, and which magnitudes are within a range. Compiled once for each
 * instruction set, like the generated kernels.
 *
 * Magnitudes are compared as integers, as in finite.c: the order is the same, NaN and infinity are the largest of all, and
 * gcc vectorizes it. */
#include <string.h>

#include "block.h"
#include "kernel.h"

#define GATHER(NAME, REAL, WORD)                                                          \
    static uint64_t NAME(size_t n, const void *values, const void *residual, void *sum) { \
        const REAL *restrict one = values, *restrict two = residual;                      \
        REAL *restrict both = sum;                                                        \
        WORD most = 0;                                                                    \
        if (two == NULL)                                                                  \
            memcpy(both, one, n * sizeof(REAL));                                          \
        for (size_t i = 0; i < (two == NULL ? 0 : n); i++)                                \
            both[i] = one[i] + two[i];                                                    \
        for (size_t i = 0; i < n; i++) {                                                  \
            WORD bits;                                                                    \
            memcpy(&bits, both + i, sizeof bits);                                         \
            bits = (WORD)((bits << 1) >> 1);                                              \
            most = bits > most ? bits : most;                                             \
        }                                                                                 \
        return most;                                                                      \
    }

/* Few are found, mostly: groups are looked at as a whole first. In a group that has some, all are written down, and counted
 * or not: a branch would be guessed wrong too often. */
enum { GROUP = 32 };
#define PICK(NAME, WORD)                                                                           \
    static size_t NAME(size_t n, const void *sum, uint64_t low, uint64_t high, uint16_t *picked) { \
        const WORD least = (WORD)low, span = (WORD)(high - low);                                   \
        size_t found = 0;                                                                          \
        for (size_t i = 0; i < n; i += GROUP) {                                                    \
            WORD bits[GROUP], any = 0;                                                             \
            memcpy(bits, (const WORD *)sum + i, sizeof bits);                                      \
            for (size_t k = 0; k < GROUP; k++) {                                                   \
                bits[k] = (WORD)((bits[k] << 1) >> 1) - least;                                     \
                any |= bits[k] <= span;                                                            \
            }                                                                                      \
            for (size_t k = 0; any && k < GROUP && i + k < n; k++) {                               \
                picked[found] = (uint16_t)(i + k);                                                 \
                found += bits[k] <= span;                                                          \
            }                                                                                      \
        }                                                                                          \
        return found;                                                                              \
    }

GATHER(gather32, float, uint32_t)
GATHER(gather64, double, uint64_t)
PICK(pick32, uint32_t)
PICK(pick64, uint64_t)

const dk_scan DK_NAME(dk_scans)[] = {{gather32, pick32}, {gather64, pick64}};
