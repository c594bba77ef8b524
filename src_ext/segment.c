/* segment.c: the life of a segment of POSIX shared memory.
 *
 * Every process that uses a segment holds a shared flock on it. Who wants to remove it asks for the exclusive flock:
 * getting it proves that nobody is left, whatever happened to them. No list of users can go stale, because there is none. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

static _Thread_local char last_error[512];

const char *dk_error(void) { return last_error; }

dk_status dk_fail(dk_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

double dk_now(int clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); }

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

/* The name still means this very file, and not a later one of the same name. */
static int is_linked(int fd, const char *name) {
    struct stat mine, there;
    int other = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
    int same = other >= 0 && !fstat(fd, &mine) && !fstat(other, &there) && mine.st_ino == there.st_ino;
    if (other >= 0)
        close(other);
    return same;
}

dk_status dk_segment_sweep(const char *name, int *removed) {
    *removed = 0;
    int fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return errno == ENOENT ? DK_OK : dk_fail(DK_SYSTEM, "shm_open %s: %s", name, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_linked(fd, name))
        *removed = shm_unlink(name) == 0;
    close(fd);
    return DK_OK;
}

static void plan(dk_header *header, const dk_layout *layout) {
    header->layout = *layout;
    header->stripes = (layout->length + layout->stripe_length - 1) / layout->stripe_length;
    header->slots_at = round_up(sizeof *header, DK_LINE);
    header->stripes_at = header->slots_at + layout->slots * sizeof(dk_slot);
    header->vectors_at = round_up(header->stripes_at + header->stripes * sizeof(dk_stripe), DK_PAGE);
    header->vector_bytes = round_up(layout->length * layout->itemsize, DK_PAGE);
    header->bytes = header->vectors_at + (1 + layout->states) * header->vector_bytes;
}

static dk_status check_layout(const dk_layout *l) {
    if (l->length == 0 || (l->itemsize != 4 && l->itemsize != 8) || l->slots == 0 || l->states > DK_MAX_VECTORS - 3)
        return dk_fail(DK_INVALID, "length %llu, itemsize %u, slots %u, states %u", (unsigned long long)l->length, l->itemsize, l->slots,
                       l->states);
    if (l->stripe_length == 0 || l->stripe_length * l->itemsize % 64)
        return dk_fail(DK_INVALID, "stripes of %llu elements do not fill whole cache lines", (unsigned long long)l->stripe_length);
    return DK_OK;
}

/* Touching a page that shared memory has no room for is a SIGBUS. So ask, then have every page given now. */
static dk_status reserve(int fd, const char *name, uint64_t bytes) {
    struct statvfs room;
    if (fstatvfs(fd, &room))
        return dk_fail(DK_SYSTEM, "fstatvfs %s: %s", name, strerror(errno));
    uint64_t have = (uint64_t)room.f_bavail * room.f_frsize;
    int full = room.f_blocks != 0 && have < bytes; /* no blocks at all: a tmpfs without a limit */
    int error = full ? ENOSPC : posix_fallocate(fd, 0, (off_t)bytes);
    if (error == ENOSPC || error == ENOMEM)
        return dk_fail(
            DK_NO_ROOM,
            "have %llu bytes free in /dev/shm, need %llu: enlarge it (mount -o remount,size=... /dev/shm, or docker run --shm-size=...)",
            (unsigned long long)have, (unsigned long long)bytes);
    return error ? dk_fail(DK_SYSTEM, "posix_fallocate %s: %s", name, strerror(error)) : DK_OK;
}

static dk_status map(dk_center *center, uint64_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, center->fd, 0);
    if (memory == MAP_FAILED)
        return dk_fail(DK_SYSTEM, "mmap of %llu bytes of %s: %s", (unsigned long long)bytes, center->name, strerror(errno));
    center->header = memory;
    return DK_OK;
}

static void find_parts(dk_center *center) {
    char *base = (char *)center->header;
    center->slots = (dk_slot *)(base + center->header->slots_at);
    center->stripes = (dk_stripe *)(base + center->header->stripes_at);
}

static dk_center *new_center(const char *name) {
    dk_center *center = calloc(1, sizeof *center);
    if (center) {
        snprintf(center->name, sizeof center->name, "%s", name);
        center->fd = -1;
        center->pid = getpid();
    }
    return center;
}

static void drop(dk_center *center) {
    if (center->fd >= 0)
        close(center->fd);
    free(center);
}

static dk_status open_new(dk_center *center) {
    for (int tries = 0; tries < 100; tries++) {
        center->fd = shm_open(center->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (center->fd < 0 && errno == EEXIST) {
            int removed;
            DK_CHECK(dk_segment_sweep(center->name, &removed));
            if (!removed)
                return dk_fail(DK_EXISTS, "%s is in use by another process: attach to it, or choose another name", center->name);
            continue;
        }
        if (center->fd < 0)
            return dk_fail(DK_SYSTEM, "shm_open %s: %s", center->name, strerror(errno));
        if (flock(center->fd, LOCK_SH) == 0 && is_linked(center->fd, center->name))
            return DK_OK;
        close(center->fd); /* a sweeper came between shm_open and flock */
        center->fd = -1;
    }
    return dk_fail(DK_SYSTEM, "%s was removed a hundred times while it was created", center->name);
}

static dk_status fill(dk_center *center, const dk_header *planned, const void *initial, const char *note) {
    DK_CHECK(reserve(center->fd, center->name, planned->bytes));
    DK_CHECK(map(center, planned->bytes));
    dk_header *header = center->header;
    header->layout_version = DK_LAYOUT_VERSION;
    header->mutex_bytes = sizeof(pthread_mutex_t);
    snprintf(header->note, sizeof header->note, "%s", note ? note : "");
    memcpy(&header->layout, &planned->layout, sizeof header->layout);
    plan(header, &planned->layout);
    find_parts(center);
    for (uint64_t i = 0; i < header->stripes; i++)
        DK_CHECK(dk_stripe_init(&center->stripes[i]));
    memcpy(dk_vector(center, 0), initial, header->layout.length * header->layout.itemsize);
    header->magic = DK_MAGIC;
    atomic_store_explicit(&header->others_slowest, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&header->ready, 1, memory_order_release);
    return DK_OK;
}

dk_status dk_center_create(const char *name, const dk_layout *layout, const void *initial, const char *note, dk_center **out) {
    DK_CHECK(check_layout(layout));
    dk_center *center = new_center(name);
    if (!center)
        return dk_fail(DK_SYSTEM, "out of memory");
    dk_header planned = {0};
    plan(&planned, layout);
    dk_status status = open_new(center);
    if (status == DK_OK && (status = fill(center, &planned, initial, note)) != DK_OK)
        shm_unlink(name);
    if (status != DK_OK) {
        if (center->header)
            munmap(center->header, planned.bytes);
        drop(center);
        return status;
    }
    *out = center;
    return DK_OK;
}

static dk_status check_header(const dk_header *h, const dk_layout *want, const char *name) {
    if (h->magic != DK_MAGIC || h->layout_version != DK_LAYOUT_VERSION || h->mutex_bytes != sizeof(pthread_mutex_t))
        return dk_fail(DK_LAYOUT, "%s was made by another version of dkcore, or is none of its segments", name);
    const dk_layout *have = &h->layout;
    if (!want)
        return DK_OK;
    if ((want->length && want->length != have->length) || (want->itemsize && want->itemsize != have->itemsize) ||
        (want->digest && have->digest && want->digest != have->digest))
        return dk_fail(DK_LAYOUT, "center %s has %llu elements of %u bytes (digest %016llx); this side has %llu of %u (%016llx)", name,
                       (unsigned long long)have->length, have->itemsize, (unsigned long long)have->digest, (unsigned long long)want->length,
                       want->itemsize, (unsigned long long)want->digest);
    return DK_OK;
}

/* One look: DK_NOT_FOUND means not yet. */
static dk_status try_attach(dk_center *center, const dk_layout *expected) {
    center->fd = shm_open(center->name, O_RDWR | O_CLOEXEC, 0);
    if (center->fd < 0)
        return errno == ENOENT ? DK_NOT_FOUND : dk_fail(DK_SYSTEM, "shm_open %s: %s", center->name, strerror(errno));
    struct stat status;
    if (flock(center->fd, LOCK_SH) || !is_linked(center->fd, center->name) || fstat(center->fd, &status) ||
        (size_t)status.st_size < sizeof(dk_header))
        return DK_NOT_FOUND;
    DK_CHECK(map(center, sizeof(dk_header)));
    dk_header *header = center->header;
    dk_status found =
        atomic_load_explicit(&header->ready, memory_order_acquire) ? check_header(header, expected, center->name) : DK_NOT_FOUND;
    uint64_t bytes = header->bytes;
    munmap(header, sizeof(dk_header));
    center->header = NULL;
    DK_CHECK(found);
    DK_CHECK(map(center, bytes));
    find_parts(center);
    return DK_OK;
}

dk_status dk_center_attach(const char *name, const dk_layout *expected, double timeout_s, dk_center **out) {
    dk_center *center = new_center(name);
    if (!center)
        return dk_fail(DK_SYSTEM, "out of memory");
    double deadline = dk_now(CLOCK_MONOTONIC) + timeout_s;
    dk_status status;
    while ((status = try_attach(center, expected)) == DK_NOT_FOUND) {
        if (center->fd >= 0)
            close(center->fd);
        center->fd = -1;
        if (dk_now(CLOCK_MONOTONIC) >= deadline) {
            dk_fail(DK_NOT_FOUND, "no center %s appeared in %g s", name, timeout_s);
            break;
        }
        nap();
    }
    if (status != DK_OK) {
        drop(center);
        return status;
    }
    *out = center;
    return DK_OK;
}

dk_status dk_center_close(dk_center *center) {
    munmap(center->header, center->header->bytes);
    int last = center->pid == getpid() && flock(center->fd, LOCK_EX | LOCK_NB) == 0;
    if (last && is_linked(center->fd, center->name))
        shm_unlink(center->name);
    drop(center);
    return DK_OK;
}
