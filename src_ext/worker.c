/* worker.c: slots. A worker lives while the byte of its slot is locked (an open-file-description lock, F_OFD_SETLK).
 *
 * Not a pid, which other containers number otherwise and the kernel gives out again; not a robust mutex, which dies with
 * the thread that claimed it. The lock decides who owns a slot; the state says what became of the last owner. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define PUT(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define GET(field) atomic_load_explicit(&(field), memory_order_relaxed)

static int lock_byte(int fd, uint32_t slot, int command, short type) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
    int error = fcntl(fd, command, &range);
    return command == F_OFD_GETLK && error == 0 ? range.l_type != F_UNLCK : error;
}

/* Whoever moves a slot from claimed to dead counts the death: the generation makes sure that it is one death, once. */
static void bury(dk_center *center, dk_slot *slot, uint64_t state) {
    if ((state & 0xff) != DK_SLOT_CLAIMED)
        return;
    if (atomic_compare_exchange_strong(&slot->state, &state, (state & ~0xffull) | DK_SLOT_DEAD)) {
        atomic_fetch_add(&center->header->deaths, 1);
        atomic_fetch_sub(&center->header->live, 1);
    }
}

static void bury_if_dead(dk_center *center, uint32_t i) {
    uint64_t state = atomic_load(&center->slots[i].state);
    if ((state & 0xff) == DK_SLOT_CLAIMED && lock_byte(center->fd, i, F_OFD_GETLK, F_WRLCK) == 0)
        bury(center, &center->slots[i], state);
}

void dk_slots_bury(dk_center *center) {
    for (uint32_t i = 0; i < center->header->layout.slots; i++)
        bury_if_dead(center, i);
}

static void settle(dk_worker *worker, int64_t rank) {
    dk_center *center = worker->center;
    dk_slot *slot = &center->slots[worker->slot];
    bury(center, slot, atomic_load(&slot->state));
    uint64_t generation = (atomic_load(&slot->state) >> 8) + 1;
    PUT(slot->pid, (int32_t)getpid());
    PUT(slot->rank, rank);
    PUT(slot->started, dk_now(CLOCK_REALTIME));
    PUT(slot->heartbeat, dk_now(CLOCK_REALTIME));
    PUT(slot->loss, NAN);
    PUT(slot->exchange_seconds, 0.0);
    PUT(slot->staleness_sum, 0.0);
    PUT(slot->exchanges, 0);
    PUT(slot->steps, 0);
    PUT(slot->samples, 0);
    PUT(slot->epoch, 0);
    PUT(slot->total_samples, 0);
    for (int i = 0; i < DK_HISTOGRAM; i++)
        PUT(slot->histogram[i], 0);
    worker->generation = generation;
    atomic_fetch_add(&center->header->live, 1);
    atomic_store(&slot->state, generation << 8 | DK_SLOT_CLAIMED);
}

/* Fresh slots first, so that what former workers left there stays readable as long as possible. */
static int take_slot(dk_worker *worker) {
    dk_center *center = worker->center;
    for (int fresh = 1; fresh >= 0; fresh--)
        for (uint32_t i = 0; i < center->header->layout.slots; i++) {
            uint64_t state = atomic_load(&center->slots[i].state) & 0xff;
            if ((state == DK_SLOT_FREE) == fresh && lock_byte(worker->fd, i, F_OFD_SETLK, F_WRLCK) == 0) {
                worker->slot = i;
                return 1;
            }
        }
    return 0;
}

dk_status dk_worker_claim(dk_center *center, int64_t rank, dk_worker **out) {
    uint64_t stripes = center->header->stripes;
    dk_worker *worker = calloc(1, sizeof *worker + stripes * sizeof worker->seen[0]);
    if (!worker)
        return dk_fail(DK_SYSTEM, "out of memory");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", center->fd);
    worker->center = center;
    worker->fd = open(path, O_RDWR | O_CLOEXEC);
    if (worker->fd < 0) {
        free(worker);
        return dk_fail(DK_SYSTEM, "open %s: %s", path, strerror(errno));
    }
    if (!take_slot(worker)) {
        close(worker->fd);
        free(worker);
        return dk_fail(DK_FULL, "all %u slots of center %s are claimed: create it with more", center->header->layout.slots, center->name);
    }
    settle(worker, rank);
    dk_center_versions(center, worker->seen);
    *out = worker;
    return DK_OK;
}

dk_status dk_worker_release(dk_worker *worker) {
    dk_center *center = worker->center;
    uint64_t mine = worker->generation << 8 | DK_SLOT_CLAIMED;
    if (center->pid == getpid() &&
        atomic_compare_exchange_strong(&center->slots[worker->slot].state, &mine, worker->generation << 8 | DK_SLOT_DONE))
        atomic_fetch_sub(&center->header->live, 1);
    close(worker->fd);
    free(worker);
    return DK_OK;
}

uint32_t dk_worker_slot(const dk_worker *worker) { return worker->slot; }

dk_status dk_worker_report(dk_worker *worker, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples, double loss) {
    dk_slot *slot = &worker->center->slots[worker->slot];
    PUT(slot->steps, steps);
    PUT(slot->samples, samples);
    PUT(slot->epoch, epoch);
    PUT(slot->total_samples, total_samples);
    PUT(slot->loss, loss);
    PUT(slot->heartbeat, dk_now(CLOCK_REALTIME));
    return DK_OK;
}

dk_status dk_center_slot(dk_center *center, uint32_t index, dk_slot_view *out) {
    if (index >= center->header->layout.slots)
        return dk_fail(DK_INVALID, "slot %u of %u", index, center->header->layout.slots);
    bury_if_dead(center, index);
    dk_slot *slot = &center->slots[index];
    out->state = (uint32_t)(atomic_load(&slot->state) & 0xff);
    out->pid = GET(slot->pid);
    out->rank = GET(slot->rank);
    out->started = GET(slot->started);
    out->heartbeat = GET(slot->heartbeat);
    out->loss = GET(slot->loss);
    out->exchange_seconds = GET(slot->exchange_seconds);
    out->staleness_sum = GET(slot->staleness_sum);
    out->exchanges = GET(slot->exchanges);
    out->steps = GET(slot->steps);
    out->samples = GET(slot->samples);
    out->epoch = GET(slot->epoch);
    out->total_samples = GET(slot->total_samples);
    for (int i = 0; i < DK_HISTOGRAM; i++)
        out->histogram[i] = GET(slot->histogram[i]);
    return DK_OK;
}
