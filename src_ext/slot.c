/* slot.c: a worker lives while the byte of its slot is locked (an open-file-description lock, F_OFD_SETLK).
 *
 * Not a pid, which other containers number otherwise and the kernel gives out again; not a robust mutex, which dies with
 * the thread that claimed it. The lock decides who owns a slot; the state says what became of the last owner. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
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

static void put_place(dk_slot *slot, uint64_t exchange, const dk_place *place) {
    PUT(slot->places[exchange % 2][0], place->epoch);
    PUT(slot->places[exchange % 2][1], place->step);
    PUT(slot->places[exchange % 2][2], place->steps);
    PUT(slot->places[exchange % 2][3], place->samples);
}

static dk_place place_of(dk_slot *slot, uint64_t exchange) {
    _Atomic uint64_t *place = slot->places[exchange % 2];
    return (dk_place){GET(place[0]), GET(place[1]), GET(place[2]), GET(place[3])};
}

/* A death between any two of these stores leaves the last exchange, with its place, as the last. */
void dk_slot_begin(const dk_worker *worker) {
    dk_slot *slot = &worker->center->slots[worker->slot];
    uint64_t number = GET(slot->exchanges) + 1;
    PUT(slot->stripes_in, 0);
    PUT(slot->in_part, 0);
    put_place(slot, number, &worker->place);
    atomic_signal_fence(memory_order_seq_cst);
    PUT(slot->begun, number);
    atomic_signal_fence(memory_order_seq_cst);
}

void dk_slot_resume(dk_worker *worker, uint64_t exchanges, const dk_place *place) {
    dk_slot *slot = &worker->center->slots[worker->slot];
    worker->place = *place;
    put_place(slot, exchanges, place);
    atomic_store_explicit(&slot->exchanges, exchanges, memory_order_release);
    PUT(slot->begun, exchanges);
}

void dk_slot_complete(const dk_worker *worker) {
    dk_slot *slot = &worker->center->slots[worker->slot];
    atomic_store_explicit(&slot->exchanges, GET(slot->exchanges) + 1, memory_order_release);
}

void dk_slot_show(dk_worker *worker, int64_t rank) {
    dk_center *center = worker->center;
    dk_slot *slot = &center->slots[worker->slot];
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
    PUT(slot->begun, 0);
    PUT(slot->stripes_in, 0);
    PUT(slot->in_part, 0);
    put_place(slot, 0, &worker->place);
    for (int i = 0; i < DK_HISTOGRAM; i++)
        PUT(slot->histogram[i], 0);
    worker->generation = generation;
    atomic_fetch_add(&center->header->live, 1);
    atomic_store(&slot->state, generation << 8 | DK_SLOT_CLAIMED);
}

/* Fresh slots first, so that what former workers left there stays readable as long as possible. */
int dk_slot_take(dk_worker *worker) {
    dk_center *center = worker->center;
    for (int fresh = 1; fresh >= 0; fresh--)
        for (uint32_t i = 0; i < center->header->layout.slots; i++) {
            uint64_t state = atomic_load(&center->slots[i].state) & 0xff;
            if ((state == DK_SLOT_FREE) == fresh && lock_byte(worker->fd, i, F_OFD_SETLK, F_WRLCK) == 0) {
                worker->slot = i;
                bury(center, &center->slots[i], atomic_load(&center->slots[i].state));
                return 1;
            }
        }
    return 0;
}

void dk_slot_leave(dk_worker *worker) {
    dk_center *center = worker->center;
    uint64_t mine = worker->generation << 8 | DK_SLOT_CLAIMED;
    if (worker->fd < 0)
        return;
    if (atomic_compare_exchange_strong(&center->slots[worker->slot].state, &mine, worker->generation << 8 | DK_SLOT_DONE))
        atomic_fetch_sub(&center->header->live, 1);
    close(worker->fd);
    worker->fd = -1;
}

void dk_slot_report(dk_worker *worker, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples, double loss) {
    dk_slot *slot = &worker->center->slots[worker->slot];
    PUT(slot->steps, steps);
    PUT(slot->samples, samples);
    PUT(slot->epoch, epoch);
    PUT(slot->total_samples, total_samples);
    PUT(slot->loss, loss);
    PUT(slot->heartbeat, dk_now(CLOCK_REALTIME));
}

dk_status dk_slot_look(dk_center *center, uint32_t index, dk_slot_view *out) {
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
    out->steps = GET(slot->steps);
    out->samples = GET(slot->samples);
    out->epoch = GET(slot->epoch);
    out->total_samples = GET(slot->total_samples);
    for (int i = 0; i < DK_HISTOGRAM; i++)
        out->histogram[i] = GET(slot->histogram[i]);
    uint64_t exchanges = out->exchanges = atomic_load_explicit(&slot->exchanges, memory_order_acquire);
    out->place = place_of(slot, exchanges);
    out->next = place_of(slot, exchanges + 1);
    out->begun = GET(slot->begun);
    out->stripes_in = GET(slot->stripes_in);
    out->in_part = GET(slot->in_part);
    return DK_OK;
}
