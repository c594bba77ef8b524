/* stripe.c: the lock of a stripe. glibc and the kernel solve the dead owner (PTHREAD_MUTEX_ROBUST); undo.c makes the stripe whole. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "internal.h"

/* A stripe is held for some microseconds. Asking again that long is cheaper than two switches to the kernel; beyond it
 * we sleep, because the holder may have lost its core. */
enum { PATIENCE = 400 };

static void breathe(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

dk_status dk_lock_init(pthread_mutex_t *lock) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    int error = pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return error ? dk_fail(DK_SYSTEM, "pthread_mutex_init: %s", strerror(error)) : DK_OK;
}

/* ThreadSanitizer (gcc 12) does not know pthread_mutex_clocklock, and would see no lock where there is one. */
#ifdef __SANITIZE_THREAD__
#define DK_WAIT_CLOCK CLOCK_REALTIME
#define DK_LOCK_UNTIL(lock, until) pthread_mutex_timedlock(lock, until)
#else
#define DK_WAIT_CLOCK CLOCK_MONOTONIC
#define DK_LOCK_UNTIL(lock, until) pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, until)
#endif

static int lock_soon(pthread_mutex_t *lock) {
    for (int i = 0; i < PATIENCE; i++) {
        int error = pthread_mutex_trylock(lock);
        if (error != EBUSY)
            return error;
        breathe();
    }
    return EBUSY;
}

/* In slices, between which we may be told to stop. */
static dk_status lock_slowly(const dk_center *center, pthread_mutex_t *lock, double timeout_s, int *error) {
    double deadline = dk_now(DK_WAIT_CLOCK) + timeout_s;
    while ((*error = lock_soon(lock)) == EBUSY) {
        DK_FAULT(DK_POINT_WAIT);
        double now = dk_now(DK_WAIT_CLOCK), end = fmin(now + DK_SLICE, deadline);
        struct timespec until = {.tv_sec = (time_t)end, .tv_nsec = (long)(fmod(end, 1.0) * 1e9)};
        *error = DK_LOCK_UNTIL(lock, &until);
        if (*error != ETIMEDOUT || now >= deadline)
            break;
        DK_CHECK(dk_heed(center));
    }
    return DK_OK;
}

dk_status dk_lock_take(const dk_center *center, pthread_mutex_t *lock, double timeout_s, int *error) {
    *error = pthread_mutex_trylock(lock);
    return *error == EBUSY ? lock_slowly(center, lock, timeout_s, error) : DK_OK;
}

/* What an attempt at the lock came to. */
static dk_status settle(dk_center *center, uint64_t index, uint32_t holder, int error) {
    dk_stripe *stripe = &center->stripes[index];
    if (error == EOWNERDEAD) {
        dk_undo_mend(center, index);
        dk_slots_bury(center);
    } else if (error) {
        return dk_fail(DK_SYSTEM, "pthread_mutex_lock of stripe %llu: %s", (unsigned long long)index, strerror(error));
    }
    atomic_store_explicit(&stripe->holder, holder, memory_order_relaxed);
    return DK_OK;
}

dk_status dk_stripe_lock(dk_center *center, uint64_t index, uint32_t holder, double timeout_s) {
    dk_stripe *stripe = &center->stripes[index];
    int error = pthread_mutex_trylock(&stripe->lock);
    if (error == EBUSY)
        DK_CHECK(lock_slowly(center, &stripe->lock, timeout_s, &error));
    if (error != ETIMEDOUT)
        return settle(center, index, holder, error);
    uint32_t by = atomic_load_explicit(&stripe->holder, memory_order_relaxed), slots = center->header->layout.slots;
    if (by == 0 || by > slots)
        return dk_fail(DK_TIMEOUT, "stripe %llu of center %s was locked for %g s, last by a merge, a restore or a snapshot",
                       (unsigned long long)index, center->name, timeout_s);
    return dk_fail(DK_TIMEOUT, "stripe %llu of center %s was locked for %g s, last by the worker in slot %d (pid %d)",
                   (unsigned long long)index, center->name, timeout_s, (int)by - 1, (int)atomic_load(&center->slots[by - 1].pid));
}

dk_status dk_stripe_try(dk_center *center, uint64_t index, uint32_t holder) {
    int error = pthread_mutex_trylock(&center->stripes[index].lock);
    return error == EBUSY ? DK_TIMEOUT : settle(center, index, holder, error);
}

void dk_stripe_unlock(dk_center *center, uint64_t index) { pthread_mutex_unlock(&center->stripes[index].lock); }
