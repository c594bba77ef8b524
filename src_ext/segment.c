/* segment.c: how a segment of POSIX shared memory is made, found and mapped.
 *
 * Every process that uses a segment holds a shared flock on it. Who wants to remove it asks for the exclusive flock:
 * getting it proves that nobody is left, whatever happened to them. No list of users can go stale, because there is none. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ledger.h"

static dk_status map(dk_center *center, uint64_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, center->fd, 0);
    if (memory == MAP_FAILED)
        return dk_fail(DK_SYSTEM, "mmap of %llu bytes of %s: %s", (unsigned long long)bytes, center->name, strerror(errno));
    center->header = memory;
    return DK_OK;
}

static dk_status new_center(const char *name, dk_center **out) {
    dk_center *center = calloc(1, sizeof *center);
    if (!center)
        return dk_fail(DK_SYSTEM, "out of memory");
    snprintf(center->name, sizeof center->name, "%s", name);
    center->fd = -1;
    center->pid = getpid();
    atomic_store(&center->holders, 1);
    *out = center;
    struct stat space;
    if (stat("/proc/self/ns/pid", &space))
        return dk_fail(DK_SYSTEM, "stat /proc/self/ns/pid: %s", strerror(errno));
    center->space = (dk_space){space.st_dev, space.st_ino};
    return DK_OK;
}

static void drop(dk_center *center) {
    if (center->fd >= 0)
        close(center->fd);
    free(center);
}

static dk_status fill(dk_center *center, const dk_header *planned, const void *initial, const char *note) {
    DK_CHECK(dk_file_reserve(center->fd, center->name, 0, planned->fixed));
    if (ftruncate(center->fd, (off_t)planned->bytes))
        return dk_fail(DK_SYSTEM, "ftruncate %s: %s", center->name, strerror(errno));
    DK_CHECK(map(center, planned->bytes));
    dk_header *header = center->header;
    header->layout_version = DK_LAYOUT_VERSION;
    header->mutex_bytes = sizeof(pthread_mutex_t);
    header->space = center->space;
    snprintf(header->note, sizeof header->note, "%s", note ? note : "");
    memcpy(&header->layout, &planned->layout, sizeof header->layout);
    dk_layout_plan(header, &planned->layout);
    dk_layout_find(center);
    for (uint64_t i = 0; i < header->stripes; i++)
        DK_CHECK(dk_lock_init(&center->stripes[i].lock));
    DK_CHECK(dk_lock_init(&dk_ledger_of(center)->lock));
    for (int i = 0; i < DK_GUESTS; i++)
        DK_CHECK(dk_lock_init(&header->guests[i]));
    memcpy(dk_vector(center, 0), initial, header->layout.length * header->layout.itemsize);
    header->magic = DK_MAGIC;
    atomic_store_explicit(&header->others_slowest, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&header->ready, 1, memory_order_release);
    return DK_OK;
}

/* The segment gets its name last: nobody ever sees half of one, and who is killed before leaves nothing. */
static dk_status make(dk_center *center, const dk_header *planned, const void *initial, const char *note) {
    int removed;
    DK_CHECK(dk_segment_sweep(center->name, &removed));
    DK_CHECK(dk_file_free(center->name)); /* before memory is asked for */
    DK_CHECK(dk_file_new(&center->fd));
    DK_CHECK(fill(center, planned, initial, note));
    return dk_file_name(center->fd, center->name);
}

dk_status dk_center_create(const char *name, const dk_layout *layout, const void *initial, const char *note, dk_center **out) {
    DK_CHECK(dk_layout_check(layout));
    dk_center *center = NULL;
    dk_header planned = {0};
    dk_layout_plan(&planned, layout);
    dk_status status = new_center(name, &center);
    if (status == DK_OK)
        status = make(center, &planned, initial, note);
    if (status != DK_OK && center) {
        if (center->header)
            munmap(center->header, planned.bytes);
        drop(center);
    }
    if (status == DK_OK)
        *out = dk_center_enlist(center);
    return status;
}

static dk_status check_header(const dk_header *h, const dk_layout *want, const dk_center *center) {
    const char *name = center->name;
    if (h->magic != DK_MAGIC || h->layout_version != DK_LAYOUT_VERSION || h->mutex_bytes != sizeof(pthread_mutex_t))
        return dk_fail(DK_LAYOUT, "%s was made by another version of dkcore, or is none of its segments", name);
    /* A robust lock holds the thread's number, which means another thread in another namespace: it would be taken away from who lives. */
    if (h->space.device != center->space.device || h->space.inode != center->space.inode)
        return dk_fail(DK_NAMESPACE,
                       "Expected a center made in this namespace of processes (pid:[%llu]). Received: %s of another one (pid:[%llu]). "
                       "Run both containers with --pid=host (Docker) or shareProcessNamespace: true (Kubernetes), or make the center by "
                       "Center.of, which merges them as two nodes.",
                       (unsigned long long)center->space.inode, name, (unsigned long long)h->space.inode);
    const dk_layout *have = &h->layout;
    if (!want)
        return DK_OK;
    if ((want->length && want->length != have->length) || (want->itemsize && want->itemsize != have->itemsize) ||
        (want->digest && have->digest && want->digest != have->digest))
        return dk_fail(DK_LAYOUT, "center %s has %llu elements of %u bytes (digest %016llx); this side has %llu of %u (%016llx)", name,
                       (unsigned long long)have->length, have->itemsize, (unsigned long long)have->digest, (unsigned long long)want->length,
                       want->itemsize, (unsigned long long)want->digest);
    if (want->statistics && want->statistics != have->statistics)
        return dk_fail(DK_LAYOUT, "of center %s the last %llu elements are statistics; on this side the last %llu", name,
                       (unsigned long long)have->statistics, (unsigned long long)want->statistics);
    return DK_OK;
}

/* One look: DK_NOT_FOUND means not yet. */
static dk_status try_attach(dk_center *center, const dk_layout *expected) {
    DK_CHECK(dk_file_open(center->name, &center->fd));
    struct stat status;
    if (flock(center->fd, LOCK_SH) || !dk_file_named(center->fd, center->name) || fstat(center->fd, &status) ||
        (size_t)status.st_size < sizeof(dk_header))
        return DK_NOT_FOUND;
    DK_CHECK(map(center, sizeof(dk_header)));
    dk_header *header = center->header;
    dk_status found = atomic_load_explicit(&header->ready, memory_order_acquire) ? check_header(header, expected, center) : DK_NOT_FOUND;
    uint64_t bytes = header->bytes;
    munmap(header, sizeof(dk_header));
    center->header = NULL;
    DK_CHECK(found);
    DK_CHECK(map(center, bytes));
    dk_layout_find(center);
    return DK_OK;
}

static dk_status await(dk_center *center, const dk_layout *expected, double timeout_s) {
    double deadline = dk_now(CLOCK_MONOTONIC) + timeout_s;
    dk_status status;
    for (int naps = 1; (status = try_attach(center, expected)) == DK_NOT_FOUND; naps++) {
        if (center->fd >= 0)
            close(center->fd);
        center->fd = -1;
        if (dk_now(CLOCK_MONOTONIC) >= deadline)
            return dk_fail(DK_NOT_FOUND, "no center %s appeared in %g s", center->name, timeout_s);
        if (naps % 25 == 0)
            DK_CHECK(dk_heed(NULL));
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return status;
}

dk_status dk_center_attach(const char *name, const dk_layout *expected, double timeout_s, dk_center **out) {
    dk_center *center = NULL;
    dk_status status = new_center(name, &center);
    if (status == DK_OK)
        status = await(center, expected, timeout_s);
    if (status == DK_OK)
        *out = dk_center_enlist(center);
    else if (center)
        drop(center);
    return status;
}
