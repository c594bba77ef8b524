/* roof.c: what this machine's memory can do, by loops that are as fast as it allows. Compiled by bench/machine/roof.py, for this machine.
 *
 * n is a multiple of 64 elements and arrays are aligned to 64 bytes. Plain stores read a line before they write it; non-temporal
 * ones do not, and leave the caches alone. */
#include <stddef.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef float vector __attribute__((vector_size(64)));
enum { LANES = 16, UNROLL = 4 };
#define EACH(i, n) for (size_t i = 0; i < (n) / LANES; i++)

static _Thread_local vector sums[2 * UNROLL]; /* eight, so that none waits for the one before */

static void read_(size_t n, vector *a, vector *b, vector *c, float s) {
    (void)b, (void)c, (void)s;
    vector now[2 * UNROLL] = {{0}};
    size_t i = 0;
    for (; i + 2 * UNROLL <= n / LANES; i += 2 * UNROLL)
        for (size_t k = 0; k < 2 * UNROLL; k++)
            now[k] += a[i + k];
    for (; i < n / LANES; i++)
        now[0] += a[i];
    for (size_t k = 0; k < 2 * UNROLL; k++)
        sums[k] = now[k];
}

static void copy(size_t n, vector *a, vector *b, vector *c, float s) {
    (void)c, (void)s;
    EACH(i, n) a[i] = b[i];
}

static void triad(size_t n, vector *a, vector *b, vector *c, float s) { EACH(i, n) a[i] = b[i] + s * c[i]; }

/* What an exchange does: it reads vectors and changes one of them in place. */
static void update(size_t n, vector *a, vector *b, vector *c, float s) {
    (void)c;
    EACH(i, n) a[i] = b[i] + s * a[i];
}

/* As many writes as reads, all in place, as of c, w and p in most exchanges. */
static void rotate(size_t n, vector *a, vector *b, vector *c, float s) {
    (void)s;
    EACH(i, n) {
        vector first = a[i];
        a[i] = b[i], b[i] = c[i], c[i] = first;
    }
}

#if defined(__SSE2__)
static inline void stream(vector *to, vector value) {
#if defined(__AVX512F__)
    _mm512_stream_ps((float *)to, (__m512)value);
#else
    const __m128 *parts = (const __m128 *)&value;
    for (int k = 0; k < 4; k++)
        _mm_stream_ps((float *)to + 4 * k, parts[k]);
#endif
}

static void nt_store(size_t n, vector *a, vector *b, vector *c, float s) {
    (void)b, (void)c;
    vector value = {0};
    value += s;
    EACH(i, n) stream(a + i, value);
    _mm_sfence();
}

static void nt_copy(size_t n, vector *a, vector *b, vector *c, float s) {
    (void)c, (void)s;
    EACH(i, n) stream(a + i, b[i]);
    _mm_sfence();
}

static void nt_triad(size_t n, vector *a, vector *b, vector *c, float s) {
    EACH(i, n) stream(a + i, b[i] + s * c[i]);
    _mm_sfence();
}
#else
#define nt_store NULL
#define nt_copy NULL
#define nt_triad NULL
#endif

/* In the order of KINDS in bench/machine/roof.py. */
static void (*const loops[])(size_t, vector *, vector *, vector *, float) = {
    read_, copy, triad, update, rotate, nt_store, nt_copy, nt_triad,
};

int roof_has(int kind) { return loops[kind] != NULL; }

/* Each pass over other arrays than the one before. The sum of all that the last pass read. */
float roof_run(int kind, size_t n, void *const *arrays, size_t first, float s, size_t repeat) {
    for (size_t r = first; r < first + repeat; r++)
        loops[kind](n, arrays[r % 3], arrays[(r + 1) % 3], arrays[(r + 2) % 3], s);
    float total = 0;
    for (size_t k = 0; k < 2 * UNROLL; k++)
        for (size_t lane = 0; lane < LANES; lane++)
            total += sums[k][lane];
    return total;
}
