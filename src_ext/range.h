/* range.h: files as one range of memory. A part of dkcore.h, which includes it. */
#ifndef DKCORE_RANGE_H
#define DKCORE_RANGE_H

/* Addresses in a row over which files are mapped, read-only; zeros elsewhere, which take no memory. */
typedef struct dk_range {
    void *begin;
    uint64_t bytes;
} dk_range;

dk_status dk_range_reserve(uint64_t bytes, dk_range *out);
/* Map the first bytes of an open file `at` bytes from the begin, which must be the begin of a page. They lie within the range. */
dk_status dk_range_map(const dk_range *range, uint64_t at, int fd, uint64_t bytes);
void dk_range_free(dk_range *range); /* harmless when repeated */

#endif
