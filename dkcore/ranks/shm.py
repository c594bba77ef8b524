"""Files in shared memory: where they are, how ours are named and born, what MPI puts there, and what nobody holds any longer.

The reaper runs this file without site-packages: it needs the standard library alone.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MAGIC", "MPI_SEGMENTS", "PREFIX", "SHARED_MEMORY", "locked_file", "mpi_segments", "names_in_maps", "names_in_use",
           "remove_orphans", "unlink_segments", "unlink_unless_foreign", "unused_segments"]  # fmt: skip

SHARED_MEMORY = "/dev/shm"
PREFIX = "dkcore-"
MAGIC = b"dkcore\0\0"  # the first bytes of whatever dkcore puts into shared memory: DK_MAGIC of src_ext/internal.h
MPI_SEGMENTS = ("mpich_shm_", "ucx_shm_posix_", "sm_segment.", "vader_segment.")  # what MPICH, its UCX and Open MPI name theirs


@contextlib.contextmanager
def locked_file(path: str) -> Iterator[int]:
    """A new file, which begins with dkcore's mark, with a shared flock from its birth on, so that nobody takes it for an orphan.

    Gives its descriptor; the file goes away when the context ends.
    """
    file = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        os.write(file, MAGIC)
        os.link(f"/proc/self/fd/{file}", path, src_dir_fd=file)  # with a dir_fd only does Python follow the symbolic link
        try:
            yield file
        finally:
            os.unlink(path)
    finally:
        os.close(file)


# ---------------------------------------------------------------------- MPI's files


def mpi_segments(prefixes: tuple[str, ...] = MPI_SEGMENTS) -> list[str]:
    """Names in /dev/shm of what MPI shares between this rank and the others; an abnormal end would leave it there."""
    mapped = names_in_maps(Path("/proc/self/maps").read_bytes())
    return sorted(name for name in mapped if name.startswith(prefixes) and not name.endswith("(deleted)"))


def unlink_segments(prefixes: tuple[str, ...] = MPI_SEGMENTS) -> None:
    """Take the names of MPI's segments away; who has mapped them keeps them."""
    for name in mpi_segments(prefixes):
        Path(SHARED_MEMORY, name).unlink(missing_ok=True)


def names_in_maps(maps: bytes) -> set[str]:
    """The files in shared memory of a /proc/PID/maps, whose lines end with a path: of any bytes, blanks too."""
    paths = [os.fsdecode(fields[5]) for line in maps.split(b"\n") if len(fields := line.split(maxsplit=5)) == 6]
    return {os.path.basename(path) for path in paths if os.path.dirname(path) == SHARED_MEMORY}


def names_in_use(pid: int | str) -> set[str]:
    """MPI's files in shared memory that a process has open or mapped; none of one that ends, whose memory goes before its files."""
    maps = Path(f"/proc/{pid}/maps").read_bytes()
    if not maps:
        return set()
    found = names_in_maps(maps)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            folder, _, name = os.readlink(entry).rpartition("/")
            found |= {name} if folder == SHARED_MEMORY else set()
    return {name for name in found if name.startswith(MPI_SEGMENTS)}


def unused_segments(since: float) -> set[str]:
    """What MPI has put into shared memory since then, and nobody has open: of ranks that mpiexec killed within MPI_Init."""
    paths = [entry.path for entry in os.scandir(SHARED_MEMORY) if entry.name.startswith(MPI_SEGMENTS)]
    found = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if is_own(seen := os.lstat(path)) and seen.st_ctime >= since:
                found.add(os.path.basename(path))
    for pid in filter(str.isdigit, os.listdir("/proc") if found else []):
        with contextlib.suppress(OSError):  # gone, or another user's
            found -= names_in_use(pid)
    return found


# ---------------------------------------------------------------------- what may be removed


def is_own(seen: os.stat_result) -> bool:
    """Whether it is a plain file of this user. Whoever else puts something there, under any name, may keep it."""
    return stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid()


def unlink_unless_foreign(name: str) -> None:
    """Remove a file by its name, if it is one of this user's."""
    path = Path(SHARED_MEMORY, name)
    with contextlib.suppress(OSError):  # gone meanwhile
        if is_own(path.lstat()):
            path.unlink()


def remove_orphans() -> None:
    """Remove dkcore's files in shared memory that no process holds: whoever uses one keeps a shared flock on it."""
    for entry in os.scandir(SHARED_MEMORY):
        if entry.name.startswith(PREFIX):
            with contextlib.suppress(OSError):  # in use, gone meanwhile, or not for us to open
                remove_if_unheld(entry.path)


def remove_if_unheld(path: str) -> None:
    if not is_own(os.lstat(path)):  # before it is opened, which does something to a fifo
        return
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not is_own(os.fstat(file)) or os.pread(file, len(MAGIC), 0) != MAGIC:
            return
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), os.lstat(path)):  # and not a later one of the same name
            os.unlink(path)
    finally:
        os.close(file)
