/* check.h: what the C tests share. A check that fails says where and why, and ends the process with status 1. */
#ifndef DKCORE_CHECK_H
#define DKCORE_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkcore.h"

#define CHECK(condition, ...)                                                   \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: not %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                       \
            fputc('\n', stderr);                                                \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

#define OK(call)                                                                    \
    do {                                                                            \
        dk_status status_ = (call);                                                 \
        CHECK(status_ == DK_OK, "%s gave %d: %s", #call, (int)status_, dk_error()); \
    } while (0)

/* The call fails with this status, and its message has this text. */
#define REFUSED(wanted, text, call)                                                    \
    do {                                                                               \
        dk_status status_ = (call);                                                    \
        CHECK(status_ == (wanted), "%s gave %d: %s", #call, (int)status_, dk_error()); \
        CHECK(strstr(dk_error(), text), "%s said: %s", #call, dk_error());             \
    } while (0)

/* A name of this process' own. */
static inline const char *segment_name(const char *test) {
    static char name[64];
    snprintf(name, sizeof name, "dkcore-%s-%d", test, (int)getpid());
    return name;
}

/* downpour, c += w - p; w = c, on a center of 8 or 4 byte numbers. */
static inline dk_call downpour(dk_worker *worker, uint32_t itemsize, void *previous) {
    dk_call call = {.worker = worker, .previous = previous, .vectors = 3, .role = {DK_CENTER, DK_WORKER, DK_PREVIOUS}};
    call.kernel = dk_kernel_find("downpour", itemsize == 8 ? "float64" : "float32", NULL);
    call.staleness_at = call.workers_at = -1;
    call.timeout_s = 30;
    return call;
}

#endif
