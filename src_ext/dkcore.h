/* dkcore.h: the whole C API of the engine.
 *
 * A center is one vector in POSIX shared memory, cut into stripes. Each stripe has its own robust lock and version.
 * A worker is a claimed slot of a center: it exchanges, and its slot shows the world how it fares.
 *
 * Every function returns a dk_status; dk_error() has the sentence, with the numbers, of this thread's last failure.
 * Nothing here includes Python.h, throws, or exits.
 */
#ifndef DKCORE_H
#define DKCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DK_LAYOUT_VERSION 6u /* raised whenever the bytes of a segment change their meaning */
#define DK_MAX_VECTORS 8     /* c, w, p and up to five state vectors */
#define DK_MAX_SCALARS 16
#define DK_HISTOGRAM 64 /* staleness 0, 1, ... 62, and 63 for all beyond */
#define DK_NOTE 1024    /* bytes of free text in a segment's header */
#define DK_REASON 512   /* bytes of the sentence why a center is broken */
#define DK_RULE 128     /* bytes of the name of the rule in use */

typedef enum dk_status {
    DK_OK = 0,
    DK_INVALID = 1,      /* an argument that the caller could have checked */
    DK_SYSTEM = 2,       /* a system call failed; dk_error() names it */
    DK_NO_ROOM = 3,      /* shared memory is too small: have and need are in dk_error() */
    DK_EXISTS = 4,       /* a segment of that name lives */
    DK_NOT_FOUND = 5,    /* no segment of that name appeared in time */
    DK_LAYOUT = 6,       /* the segment has another layout than was asked for */
    DK_TIMEOUT = 7,      /* a stripe stayed locked; dk_error() names stripe and holder */
    DK_FULL = 8,         /* all slots are claimed by live workers */
    DK_NOT_FINITE = 9,   /* NaN or infinity in the worker: neither its block nor what follows it reached the center */
    DK_BROKEN = 10,      /* the center was declared broken: dk_error() has the reason that was given */
    DK_NAMESPACE = 11,   /* the segment was made in another namespace of processes */
    DK_BUSY = 12,        /* another thread is within an exchange of this worker */
    DK_INTERRUPTED = 13, /* the listener ended the wait */
} dk_status;

const char *dk_error(void);
int dk_errno(void); /* of the system call that failed, after DK_SYSTEM */

/* Called about every DK_SLICE by every thread that waits, holding no lock; non-zero ends the wait with DK_INTERRUPTED. NULL: nobody. */
typedef int (*dk_listener)(void);
void dk_listen(dk_listener listener);

/* ------------------------------------------------------------------ kernels */

/* n elements; vectors in the order of the rule's signature; scalars likewise, always double. */
typedef void (*dk_kernel)(size_t n, void *const *vectors, const double *scalars);
/* As a kernel, but it looks at the worker, and stops before elements of which one is NaN or infinite: returns how many it did. */
typedef size_t (*dk_looking)(size_t n, void *const *vectors, const double *scalars);
typedef int (*dk_finite)(size_t n, const void *vector); /* 1 when all n are finite */

typedef struct dk_builtin {
    const char *rule, *dtype, *isa;
    dk_kernel kernel;
    dk_looking looking; /* NULL: it has no worker to look at */
} dk_builtin;

/* The kernel of a built-in rule for an instruction set (NULL: the widest that runs here), or NULL. Generated from dkcore/rules.py. */
dk_kernel dk_kernel_find(const char *rule, const char *dtype, const char *isa);
dk_looking dk_looking_find(const char *rule, const char *dtype, const char *isa);
const char *dk_isa_at(size_t index); /* those built in, widest first, then NULL */
int dk_isa_runs(const char *isa);    /* 1 when it was built in and this processor has it */
const char *dk_isa_best(void);
dk_finite dk_finite_for(uint32_t itemsize);

/* ------------------------------------------------------------------ center */

/* What is taken back of a commit to a stripe whose owner is killed within it: the block under way, so that whole blocks are in, from
 * the stripe's first on; all; or nothing, so that each element of each vector is the old or the new one. */
typedef enum dk_undo_mode { DK_UNDO_BLOCK = 0, DK_UNDO_STRIPE = 1, DK_UNDO_NONE = 2 } dk_undo_mode;

typedef struct dk_layout {
    uint64_t length;        /* elements of the center */
    uint64_t stripe_length; /* elements of a stripe */
    uint64_t digest;        /* of the model's layout; 0 matches any */
    uint64_t statistics;    /* the last elements of the center that are statistics: see dk_statistic; 0 matches any */
    uint32_t itemsize;      /* 4: float32, 8: float64 */
    uint32_t states;        /* vectors beside the center, born zero */
    uint32_t slots;         /* workers at most */
    uint32_t undo;          /* a dk_undo_mode */
} dk_layout;

typedef struct dk_center dk_center;
typedef struct dk_worker dk_worker;

/* initial: length elements. The segment lives while any process holds it; the last to close removes it. */
dk_status dk_center_create(const char *name, const dk_layout *layout, const void *initial, const char *note, dk_center **out);
/* expected may be NULL, or have zeros for "any". Waits up to timeout_s for the segment to appear and be ready. */
dk_status dk_center_attach(const char *name, const dk_layout *expected, double timeout_s, dk_center **out);
/* Nobody begins a call any more; waits for those in progress, in all threads, releases this process' workers, and lets go of the
 * segment. Called within a call (by the listener) it does not wait: the last call lets go. Harmless when repeated, at once too. */
dk_status dk_center_close(dk_center *center);
dk_status dk_center_release_workers(dk_center *center);              /* of this process, once their exchanges are through */
void dk_center_free(dk_center *center);                              /* closes, and ends the handle; workers' handles stay valid */
dk_status dk_center_layout(const dk_center *center, dk_layout *out); /* this and the next two: closed or not */
const char *dk_center_note(const dk_center *center);
uint64_t dk_center_stripes(const dk_center *center);
/* 0: the center, 1...: states; NULL if there is none such, and once it is closed. Unlocked: to look, not to touch, and only until then. */
void *dk_center_vector(dk_center *center, uint32_t index);
/* vector as in dk_center_vector; each stripe is copied under its lock. */
dk_status dk_center_snapshot(dk_center *center, uint32_t vector, void *out, double timeout_s);
dk_status dk_center_restore(dk_center *center, uint32_t vector, const void *data, double timeout_s);
dk_status dk_center_versions(dk_center *center, uint64_t *out); /* commits, one number a stripe: a death counts one if some of it is in */

typedef struct dk_counts {
    uint32_t live;           /* claimed slots whose owner lives */
    uint32_t deaths;         /* owners that died without releasing their slot */
    uint64_t recovered;      /* stripes whose owner died while holding the lock */
    uint64_t undone;         /* their commits of which nothing is in */
    uint64_t kept, elements; /* those of which the first blocks are in; how many elements these have */
} dk_counts;
dk_status dk_center_counts(dk_center *center, dk_counts *out); /* buries the dead first */

/* Remove the segment if it is one, this user's, and no process holds it: *removed says. */
dk_status dk_segment_sweep(const char *name, int *removed);

/* ------------------------------------------------------------------ worker */

typedef enum dk_slot_state { DK_SLOT_FREE = 0, DK_SLOT_CLAIMED = 1, DK_SLOT_DONE = 2, DK_SLOT_DEAD = 3 } dk_slot_state;

/* Where a worker stands in its data: what another process needs to go on from there. Exact under kill -9: one store, of the slot's
 * `exchanges`, makes it valid together with the exchange. While begun is exchanges + 1, one is under way, or a death ended it. */
typedef struct dk_place {
    uint64_t epoch, step, steps, samples; /* batches of the epoch that are done; steps and samples since the training began */
} dk_place;

typedef struct dk_slot_view {
    uint32_t state;
    int32_t pid;
    int64_t rank;              /* the caller's own number, -1 when it gave none */
    double started, heartbeat; /* seconds since the epoch */
    uint64_t exchanges, steps, samples, epoch;
    uint64_t total_samples; /* expected, for progress bars; 0 unknown */
    double loss;
    double exchange_seconds;
    double staleness_sum;             /* of the means of all exchanges */
    uint64_t histogram[DK_HISTOGRAM]; /* of staleness, one count per stripe exchanged */
    dk_place place;                   /* where the worker stood at its last exchange that is in whole */
    dk_place next;                    /* and where it will stand, or would have stood, at the one after it, if that was begun */
    uint64_t begun, stripes_in;       /* the number of the exchange that was begun last, and how many stripes have it whole; see dk_place */
    uint64_t in_part;                 /* 1: another stripe has a part of it, or may have */
} dk_slot_view;

/* A worker belongs to the process that claimed it: in a forked child it counts as released. */
dk_status dk_worker_claim(dk_center *center, int64_t rank, dk_worker **out);
dk_status dk_worker_release(dk_worker *worker); /* harmless when repeated */
void dk_worker_free(dk_worker *worker);         /* releases, and ends the handle */
uint32_t dk_worker_slot(const dk_worker *worker);
/* DK_INVALID once it was released; DK_BUSY, if it is to be idle, within an exchange. */
dk_status dk_worker_check(const dk_worker *worker, int idle);
/* Where this worker will stand when its next exchange is in, and those after it. */
dk_status dk_worker_place(dk_worker *worker, const dk_place *place);
/* Before its first exchange: it takes over from another worker, who had made so many and stood there. */
dk_status dk_worker_resume(dk_worker *worker, uint64_t exchanges, const dk_place *place);
/* What a monitor sees of this worker; NaN loss means none yet. */
dk_status dk_worker_report(dk_worker *worker, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples, double loss);
dk_status dk_center_slot(dk_center *center, uint32_t slot, dk_slot_view *out); /* buries the slot's owner if it is dead */

/* ------------------------------------------------------------------ exchange */

/* What a vector is. DK_STATE + k: the k-th state; DK_OUTSIDE: no vector of the segment, but memory of the caller. */
enum { DK_OUTSIDE = -1, DK_CENTER = 0, DK_WORKER = 1, DK_PREVIOUS = 2, DK_STATE = 3 };

/* The last elements of a center may be statistics (batch norm's moving mean and variance): positions, not progress. No rule
 * touches them. A kernel of their own, of dkcore/engine/merge_formulas.py, averages them in the same pass under the same lock. */
typedef struct dk_statistic {
    uint64_t length;  /* elements; 0: none */
    dk_kernel kernel; /* of (center, worker, what the worker held); in rounds: of (first state, worker). One scalar: sharers */
    dk_looking looking;
    void *held; /* length elements: what the worker held of them after its last exchange; NULL: `previous` has it */
    int32_t in_rounds;
    double sharers; /* OUT: live workers of this node; in rounds: hand-ins that are in the stripe, and this one */
} dk_statistic;

/* One prepared exchange. Addresses of it travel to other libraries (the TensorFlow op), so it is plain data. */
typedef struct dk_call {
    dk_worker *worker;
    dk_kernel kernel;   /* NULL: a pull */
    dk_looking looking; /* NULL: nobody looks at the worker; otherwise it takes the kernel's place */
    void *previous;     /* length elements, or NULL when the rule does not name p */
    int32_t vectors, role[DK_MAX_VECTORS];
    uint32_t only_read;               /* bits of the vectors that the kernel does not write: none of them is saved for an undo */
    int32_t hands_in;                 /* 1: it hands in for a round (see dk_statistic.in_rounds), and counts among the arrivals */
    int32_t staleness_at, workers_at; /* where the engine writes these scalars; -1: the rule does not name them */
    dk_status status;                 /* OUT: of the last run */
    double scalars[DK_MAX_SCALARS];
    dk_statistic statistic;
    double timeout_s;   /* for one stripe */
    uint64_t max_ahead; /* if bounded: exchanges that this worker may be ahead of the slowest live one */
    int32_t bounded;
    double patience_s;    /* for the slowest worker */
    uint64_t settles;     /* leased batches that this exchange commits, the first ones that are not settled; see lease.h */
    double staleness;     /* OUT: mean over stripes of the last run */
    double seconds;       /* OUT: of the last run */
    uint64_t bad_element; /* OUT: the first one met that is not finite */
    char message[512];    /* OUT: why status is not DK_OK; dk_error() belongs to the thread that ran it */
} dk_call;

/* DK_BUSY, and the call untouched, while another thread is within an exchange of the same worker.
 * The worker's weights, as segments in the order of the center; their lengths (elements) add up to the center's. */
dk_status dk_exchange(dk_call *call, size_t segments, void *const *addresses, const uint64_t *lengths);
/* w = c (and p = c, and what is held of statistics, when not NULL), stripe by stripe, and forget all staleness: how a worker
 * joins. Needs no kernel. */
dk_status dk_pull(dk_call *call, size_t segments, void *const *addresses, const uint64_t *lengths);

#include "codec.h"
#include "gate.h"
#include "lease.h"
#include "node.h"
#include "range.h"

#ifdef __cplusplus
}
#endif
#endif
