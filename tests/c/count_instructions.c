/* count_instructions.c: some exchanges, for callgrind to count. tests/instructions.py calls it:
 *
 *     count_instructions RULE LENGTH EXCHANGES FINITE STALENESS_AT WORKERS_AT ROLES SCALAR...
 *
 * ROLES are those of dkcore.h, one digit each, in the order of the rule's signature. Prints the instruction set that saves what
 * may be undone; valgrind has not all of them. The kernel is that of the baseline. Without arguments: what it was made with. */
#include <gnu/libc-version.h>

#include "check.h"

enum { STRIPE = 16384, STATES = 1 };

int main(int count, char **arguments) {
    if (count == 1) {
        printf("compiler %s, glibc %s\n", __VERSION__, gnu_get_libc_version());
        return 0;
    }
    CHECK(count >= 8, "%d arguments", count);
    uint64_t length = strtoull(arguments[2], NULL, 10);
    dk_layout layout = {.length = length, .stripe_length = STRIPE, .itemsize = 4, .states = STATES, .slots = 1};
    float *w = calloc(3 * length, sizeof *w), *p = w + length;
    dk_center *center;
    dk_worker *worker;
    OK(dk_center_create(segment_name("count"), &layout, w, NULL, &center));
    OK(dk_worker_claim(center, 0, &worker));
    dk_call call = {.worker = worker, .previous = p, .timeout_s = 30};
    call.kernel = dk_kernel_find(arguments[1], "float32", "baseline");
    CHECK(call.kernel, "no rule %s", arguments[1]);
    call.looking = atoi(arguments[4]) ? dk_looking_find(arguments[1], "float32", "baseline") : NULL;
    call.staleness_at = atoi(arguments[5]), call.workers_at = atoi(arguments[6]);
    for (const char *role = arguments[7]; *role; role++)
        call.role[call.vectors++] = *role - '0';
    for (int i = 8; i < count; i++)
        call.scalars[i - 8] = strtod(arguments[i], NULL);
    void *address = w;
    for (long i = strtol(arguments[3], NULL, 10); i > 0; i--)
        OK(dk_exchange(&call, 1, &address, &length));
    OK(dk_worker_release(worker));
    OK(dk_center_close(center));
    free(w);
    puts(dk_isa_best());
    return 0;
}
