/* test_codec.c: encoding and decoding stay within their arrays, keep what they promise, and are alike on every instruction set. */
#include <math.h>

#include "block.h"
#include "check.h"

static const uint64_t sizes[] = {0, 1, 31, 32, 33, 1023, 1024, 1025, 5000};
enum { SIZES = sizeof sizes / sizeof sizes[0], KINDS = DK_CODEC_TOPK + 1 };

static double get(const void *vector, uint32_t itemsize, uint64_t i) {
    return itemsize == 4 ? ((const float *)vector)[i] : ((const double *)vector)[i];
}

static void set(void *vector, uint32_t itemsize, uint64_t i, double number) {
    if (itemsize == 4)
        ((float *)vector)[i] = (float)number;
    else
        ((double *)vector)[i] = number;
}

/* Of exact size: AddressSanitizer sees a step too far. Whole numbers, many of them equal. */
static void *numbers(uint32_t itemsize, uint64_t n, uint64_t factor) {
    void *made = malloc(n * itemsize + 1);
    for (uint64_t i = 0; i < n; i++)
        set(made, itemsize, i, (double)(i * factor % 701) - 350);
    return made;
}

static void one_round(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, int with_residual) {
    void *values = numbers(itemsize, n, 31), *residual = with_residual ? numbers(itemsize, n, 57) : NULL;
    void *before = numbers(itemsize, n, 31), *held = numbers(itemsize, n, 57);
    void *decoded = numbers(itemsize, n, 3), *added = numbers(itemsize, n, 5), *base = numbers(itemsize, n, 5);
    uint64_t bytes = dk_codec_bytes(kind, itemsize, fraction, n);
    char *room = malloc(bytes + 1), *message = room + 1; /* a message may begin anywhere */
    OK(dk_encode(kind, itemsize, fraction, n, values, residual, message));
    OK(dk_decode(kind, itemsize, fraction, n, message, decoded));
    OK(dk_decode_add(kind, itemsize, fraction, n, message, added));
    CHECK(!memcmp(values, decoded, n * itemsize), "codec %d of %llu: values are not what decode gives", kind, (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        double sum = get(before, itemsize, i) + (residual ? get(held, itemsize, i) : 0), value = get(values, itemsize, i);
        double rest = residual ? get(residual, itemsize, i) : sum - value;
        CHECK(fabs(value + rest - sum) <= 1e-4, "codec %d: %g and %g held back of %g", kind, value, rest, sum);
        CHECK(fabs(get(added, itemsize, i) - get(base, itemsize, i) - value) <= 1e-4, "codec %d: %g added", kind, value);
    }
    free(values), free(residual), free(before), free(held), free(decoded), free(added), free(base), free(room);
}

static void rounds(void) {
    static const double fractions[] = {0.001, 0.01, 0.3, 1};
    for (int kind = 0; kind < KINDS; kind++)
        for (int s = 0; s < SIZES; s++)
            for (uint32_t itemsize = 4; itemsize <= 8; itemsize += 4)
                for (int f = 0; f < 4; f++)
                    for (int residual = 0; residual < 2; residual++)
                        one_round(kind, itemsize, fractions[f], sizes[s], residual);
}

/* Every instruction set finds the same largest magnitude, and picks the same elements. */
static void scans_agree(void) {
    for (uint32_t itemsize = 4; itemsize <= 8; itemsize += 4)
        for (int set = 0; dk_isa_at(set); set++)
            for (uint64_t n = 1; n <= DK_CODEC_BLOCK; n += 1 + n / 9) {
                const dk_scan *one = dk_scan_find(itemsize, "baseline"), *two = dk_scan_find(itemsize, dk_isa_at(set));
                if (two == NULL)
                    continue;
                dk_block sums[2] = {0};
                uint16_t picked[2][DK_CODEC_BLOCK + 1];
                void *values = numbers(itemsize, n, 31), *residual = numbers(itemsize, n, 57);
                uint64_t most = one->gather(n, values, residual, &sums[0]);
                CHECK(most == two->gather(n, values, residual, &sums[1]), "largest of %llu differs", (unsigned long long)n);
                CHECK(!memcmp(&sums[0], &sums[1], n * itemsize), "sums of %llu differ", (unsigned long long)n);
                for (uint64_t low = 0; low < 2; low++) {
                    size_t count = one->pick(n, &sums[0], low ? most / 2 : 0, most, picked[0]);
                    CHECK(count == two->pick(n, &sums[1], low ? most / 2 : 0, most, picked[1]), "%d picked of %d", (int)count, (int)n);
                    CHECK(!memcmp(picked[0], picked[1], count * sizeof picked[0][0]) && (low || count == n), "others are picked");
                }
                free(values), free(residual);
            }
}

static void bad_input_is_refused(void) {
    float values[3000] = {0}, residual[3000] = {0};
    char message[4 * 3000];
    REFUSED(DK_INVALID, "no codec has the number 7", dk_encode(7, 4, 1, 3, values, NULL, message));
    REFUSED(DK_INVALID, "elements of 2 bytes", dk_decode(DK_CODEC_BF16, 2, 1, 3, message, values));
    REFUSED(DK_INVALID, "fraction 0", dk_decode_add(DK_CODEC_TOPK, 4, 0, 3, message, values));
    REFUSED(DK_INVALID, "fraction nan", dk_encode(DK_CODEC_TOPK, 4, NAN, 3, values, NULL, message));
    REFUSED(DK_INVALID, "indices have 32 bits", dk_encode(DK_CODEC_TOPK, 4, 0.01, 1ull << 32, values, NULL, message));
    CHECK(dk_codec_bytes(DK_CODEC_TOPK, 4, 0.01, 1ull << 32) == 0, "a size");
    for (int kind = 0; kind < KINDS; kind++) {
        residual[2047] = NAN;
        REFUSED(DK_NOT_FINITE, "element 2047", dk_encode(kind, 4, 0.1, 3000, values, residual, message));
        residual[2047] = 0;
    }
    memset(message, 0xff, sizeof message);
    REFUSED(DK_INVALID, "names element 4294967295 of 3000", dk_decode(DK_CODEC_TOPK, 4, 0.1, 3000, message, values));
}

/* What came over a wire may be anything: it decodes to some number, and to nothing else. */
static void any_message_decodes(void) {
    for (int kind = 0; kind < DK_CODEC_TOPK; kind++)
        for (int byte = 0; byte < 256; byte++) {
            uint64_t n = 100, bytes = dk_codec_bytes(kind, 8, 1, n);
            char *message = malloc(bytes);
            double *values = calloc(n, sizeof *values);
            memset(message, byte, bytes);
            OK(dk_decode(kind, 8, 1, n, message, values));
            OK(dk_decode_add(kind, 8, 1, n, message, values));
            free(message), free(values);
        }
}

int main(void) {
    rounds();
    scans_agree();
    bad_input_is_refused();
    any_message_decodes();
    return 0;
}
