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

#endif
