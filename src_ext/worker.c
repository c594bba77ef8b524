/* worker.c: a worker of this process: it claims a slot, shows there how it fares, and gives it back. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ledger.h"

#define DK_CLAIM_PATIENCE 60.0 /* seconds for a stripe that the slot's former owner died in */

static void enlist(dk_worker *worker) {
    dk_center *center = worker->center;
    atomic_fetch_add(&center->holders, 1);
    dk_books_lock();
    worker->next = center->workers;
    center->workers = worker;
    dk_books_unlock();
}

/* What the slot's former owner left behind must not be taken for this worker's: so what the slot shows changes last. */
static dk_status make_ready(dk_worker *worker, int64_t rank) {
    dk_center *center = worker->center;
    uint64_t bytes = center->header->undo_bytes, at = center->header->fixed + worker->slot * bytes;
    DK_CHECK(dk_file_reserve(worker->fd, center->name, at, bytes));
    DK_CHECK(dk_undo_settle(center, worker->slot + 1, DK_CLAIM_PATIENCE));
    DK_CHECK(dk_lease_reclaim(center, worker->slot));
    dk_slot_show(worker, rank);
    return DK_OK;
}

static dk_status claim(dk_center *center, int64_t rank, dk_worker **out) {
    uint64_t stripes = center->header->stripes;
    dk_worker *worker = calloc(1, sizeof *worker + stripes * sizeof worker->seen[0]);
    if (!worker)
        return dk_fail(DK_SYSTEM, "out of memory");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", center->fd);
    worker->center = center;
    worker->pid = getpid();
    worker->fd = open(path, O_RDWR | O_CLOEXEC);
    if (worker->fd < 0) {
        free(worker);
        return dk_fail(DK_SYSTEM, "open %s: %s", path, strerror(errno));
    }
    if (!dk_slot_take(worker)) {
        close(worker->fd);
        free(worker);
        return dk_fail(DK_FULL, "all %u slots of center %s are claimed: create it with more", center->header->layout.slots, center->name);
    }
    dk_status status = make_ready(worker, rank);
    if (status != DK_OK) {
        dk_slot_leave(worker);
        free(worker);
        return status;
    }
    dk_versions_read(center, worker->seen);
    dk_layout_touch(center, worker->slot);
    enlist(worker);
    *out = worker;
    return DK_OK;
}

dk_status dk_worker_claim(dk_center *center, int64_t rank, dk_worker **out) { DK_WITHIN(center, claim(center, rank, out)); }

static dk_status refuse_busy(void) {
    return dk_fail(DK_BUSY, "Expected one thread at a time. Received: another within an exchange. Give each its own center.worker().");
}

dk_status dk_worker_check(const dk_worker *worker, int idle) {
    if (worker->fd < 0 && worker->pid != getpid())
        return dk_fail(DK_INVALID, "Expected a worker of this process. Received: its parent's. Claim another with center.worker().");
    if (worker->fd < 0)
        return dk_fail(DK_INVALID, "Expected a live worker. Received: one that was released. Claim another with center.worker().");
    return idle && worker->busy ? refuse_busy() : DK_OK;
}

/* busy is ours: nobody else releases the worker, but a close. */
dk_status dk_worker_refuse(dk_worker *worker, int busy) {
    if (busy)
        return refuse_busy();
    dk_status status = dk_worker_check(worker, 0);
    atomic_store_explicit(&worker->busy, 0, memory_order_release);
    return status == DK_OK ? dk_refuse_closed() : status;
}

dk_status dk_worker_release(dk_worker *worker) {
    if (atomic_exchange_explicit(&worker->busy, 1, memory_order_acquire))
        return refuse_busy();
    dk_books_lock();
    dk_slot_leave(worker);
    dk_books_unlock();
    atomic_store_explicit(&worker->busy, 0, memory_order_release);
    return DK_OK;
}

/* One that is within an exchange is waited for, unless it is this thread that is. */
dk_status dk_center_release_workers(dk_center *center) {
    for (int busy = 1; busy;) {
        busy = 0;
        dk_books_lock();
        for (dk_worker *worker = center->workers; worker; worker = worker->next) {
            if (atomic_exchange_explicit(&worker->busy, 1, memory_order_acquire)) {
                busy = !dk_listening();
                continue;
            }
            dk_slot_leave(worker);
            atomic_store_explicit(&worker->busy, 0, memory_order_release);
        }
        dk_books_unlock();
        if (busy) {
            DK_CHECK(dk_heed(NULL));
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    return DK_OK;
}

void dk_worker_free(dk_worker *worker) {
    dk_center *center = worker->center;
    dk_books_lock();
    dk_slot_leave(worker);
    dk_worker **at = &center->workers;
    while (*at != worker)
        at = &(*at)->next;
    *at = worker->next;
    dk_books_unlock();
    free(worker);
    dk_center_drop(center);
}

uint32_t dk_worker_slot(const dk_worker *worker) { return worker->slot; }

dk_status dk_worker_place(dk_worker *worker, const dk_place *place) {
    DK_CHECK(dk_worker_check(worker, 1));
    worker->place = *place;
    return DK_OK;
}

dk_status dk_worker_resume(dk_worker *worker, uint64_t exchanges, const dk_place *place) {
    DK_CHECK(dk_worker_check(worker, 1));
    DK_CHECK(dk_enter(worker->center));
    dk_slot_resume(worker, exchanges, place);
    dk_leave(worker->center);
    return DK_OK;
}

dk_status dk_worker_report(dk_worker *worker, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples, double loss) {
    DK_CHECK(dk_worker_check(worker, 0));
    DK_CHECK(dk_enter(worker->center));
    dk_slot_report(worker, steps, samples, epoch, total_samples, loss);
    dk_leave(worker->center);
    return DK_OK;
}
