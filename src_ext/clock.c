/* clock.c: seconds. */
#define _GNU_SOURCE
#include <time.h>

#include "internal.h"

double dk_now(int clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
