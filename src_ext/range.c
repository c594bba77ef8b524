/* range.c: files as one range of memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

dk_status dk_range_reserve(uint64_t bytes, dk_range *out) {
    void *begin = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED)
        return dk_fail(DK_SYSTEM, "mmap of %llu bytes: %s", (unsigned long long)bytes, strerror(errno));
    *out = (dk_range){begin, bytes};
    return DK_OK;
}

dk_status dk_range_map(const dk_range *range, uint64_t at, int fd, uint64_t bytes) {
    if (at > range->bytes || bytes > range->bytes - at)
        return dk_fail(DK_INVALID, "%llu bytes at %llu of a range of %llu", (unsigned long long)bytes, (unsigned long long)at,
                       (unsigned long long)range->bytes);
    if (bytes && mmap((char *)range->begin + at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return dk_fail(DK_SYSTEM, "mmap of %llu bytes of a file: %s", (unsigned long long)bytes, strerror(errno));
    return DK_OK;
}

void dk_range_free(dk_range *range) {
    if (range->begin)
        munmap(range->begin, range->bytes);
    *range = (dk_range){0};
}
