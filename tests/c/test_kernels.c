/* test_kernels.c: the generated kernels: the same bits on every instruction set, with a look at the worker and without. */
#include <math.h>

#include "check.h"

extern const dk_builtin dk_builtins_baseline[];

/* A kernel that looks gives the same bits; and it stops before a NaN or infinity, which its last elements are not far before. */
static void looking_agrees(const dk_builtin *rule, void *const *vectors, size_t n, const double *scalars) {
    size_t item = strcmp(rule->dtype, "float64") ? 4 : 8;
    double bad[] = {NAN, INFINITY, -INFINITY};
    void *one[DK_MAX_VECTORS], *two[DK_MAX_VECTORS];
    for (size_t at = 0; at <= n; at += 1 + n / 5) { /* n: nowhere */
        for (int v = 0; v < DK_MAX_VECTORS; v++) {
            one[v] = malloc(n * item + 1), two[v] = malloc(n * item + 1);
            memcpy(one[v], vectors[v], n * item), memcpy(two[v], vectors[v], n * item);
        }
        for (int v = 1; v < 2 && at < n; v++) /* the worker is the second vector of all rules */
            item == 8 ? (((double *)two[v])[at] = bad[at % 3]) : (((float *)two[v])[at] = (float)bad[at % 3]);
        size_t done = rule->looking(n, two, scalars);
        CHECK(at == n ? done == n : done <= at && at < done + 128, "%s stopped at %d before %d", rule->rule, (int)done, (int)at);
        rule->kernel(done, one, scalars);
        for (int v = 0; v < DK_MAX_VECTORS; v++) {
            size_t bytes = (v == 1 && at < n ? at : n) * item;
            CHECK(!memcmp(one[v], two[v], bytes), "%s %s differs where it looks", rule->rule, rule->dtype);
            free(one[v]), free(two[v]);
        }
    }
}

static void looking_kernels_agree(void) {
    double scalars[DK_MAX_SCALARS];
    double vectors[DK_MAX_VECTORS][300];
    void *at[DK_MAX_VECTORS];
    for (int i = 0; i < DK_MAX_SCALARS; i++)
        scalars[i] = 0.75 + i;
    for (int v = 0; v < DK_MAX_VECTORS; v++)
        at[v] = vectors[v];
    for (int s = 0; dk_isa_at(s); s++)
        for (const dk_builtin *b = dk_builtins_baseline; b->rule; b++) {
            dk_builtin rule = *b;
            rule.kernel = dk_kernel_find(b->rule, b->dtype, dk_isa_at(s)), rule.looking = dk_looking_find(b->rule, b->dtype, dk_isa_at(s));
            if (!rule.looking)
                continue;
            for (int v = 0; v < DK_MAX_VECTORS; v++)
                for (size_t i = 0; i < 300; i++)
                    strcmp(b->dtype, "float64") ? (((float *)vectors[v])[i] = sinf(i + 9.0f * v)) : (vectors[v][i] = sin(i + 9.0 * v));
            for (size_t n = 0; n <= 300; n = n < 5 ? n + 1 : n * 2 - 3)
                looking_agrees(&rule, at, n, scalars);
        }
}

/* Every built-in rule gives the same bits on every instruction set, for lengths around those of the registers. */
static void kernels_agree(void) {
    double scalars[DK_MAX_SCALARS];
    for (int i = 0; i < DK_MAX_SCALARS; i++)
        scalars[i] = 0.75 + i;
    for (const dk_builtin *rule = dk_builtins_baseline; rule->rule; rule++)
        for (int s = 0; dk_isa_at(s); s++)
            for (size_t n = 0; n <= 67; n++) {
                dk_kernel kernel = dk_kernel_find(rule->rule, rule->dtype, dk_isa_at(s));
                if (!dk_isa_runs(dk_isa_at(s)))
                    continue;
                CHECK(kernel, "no %s %s for %s", rule->rule, rule->dtype, dk_isa_at(s));
                size_t item = strcmp(rule->dtype, "float64") ? 4 : 8;
                void *one[DK_MAX_VECTORS], *two[DK_MAX_VECTORS]; /* of exact size: AddressSanitizer sees a step too far */
                for (int v = 0; v < DK_MAX_VECTORS; v++) {
                    one[v] = malloc(n * item + 1), two[v] = malloc(n * item + 1);
                    for (size_t i = 0; i < n; i++)
                        item == 8 ? (((double *)one[v])[i] = sin(i + 9.0 * v)) : (((float *)one[v])[i] = sinf(i + 9.0f * v));
                    memcpy(two[v], one[v], n * item);
                }
                rule->kernel(n, one, scalars);
                kernel(n, two, scalars);
                for (int v = 0; v < DK_MAX_VECTORS; v++) {
                    CHECK(!memcmp(one[v], two[v], n * item), "%s %s differs on %s", rule->rule, rule->dtype, dk_isa_at(s));
                    free(one[v]), free(two[v]);
                }
            }
}

static void unknown_kernels_are_null(void) {
    CHECK(!dk_kernel_find("no_such_rule", "float32", NULL), "a rule");
    CHECK(!dk_kernel_find("adag", "float16", NULL), "a dtype");
    CHECK(!dk_kernel_find("adag", "float32", "sse9"), "an instruction set");
}

static void finite_finds_all(void) {
    double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t n = 1; n < 40; n++)
        for (size_t at = 0; at < n; at++)
            for (int b = 0; b < 3; b++) {
                double wide[40] = {0};
                float narrow[40] = {0};
                CHECK(dk_finite_for(8)(n, wide) && dk_finite_for(4)(n, narrow), "zeros are finite");
                wide[at] = bad[b], narrow[at] = (float)bad[b];
                CHECK(!dk_finite_for(8)(n, wide) && !dk_finite_for(4)(n, narrow), "%g at %zu of %zu", bad[b], at, n);
            }
}

int main(void) {
    unknown_kernels_are_null();
    kernels_agree();
    looking_kernels_agree();
    finite_finds_all();
    return 0;
}
