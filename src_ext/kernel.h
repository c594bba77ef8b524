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
 * does the one while it waits for the other. Integers are compared, as in finite.c. */
#define DK_LOOK 128
#define DK_LOOK_AT(NAME, REAL, WORD, MAGNITUDE, INFINITE)        \
    static inline int NAME(size_t n, const REAL *vector) {       \
        typedef WORD word __attribute__((may_alias));            \
        const word *bits = (const word *)vector;                 \
        WORD largest = 0;                                        \
        for (size_t i = 0; i < n; i++) {                         \
            WORD magnitude = bits[i] & MAGNITUDE;                \
            largest = magnitude > largest ? magnitude : largest; \
        }                                                        \
        return largest < INFINITE;                               \
    }
DK_LOOK_AT(dk_look_float32, float, int32_t, 0x7fffffff, 0x7f800000)
DK_LOOK_AT(dk_look_float64, double, int64_t, 0x7fffffffffffffff, 0x7ff0000000000000)

#endif
