/* calls.c: who is within a call on a center of this process, how it is closed under them, and what a fork leaves to the child.
 *
 * Design:
 * (a) Each call enters and leaves. A close lets nobody enter any more; waits in progress notice it within a slice. Whoever leaves
 *     last, the closer or a call, lets go of the segment: memory is never unmapped under somebody who reads it.
 * (b) A close waits for that, unless it is called from within a call (by a signal's handler, which runs between two slices of a
 *     wait): it would wait for itself.
 * (c) Handles outlive what they stand for, until they are freed: a call that comes late is refused, and does not crash.
 * (d) A forked child has copies of our descriptors, whose locks would say that a worker lives that was killed. It closes them. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

static pthread_mutex_t books = PTHREAD_MUTEX_INITIALIZER; /* over both lists, and over workers' descriptors */
static dk_center *centers;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic(dk_listener) listener;
static _Thread_local int listening;

void dk_books_lock(void) { pthread_mutex_lock(&books); }

void dk_books_unlock(void) { pthread_mutex_unlock(&books); }

int dk_listening(void) { return listening; }

void dk_listen(dk_listener function) { atomic_store(&listener, function); }

dk_status dk_heed(const dk_center *center) {
    if (center && atomic_load_explicit(&center->calls, memory_order_relaxed) & DK_CLOSED)
        return dk_fail(DK_INVALID, "Expected an open center. Received: one that was closed during the call. Close it afterwards.");
    dk_listener function = atomic_load(&listener);
    if (!function)
        return DK_OK;
    listening++;
    int ended = function();
    listening--;
    return ended ? dk_fail(DK_INTERRUPTED, "a signal ended the wait") : DK_OK;
}

dk_status dk_refuse_closed(void) {
    return dk_fail(DK_INVALID, "Expected an open center. Received: a closed one. Create or attach it again.");
}

/* Nobody is within a call, and nobody will be. */
void dk_let_go(dk_center *center) {
    dk_books_lock();
    for (dk_worker *worker = center->workers; worker; worker = worker->next)
        dk_slot_leave(worker);
    dk_books_unlock();
    munmap(center->header, center->header->bytes);
    if (center->pid == getpid()) /* a forked child inherits the flock and must not give it away */
        dk_file_remove_if_last(center->fd, center->name);
    close(center->fd);
    atomic_store_explicit(&center->gone, 1, memory_order_release);
}

dk_status dk_center_close(dk_center *center) {
    if (atomic_fetch_or(&center->calls, DK_CLOSED) == 0)
        dk_let_go(center);
    for (int naps = 1; !listening && !atomic_load_explicit(&center->gone, memory_order_acquire); naps++) {
        if (naps % 50 == 0)
            DK_CHECK(dk_heed(NULL));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return DK_OK;
}

void dk_center_drop(dk_center *center) {
    if (atomic_fetch_sub(&center->holders, 1) != 1)
        return;
    dk_books_lock();
    dk_center **at = &centers;
    while (*at != center)
        at = &(*at)->next;
    *at = center->next;
    dk_books_unlock();
    free(center);
}

void dk_center_free(dk_center *center) {
    if (atomic_fetch_or(&center->calls, DK_CLOSED) == 0)
        dk_let_go(center);
    dk_center_drop(center);
}

/* Of the threads that were within a call only this one is here, if it forks in a signal's handler. */
static void in_child(void) {
    for (dk_center *center = centers; center; center = center->next) {
        uint32_t calls = atomic_load(&center->calls);
        atomic_store(&center->calls, (calls & DK_CLOSED) | (listening && (calls & ~DK_CLOSED) ? 1 : 0));
        for (dk_worker *worker = center->workers; worker; worker = worker->next) {
            if (worker->fd >= 0)
                close(worker->fd);
            worker->fd = -1;
        }
    }
    dk_books_unlock();
}

static void watch_forks(void) { pthread_atfork(dk_books_lock, dk_books_unlock, in_child); }

dk_center *dk_center_enlist(dk_center *center) {
    pthread_once(&once, watch_forks);
    dk_books_lock();
    center->next = centers;
    centers = center;
    dk_books_unlock();
    return center;
}
