/* internal.h: what the engine's own files share. A segment is laid out as
 *
 *     header | slots, one a worker | members, one a rank | leases | stripe locks | center | state 1 | state 2 ... | undo areas
 *
 * Slots and stripe locks stand on cache lines of their own (128 bytes: the prefetcher fetches lines in pairs). Undo areas are those
 * of guests, then one a slot, which gets its memory when it is claimed: most slots never are. */
#ifndef DKCORE_INTERNAL_H
#define DKCORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "dkcore.h"
#include "fault.h"

#define DK_MAGIC 0x65726f636b64ull /* "dkcore", as a little-endian number: another byte order reads as another magic */
#define DK_LINE 128
#define DK_PAGE 4096

typedef struct dk_gate {
    _Alignas(DK_LINE) _Atomic uint32_t members, arrived;
    _Atomic uint32_t opened; /* how often: what those who arrived wait on (a futex) */
} dk_gate;

/* A namespace of processes: where a number means one process, or thread. */
typedef struct dk_space {
    uint64_t device, inode;
} dk_space;

#define DK_GUESTS 4 /* who writes stripes without a slot, at a time: merges, restores */
#ifndef DK_BLOCK
/* Elements that are saved and exchanged at a time, at most, and the bytes that are saved of them: few enough that the kernel finds them
 * in the first cache, and that the processor does not stop to fetch the other vectors meanwhile. */
#define DK_BLOCK 512
#endif
#define DK_SAVED 2048

typedef struct dk_header {
    uint64_t magic;
    uint32_t layout_version, mutex_bytes;
    dk_layout layout;
    uint64_t stripes, bytes, slots_at, members_at, ledger_at, stripes_at, vectors_at, vector_bytes;
    uint64_t undo_at, undo_bytes, undo_block; /* bytes of an area; elements of a vector that it has room for, 0: no areas */
    uint64_t fixed;                           /* bytes that are there from the beginning: all but the areas of slots */
    dk_space space;
    char note[DK_NOTE];
    _Alignas(DK_LINE) _Atomic uint32_t ready;
    _Alignas(DK_LINE) _Atomic uint32_t live, deaths;
    _Alignas(DK_LINE) _Atomic uint32_t broken; /* 0, 1: the reason is being written, 2: it is there */
    _Atomic uint32_t others, waiting;          /* workers on other nodes; workers here that wait for a slower one */
    _Atomic uint64_t others_slowest;           /* exchanges */
    char reason[DK_REASON], rule[DK_RULE];
    dk_gate gates[DK_GATES];
    pthread_mutex_t guests[DK_GUESTS]; /* robust: each over its undo area */
} dk_header;

/* One writer (the owner), many readers (monitors): relaxed atomics, so that no reader sees half a number. */
typedef struct dk_slot {
    _Alignas(DK_LINE) _Atomic uint64_t state; /* generation << 8 | dk_slot_state */
    _Atomic int32_t pid;
    _Atomic int64_t rank;
    _Atomic double started, heartbeat, loss, exchange_seconds, staleness_sum;
    _Atomic uint64_t exchanges, steps, samples, epoch, total_samples;
    _Atomic uint64_t histogram[DK_HISTOGRAM];
    _Atomic uint64_t begun, stripes_in, in_part; /* see dk_slot_view; written only as the hot path goes along, after the histogram */
    _Atomic uint64_t places[2][4];               /* of exchange number n, a dk_place is in places[n % 2] */
} dk_slot;

typedef struct dk_stripe {
    _Alignas(DK_LINE) pthread_mutex_t lock;
    _Atomic uint64_t version; /* 2 x commits, + 1 while one is under way; written under the lock, as all that follows */
    _Atomic uint32_t holder;  /* who locked it last: a slot + 1, or slots + 1 + a guest; 0: who only reads */
    uint32_t arrivals;        /* hand-ins of a round that are in the first state, whole */
    /* Of commits whose owners died: see dk_counts. */
    _Atomic uint32_t recovered, undone, kept;
    _Atomic uint64_t elements;
    uint32_t mending; /* 1: what follows is to become of the stripe, see undo.c */
    uint32_t next_arrivals, next_recovered, next_undone, next_kept;
    uint64_t next_elements, next_version;
} dk_stripe;

/* What the commit under way of one holder would overwrite. Then come the saved elements, block by block of the vectors. */
typedef struct dk_undo {
    _Alignas(DK_LINE) _Atomic uint64_t stripe; /* index + 1 of the stripe that it writes; 0: none */
    _Atomic uint64_t progress;                 /* done << 32 | saved: elements that are in; those after them that are saved, 0: none */
    uint64_t begin, length, complete;          /* as in dk_commit, see undo.h */
    uint64_t stripes_in;                       /* of the slot, once the commit is whole */
    uint32_t vectors, arrivals;
} dk_undo;

typedef void (*dk_copy)(size_t bytes, const void *restrict from, void *restrict to); /* whole elements */
dk_copy dk_copy_best(void);

struct dk_center {
    char name[256];
    int fd; /* holds the shared flock: while it is open the segment lives */
    pid_t pid;
    dk_space space;
    dk_layout layout; /* as in the header, which is gone when the center is closed */
    uint64_t count;   /* of stripes */
    char note[DK_NOTE];
    dk_header *header;
    dk_slot *slots;
    _Atomic uint32_t *members; /* as many as slots; see member.c */
    dk_stripe *stripes;
    dk_copy copy;
    _Atomic uint32_t calls, gone, holders; /* see calls.c; holders: the handle, and each worker's */
    dk_worker *workers;
    dk_center *next;
};

struct dk_worker {
    dk_center *center;
    dk_worker *next;
    pid_t pid;
    _Atomic int fd; /* an open file description of its own: its byte lock says that this worker lives. -1: released */
    _Atomic uint32_t busy;
    uint32_t slot;
    uint64_t generation;
    dk_place place;  /* when its next exchange is in */
    uint64_t seen[]; /* commits of every stripe after this worker's last exchange */
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

/* The public functions are these brackets around an inner one. Inline: they are on the hot path. */
#define DK_CLOSED 0x80000000u /* a bit of calls */
dk_status dk_refuse_closed(void);
void dk_let_go(dk_center *center);

static inline dk_status dk_enter(dk_center *center) {
    uint32_t calls = atomic_load_explicit(&center->calls, memory_order_relaxed);
    do
        if (calls & DK_CLOSED)
            return dk_refuse_closed();
    while (!atomic_compare_exchange_weak_explicit(&center->calls, &calls, calls + 1, memory_order_acquire, memory_order_relaxed));
    return DK_OK;
}

static inline void dk_leave(dk_center *center) {
    if (atomic_fetch_sub_explicit(&center->calls, 1, memory_order_acq_rel) - 1 == DK_CLOSED)
        dk_let_go(center);
}

#define DK_WITHIN(center, call)     \
    do {                            \
        DK_CHECK(dk_enter(center)); \
        dk_status within_ = (call); \
        dk_leave(center);           \
        return within_;             \
    } while (0)

/* The same, for what only one thread at a time may do. */
dk_status dk_worker_refuse(dk_worker *worker, int busy);

static inline dk_status dk_worker_begin(dk_worker *worker) {
    if (atomic_exchange_explicit(&worker->busy, 1, memory_order_acquire))
        return dk_worker_refuse(worker, 1);
    if (atomic_load_explicit(&worker->fd, memory_order_relaxed) < 0 || dk_enter(worker->center) != DK_OK)
        return dk_worker_refuse(worker, 0);
    return DK_OK;
}

static inline void dk_worker_end(dk_worker *worker) {
    atomic_store_explicit(&worker->busy, 0, memory_order_release);
    dk_leave(worker->center);
}

/* Between two slices of a wait, holding no lock: whether it is to end. center: may be NULL. */
dk_status dk_heed(const dk_center *center);
#define DK_SLICE 0.05   /* seconds */
int dk_listening(void); /* this thread is in the listener: within a call */
dk_center *dk_center_enlist(dk_center *center);
void dk_center_drop(dk_center *center);
/* Over the lists of centers and workers, and over workers' descriptors. */
void dk_books_lock(void);
void dk_books_unlock(void);

dk_status dk_layout_check(const dk_layout *layout);
void dk_layout_plan(dk_header *header, const dk_layout *layout);
void dk_layout_find(dk_center *center); /* once it is mapped */
void dk_layout_touch(const dk_center *center, uint32_t slot);
char *dk_vector(const dk_center *center, uint32_t index);
/* The index of a vector of the segment, by its role. */
static inline uint32_t dk_vector_of(int32_t role) { return role == DK_CENTER ? 0 : (uint32_t)(role - DK_STATE + 1); }
uint64_t dk_stripe_begin(const dk_center *center, uint64_t stripe);
uint64_t dk_stripe_end(const dk_center *center, uint64_t stripe);
void dk_versions_read(const dk_center *center, uint64_t *out);

int dk_slot_take(dk_worker *worker);                /* 0: none is free. It still shows its former owner */
void dk_slot_show(dk_worker *worker, int64_t rank); /* from now on it shows this one */
void dk_slot_leave(dk_worker *worker);              /* harmless when repeated */
void dk_slots_bury(dk_center *center);              /* of those who died */
/* An exchange begins; it is in whole: from that one store on its place is valid. */
void dk_slot_resume(dk_worker *worker, uint64_t exchanges, const dk_place *place);
void dk_slot_begin(const dk_worker *worker);
void dk_slot_complete(const dk_worker *worker);
void dk_slot_report(dk_worker *worker, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples, double loss);
dk_status dk_slot_look(dk_center *center, uint32_t index, dk_slot_view *out);

dk_status dk_file_open(const char *name, int *fd);
dk_status dk_file_new(int *fd);
dk_status dk_file_free(const char *name); /* DK_EXISTS when there is a file of that name */
dk_status dk_file_name(int fd, const char *name);
int dk_file_named(int fd, const char *name);
void dk_file_remove_if_last(int fd, const char *name);
dk_status dk_file_reserve(int fd, const char *name, uint64_t at, uint64_t bytes); /* DK_NO_ROOM when shared memory is too small */

/* Of a stripe whose lock's owner died, for who has the lock now: the stripe is whole again, and the lock consistent. */
void dk_undo_mend(dk_center *center, uint64_t stripe);
void dk_undo_put_back(const dk_center *center, const dk_undo *area);
dk_status dk_lock_init(pthread_mutex_t *lock); /* robust, and shared by processes */
/* error: OUT, as of pthread_mutex_lock; ETIMEDOUT too. */
dk_status dk_lock_take(const dk_center *center, pthread_mutex_t *lock, double timeout_s, int *error);
dk_status dk_stripe_lock(dk_center *center, uint64_t stripe, uint32_t holder, double timeout_s);
/* DK_TIMEOUT, without a sentence, when another holds it. */
dk_status dk_stripe_try(dk_center *center, uint64_t stripe, uint32_t holder);
void dk_stripe_unlock(dk_center *center, uint64_t stripe);
/* Until the undo area of this holder, who is no longer, is through with the stripe that its owner died in. */
dk_status dk_undo_settle(dk_center *center, uint32_t holder, double timeout_s);
/* A holder's number for who has no slot, until it is given back; 0 where nothing is undone. */
dk_status dk_guest_take(dk_center *center, double timeout_s, uint32_t *holder);
void dk_guest_leave(dk_center *center, uint32_t holder);
dk_status dk_broken(const dk_center *center);
void dk_gate_wake(dk_gate *gate);
/* Until the word is woken, was changed before, or the time is up; may return earlier. */
void dk_sleep_on(_Atomic uint32_t *word, uint32_t value, double seconds);
/* Exchanges of the slowest live worker of this node; UINT64_MAX: there is none. */
uint64_t dk_slowest_here(const dk_center *center);
/* Bounded staleness: waits until this worker is not too far ahead. */
dk_status dk_pace_keep(const dk_call *call);

#endif
