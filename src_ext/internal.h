/* internal.h: what the engine's own files share. A segment is laid out as
 *
 *     header | slots, one a worker | stripe locks | center | state 1 | state 2 ...
 *
 * Slots and stripe locks stand on cache lines of their own (128 bytes: the prefetcher fetches lines in pairs). */
#ifndef DKCORE_INTERNAL_H
#define DKCORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "dkcore.h"

#define DK_MAGIC 0x65726f636b64ull /* "dkcore", as a little-endian number: another byte order reads as another magic */
#define DK_LINE 128
#define DK_PAGE 4096

typedef struct dk_gate {
    _Alignas(DK_LINE) _Atomic uint32_t members, arrived;
    _Atomic uint32_t opened; /* how often: what those who arrived wait on (a futex) */
} dk_gate;

typedef struct dk_header {
    uint64_t magic;
    uint32_t layout_version, mutex_bytes;
    dk_layout layout;
    uint64_t stripes, bytes, slots_at, stripes_at, vectors_at, vector_bytes;
    char note[DK_NOTE];
    _Alignas(DK_LINE) _Atomic uint32_t ready;
    _Alignas(DK_LINE) _Atomic uint32_t live, deaths;
    _Atomic uint64_t recovered;
    _Alignas(DK_LINE) _Atomic uint32_t broken; /* 0, 1: the reason is being written, 2: it is there */
    _Atomic uint32_t others, waiting;          /* workers on other nodes; workers here that wait for a slower one */
    _Atomic uint64_t others_slowest;           /* exchanges */
    char reason[DK_REASON], rule[DK_RULE];
    dk_gate gates[DK_GATES];
} dk_header;

/* One writer (the owner), many readers (monitors): relaxed atomics, so that no reader sees half a number. */
typedef struct dk_slot {
    _Alignas(DK_LINE) _Atomic uint64_t state; /* generation << 8 | dk_slot_state */
    _Atomic int32_t pid;
    _Atomic int64_t rank;
    _Atomic double started, heartbeat, loss, exchange_seconds, staleness_sum;
    _Atomic uint64_t exchanges, steps, samples, epoch, total_samples;
    _Atomic uint64_t histogram[DK_HISTOGRAM];
} dk_slot;

typedef struct dk_stripe {
    _Alignas(DK_LINE) pthread_mutex_t lock;
    _Atomic uint64_t version; /* raised under the lock, once an exchange */
    _Atomic uint32_t holder;  /* slot + 1 of who locked it last, for messages only */
} dk_stripe;

struct dk_center {
    char name[256];
    int fd;    /* holds the shared flock: while it is open the segment lives */
    pid_t pid; /* a forked child inherits the flock and must not give it away */
    dk_header *header;
    dk_slot *slots;
    dk_stripe *stripes;
};

struct dk_worker {
    dk_center *center;
    int fd; /* an open file description of its own: its byte lock says that this worker lives */
    uint32_t slot;
    uint64_t generation;
    uint64_t seen[]; /* version of every stripe after this worker's last exchange */
};

#define DK_CHECK(call)              \
    do {                            \
        dk_status status_ = (call); \
        if (status_ != DK_OK)       \
            return status_;         \
    } while (0)

/* Remembers the sentence for dk_error() and returns status. */
dk_status dk_fail(dk_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

double dk_now(int clock);
char *dk_vector(const dk_center *center, uint32_t index);
uint64_t dk_stripe_begin(const dk_center *center, uint64_t stripe);
uint64_t dk_stripe_end(const dk_center *center, uint64_t stripe);

dk_status dk_stripe_init(dk_stripe *stripe);
dk_status dk_stripe_lock(dk_center *center, uint64_t stripe, uint32_t holder, double timeout_s);
/* DK_TIMEOUT, without a sentence, when another holds it. */
dk_status dk_stripe_try(dk_center *center, uint64_t stripe, uint32_t holder);
void dk_stripe_unlock(dk_center *center, uint64_t stripe);
void dk_slots_bury(dk_center *center);
void dk_gate_wake(dk_gate *gate);
uint64_t dk_slowest(const dk_center *center); /* exchanges of the slowest live worker of all nodes; UINT64_MAX: there is none */

/* How a codec looks at a block; of each instruction set, see scan.c.
 * gather: OUT sum = values + residual (NULL: values); returns the bits of the largest magnitude.
 * pick: OUT picked: indices of those whose magnitude has bits from low to high, ascending; returns how many. It reads and writes
 * beyond n, but within the block, and one index more. */
typedef struct dk_scan {
    uint64_t (*gather)(size_t n, const void *values, const void *residual, void *sum);
    size_t (*pick)(size_t n, const void *sum, uint64_t low, uint64_t high, uint16_t *picked);
} dk_scan;
const dk_scan *dk_scan_find(uint32_t itemsize, const char *isa); /* NULL: the widest that runs here */

/* What is to be encoded: values + residual, block by block. */
typedef struct dk_source {
    uint64_t n;
    uint32_t itemsize;
    char *values, *residual; /* residual: may be NULL */
    const dk_scan *scan;
} dk_source;
typedef union dk_block {
    float narrow[DK_CODEC_BLOCK];
    double wide[DK_CODEC_BLOCK];
    char bytes[DK_CODEC_BLOCK * sizeof(double)];
} dk_block;
uint64_t dk_block_length(uint64_t n, uint64_t at);
/* OUT sum: of the block at that element, then zeros; OUT magnitude: its largest. DK_NOT_FINITE names the element. */
dk_status dk_block_gather(const dk_source *source, uint64_t at, dk_block *sum, double *magnitude);
dk_status dk_topk_encode(const dk_source *source, uint64_t kept, char *bytes);
dk_status dk_topk_decode(uint32_t itemsize, uint64_t kept, uint64_t n, const char *bytes, char *values, int add);

/* Labelled points where a test build kills the process; nothing in any other build. */
enum { DK_POINT_BEFORE, DK_POINT_LOCKED, DK_POINT_HALF, DK_POINT_WRITTEN, DK_POINT_VERSION, DK_POINT_UNLOCKED, DK_POINTS };
#ifdef DK_FAULTS
void dk_fault(int point);
#define DK_FAULT(point) dk_fault(point)
#else
#define DK_FAULT(point) ((void)0)
#endif

#endif
