/* lease.h: which batches of an epoch a worker trains. A part of dkcore.h, which includes it.
 *
 * Batches of all epochs are numbered in a row: ticket = epoch * batches of an epoch + batch. Workers of a node lease the next ones,
 * and settle them by the exchange that commits them (dk_call.settles). What a worker leaves unsettled, however it ends, goes back, and
 * is leased again before the next ones. See docs/decisions/0013-leases.md. */
#ifndef DKCORE_LEASE_H
#define DKCORE_LEASE_H

#define DK_HELD 8 /* ranges that a worker holds at most */

typedef struct dk_tickets {
    uint64_t first, count;
} dk_tickets;

typedef struct dk_leases {
    uint64_t batches;    /* of an epoch; 0: none are leased here */
    uint64_t next;       /* the next ticket: those below it are settled, held by a worker, or waiting */
    uint64_t held;       /* batches that workers hold */
    uint64_t waiting;    /* batches that went back, to be leased again */
    uint64_t returned;   /* batches that went back so far */
    uint64_t doubtful;   /* batches whose worker died within the exchange that settles them: settled, though some of it may not be in */
    uint32_t under_way;  /* exchanges that are about to settle */
    uint32_t open, busy; /* below the ticket that was asked for: 1 if some can be leased; 1 if a worker holds some */
} dk_leases;

/* So many batches an epoch. Harmless when repeated with the same number; DK_INVALID with another. */
dk_status dk_lease_open(dk_center *center, uint64_t batches);
/* At most `most` batches of one epoch, with tickets below `until`: first what went back, the oldest of it, then the next ones. They are
 * trained in the order in which they were leased. count 0: there are none, or this worker holds DK_HELD ranges. */
dk_status dk_lease_take(dk_worker *worker, uint64_t most, uint64_t until, dk_tickets *out);
/* Just these of those that wait: what this worker held in a former life. DK_NOT_FOUND when they do not. */
dk_status dk_lease_resume(dk_worker *worker, uint64_t first, uint64_t count);
dk_status dk_lease_look(dk_center *center, dk_leases *out);
/* Until there is something to lease below `until`, or all of that is settled, or the time is up: see what came. */
dk_status dk_lease_await(dk_center *center, uint64_t until, double timeout_s, dk_leases *out);
/* What is not settled below next, as it is at one moment: *count ranges, of which `room` at most are written. */
dk_status dk_lease_unsettled(dk_center *center, dk_tickets *out, uint64_t room, uint64_t *count, dk_leases *leases);
/* Before anything is leased: go on at `next`, with these ranges to be leased again. DK_FULL when they are too many. */
dk_status dk_lease_restore(dk_center *center, uint64_t batches, uint64_t next, const dk_tickets *waiting, uint64_t count);

#endif
