/* file.c: the files in /dev/shm, and which of them are ours: a regular file of this user that begins with our magic.
 *
 * Anybody may have put anything there under any name. What is not ours is not opened, not locked, not removed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "internal.h"

#define SHARED_MEMORY "/dev/shm"
enum { PATH_BYTES = 300 };

static const char *path_of(const char *name, char path[PATH_BYTES]) {
    snprintf(path, PATH_BYTES, SHARED_MEMORY "/%s", name);
    return path;
}

static int own(const struct stat *status) { return S_ISREG(status->st_mode) && status->st_uid == geteuid(); }

/* The name still means this very file, and not a later one of the same name. */
int dk_file_named(int fd, const char *name) {
    char path[PATH_BYTES];
    struct stat mine, there;
    return !fstat(fd, &mine) && !lstat(path_of(name, path), &there) && mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

/* DK_NOT_FOUND, without a sentence: there is none. Looked at before it is opened: to open a fifo or a device does something to it. */
dk_status dk_file_open(const char *name, int *fd) {
    char path[PATH_BYTES];
    struct stat status;
    *fd = -1;
    if (lstat(path_of(name, path), &status) == 0 && !own(&status))
        return dk_fail(DK_LAYOUT, "%s is no file of this user, and none of dkcore's segments", name);
    *fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return errno == ENOENT ? DK_NOT_FOUND : dk_fail(DK_SYSTEM, "open %s: %s", path, strerror(errno));
    if (fstat(*fd, &status) || !own(&status)) {
        close(*fd);
        *fd = -1;
        return DK_NOT_FOUND;
    }
    return DK_OK;
}

/* A new file without a name, with the shared flock of who uses it. */
dk_status dk_file_new(int *fd) {
    *fd = open(SHARED_MEMORY, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0 || flock(*fd, LOCK_SH))
        return dk_fail(DK_SYSTEM, "open a file in " SHARED_MEMORY ": %s", strerror(errno));
    return DK_OK;
}

static dk_status taken(const char *name) {
    int fd, ours = 0;
    uint64_t magic = 0;
    dk_status status = dk_file_open(name, &fd);
    if (status == DK_SYSTEM)
        return status;
    if (status == DK_OK) {
        ours = pread(fd, &magic, sizeof magic, 0) == sizeof magic && magic == DK_MAGIC;
        close(fd);
    }
    return ours ? dk_fail(DK_EXISTS, "%s is in use by another process: attach to it, or choose another name", name)
                : dk_fail(DK_EXISTS, "%s is there already, and is none of dkcore's segments: choose another name", name);
}

dk_status dk_file_free(const char *name) {
    char path[PATH_BYTES];
    struct stat status;
    return lstat(path_of(name, path), &status) == 0 ? taken(name) : DK_OK;
}

dk_status dk_file_name(int fd, const char *name) {
    char self[64], path[PATH_BYTES];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, AT_FDCWD, path_of(name, path), AT_SYMLINK_FOLLOW) == 0)
        return DK_OK;
    return errno == EEXIST ? taken(name) : dk_fail(DK_SYSTEM, "link %s: %s", path, strerror(errno));
}

void dk_file_remove_if_last(int fd, const char *name) {
    char path[PATH_BYTES];
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && dk_file_named(fd, name))
        unlink(path_of(name, path));
}

dk_status dk_segment_sweep(const char *name, int *removed) {
    int fd;
    uint64_t magic = 0;
    *removed = 0;
    dk_status status = dk_file_open(name, &fd);
    if (status != DK_OK) /* not there, not ours, or not for us to open */
        return status == DK_SYSTEM && errno != EACCES && errno != EPERM && errno != ELOOP ? status : DK_OK;
    if (pread(fd, &magic, sizeof magic, 0) == sizeof magic && magic == DK_MAGIC) {
        dk_file_remove_if_last(fd, name);
        *removed = !dk_file_named(fd, name);
    }
    close(fd);
    return DK_OK;
}

/* Touching a page that shared memory has no room for is a SIGBUS. So ask, then have every page given now. */
dk_status dk_file_reserve(int fd, const char *name, uint64_t at, uint64_t bytes) {
    struct statvfs room;
    if (fstatvfs(fd, &room))
        return dk_fail(DK_SYSTEM, "fstatvfs %s: %s", name, strerror(errno));
    uint64_t have = (uint64_t)room.f_bavail * room.f_frsize;
    int full = room.f_blocks != 0 && have < bytes; /* no blocks at all: a tmpfs without a limit */
    int error = full ? ENOSPC : bytes ? posix_fallocate(fd, (off_t)at, (off_t)bytes) : 0;
    if (error == ENOSPC || error == ENOMEM)
        return dk_fail(
            DK_NO_ROOM,
            "have %llu bytes free in /dev/shm, need %llu: enlarge it (mount -o remount,size=... /dev/shm, or docker run --shm-size=...)",
            (unsigned long long)have, (unsigned long long)bytes);
    errno = error;
    return error ? dk_fail(DK_SYSTEM, "posix_fallocate %s: %s", name, strerror(error)) : DK_OK;
}
