/* kernel.h: what the generated loops need. They are compiled once for each instruction set, with DK_ISA its name. */
#ifndef DKCORE_KERNEL_H
#define DKCORE_KERNEL_H

#include <math.h>

#include "dkcore.h"

#define DK_JOIN2(a, b) a##_##b
#define DK_JOIN(a, b) DK_JOIN2(a, b)
#define DK_NAME(name) DK_JOIN(name, DK_ISA)
#define DK_TEXT2(a) #a
#define DK_TEXT(a) DK_TEXT2(a)
#define DK_ISA_NAME DK_TEXT(DK_ISA)

extern const dk_builtin DK_NAME(dk_builtins)[];
int DK_NAME(dk_finite32)(size_t n, const void *vector);
int DK_NAME(dk_finite64)(size_t n, const void *vector);

void DK_NAME(dk_copy)(size_t bytes, const void *restrict from, void *restrict to);

/* Elements of the worker that a kernel looks at, then exchanges: so few that they are still in the first cache, and that the processor
 * does the one while it waits for the other. A magnitude with all bits of the exponent carries into the sign: no comparison, which
 * 16-byte registers lack. */
#define DK_LOOK 128
#define DK_LOOK_AT(NAME, REAL, WORD, SIGN, ONE)            \
    static inline int NAME(size_t n, const REAL *vector) { \
        typedef WORD word __attribute__((may_alias));      \
        const word *bits = (const word *)vector;           \
        WORD found = 0;                                    \
        for (size_t i = 0; i < n; i++)                     \
            found |= (bits[i] & ~(SIGN)) + (ONE);          \
        return !(found & (SIGN));                          \
    }
DK_LOOK_AT(dk_look_float32, float, uint32_t, 1u << 31, 1u << 23)
DK_LOOK_AT(dk_look_float64, double, uint64_t, 1ull << 63, 1ull << 52)

#endif
