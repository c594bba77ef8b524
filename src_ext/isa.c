/* isa.c: which instruction sets were built in, and which of them run here. The widest comes first. */
#include <string.h>

#include "block.h"

#define DECLARE(ISA)                                     \
    extern const dk_builtin dk_builtins_##ISA[];         \
    extern const dk_scan dk_scans_##ISA[];               \
    int dk_finite32_##ISA(size_t n, const void *vector); \
    int dk_finite64_##ISA(size_t n, const void *vector); \
    void dk_copy_##ISA(size_t bytes, const void *restrict from, void *restrict to);
#define ENTRY(ISA) {#ISA, dk_builtins_##ISA, dk_scans_##ISA, dk_finite32_##ISA, dk_finite64_##ISA, dk_copy_##ISA}

DECLARE(baseline)
#ifdef DK_HAVE_avx2
DECLARE(avx2)
#endif
#ifdef DK_HAVE_avx512
DECLARE(avx512)
#endif

typedef struct isa {
    const char *name;
    const dk_builtin *builtins;
    const dk_scan *scans;
    dk_finite finite32, finite64;
    dk_copy copy;
} isa;

static const isa sets[] = {
#ifdef DK_HAVE_avx512
    ENTRY(avx512),
#endif
#ifdef DK_HAVE_avx2
    ENTRY(avx2),
#endif
    ENTRY(baseline),
};
enum { SETS = sizeof sets / sizeof sets[0] };

static int runs(const char *name) {
#if defined(__x86_64__)
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw");
    if (!strcmp(name, "avx2"))
        return __builtin_cpu_supports("avx2");
#endif
    return !strcmp(name, "baseline");
}

static const isa *find(const char *name) {
    for (int i = 0; i < SETS; i++)
        if ((name == NULL || !strcmp(sets[i].name, name)) && runs(sets[i].name))
            return &sets[i];
    return NULL;
}

const char *dk_isa_at(size_t index) { return index < SETS ? sets[index].name : NULL; }

int dk_isa_runs(const char *name) { return find(name) != NULL; }

const char *dk_isa_best(void) { return find(NULL)->name; }

dk_finite dk_finite_for(uint32_t itemsize) { return itemsize == 4 ? find(NULL)->finite32 : find(NULL)->finite64; }

dk_copy dk_copy_best(void) { return find(NULL)->copy; }

const dk_scan *dk_scan_find(uint32_t itemsize, const char *name) {
    const isa *set = find(name);
    return set ? &set->scans[itemsize == 8] : NULL;
}

static const dk_builtin *find_builtin(const char *rule, const char *dtype, const char *name) {
    const isa *set = find(name);
    for (const dk_builtin *b = set ? set->builtins : NULL; b && b->rule; b++)
        if (!strcmp(b->rule, rule) && !strcmp(b->dtype, dtype))
            return b;
    return NULL;
}

dk_kernel dk_kernel_find(const char *rule, const char *dtype, const char *name) {
    const dk_builtin *found = find_builtin(rule, dtype, name);
    return found ? found->kernel : NULL;
}

dk_looking dk_looking_find(const char *rule, const char *dtype, const char *name) {
    const dk_builtin *found = find_builtin(rule, dtype, name);
    return found ? found->looking : NULL;
}
