"""Names are bytes, and what is ours carries our mark: other people's files in /dev/shm, and processes with names of any kind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import Traces, write_script

import dkcore as dk
from dkcore.engine.segments import sweep_orphans
from dkcore.launch.launch import importable
from dkcore.ranks import shm
from dkcore.ranks.processes import birth

SHARED_MEMORY = Path("/dev/shm")
KINDS = ("file", "folder", "link", "dangling link", "link to an orphan", "fifo", "socket", "latin-1", "of another user", "empty",
         "ranks", "data")  # fmt: skip


def put(kind: str, orphan: Path) -> bytes:
    """Something of somebody else's that is called as if it were ours; its path."""
    import socket

    name = {"latin-1": b"z\xfcrich %s:\n", "ranks": b"ranks-of mine-0", "data": b"data.npz"}.get(kind, kind.replace(" ", "_").encode())
    path = b"/dev/shm/dkcore-" + name
    if kind == "folder":
        os.mkdir(path)
    elif "link" in kind:
        os.symlink({"link": "/tmp", "dangling link": "/nowhere"}.get(kind, orphan), path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
    else:
        with open(path, "wb") as file:
            file.write(shm.MAGIC if kind == "of another user" else b"" if kind == "empty" else b"PK\3\4 what a user needs")
    if kind == "of another user" and os.geteuid() == 0:
        os.chown(path, 12345, -1)
    elif kind == "of another user":
        os.unlink(path)
    return path


def looks(paths: list[bytes]) -> dict[bytes, tuple]:
    """What may not change of files; who looks at one may change when it was last looked at."""
    seen = {path: os.lstat(path) for path in paths if os.path.lexists(path)}
    return {path: (each.st_ino, each.st_mode, each.st_uid, each.st_size, each.st_mtime_ns) for path, each in seen.items()}


@pytest.fixture
def foreign(script):
    """Files of others; and one of ours that nobody holds, which is to go."""
    killed = script("center = dk.Center.create(np.zeros(3))\nprint(center.name, flush=True)\ninput()")
    orphan = SHARED_MEMORY / killed.line()
    killed.kill()
    paths = [put(kind, orphan) for kind in KINDS]
    before = looks(paths)
    yield orphan
    try:
        assert looks(paths) == before
    finally:
        for path in before:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def clean() -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "dkcore", "clean"], env=importable(dict(os.environ)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removed 1: dkcore-")


SWEEPS = {"create": lambda: dk.Center.create(np.zeros(3)).close(), "sweep": sweep_orphans, "reaper": shm.remove_orphans, "clean": clean}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_only_what_carries_our_mark_is_removed(sweep, foreign):
    SWEEPS[sweep]()
    assert not foreign.exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("latin-1", "ranks")])
def test_a_name_that_is_somebody_else_s_is_neither_taken_nor_attached_to(kind, foreign):
    name = kind.replace(" ", "_") if kind != "data" else "data.npz"
    if not os.path.lexists(SHARED_MEMORY / f"dkcore-{name}"):
        pytest.skip("only root may make a file of another user")
    with pytest.raises(FileExistsError, match=f"dkcore-{name} is there already, and is none of dkcore's segments"):
        dk.Center.create(np.zeros(3), name=name)
    with pytest.raises((dk.errors.LayoutError, dk.errors.CenterNotFoundError)):
        dk.Center.attach(name, timeout=0.1)
    sweep_orphans()


def test_files_that_ranks_and_executors_put_there_carry_our_mark_from_their_birth_on():
    path = SHARED_MEMORY / "dkcore-ranks-test-0"
    with shm.locked_file(str(path)):
        assert path.read_bytes() == shm.MAGIC
        shm.remove_orphans()  # it is held
        assert path.exists()
        os.link(path, SHARED_MEMORY / "dkcore-ranks-test-1")
    assert sweep_orphans() == ["dkcore-ranks-test-1"]


def test_a_map_of_memory_is_bytes():
    lines = [
        b"7f0-7f1 rw-s 00000000 00:1a 1  /dev/shm/mpich_shm_x",
        b"7f0-7f1 rw-s 00000000 00:1a 2  /home/a b/dev/shm/mpich_shm_of mine",
        b"7f0-7f1 rw-s 00000000 00:1a 3  /dev/shm/sub/mpich_shm_y",
        b"7f0-7f1 rw-s 00000000 00:1a 4  /dev/shm/z\xfcrich a:b%s\\012",
        b"7f0-7f1 rw-p 00000000 00:00 0 ",
        b"7f0-7f1 rw-s 00000000 00:1a 5  /dev/shm/sm_segment.vm.0 (deleted)",
    ]
    found = shm.names_in_maps(b"\n".join(lines) + b"\n")
    assert found == {"mpich_shm_x", "z\udcfcrich a:b%s\\012", "sm_segment.vm.0 (deleted)"}


ODD = b"z\xfcrich a:b %s\n) R 1"
# A script that has mapped a file, and bears a name, of such bytes.
MAPPED = """
import ctypes, mmap
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
ctypes.CDLL(None).prctl(15, os.fsencode(sys.argv[1]).rpartition(b"/")[2][:15], 0, 0, 0)
print("started", flush=True)
time.sleep(60)
"""


def odd_file(folder: Path) -> bytes:
    path = os.fsencode(folder) + b"/" + ODD
    with open(path, "wb") as file:
        file.write(b"\0" * 4096)
    return path


def test_a_process_that_is_called_anything_is_looked_at(tmp_path):
    import mmap

    with open(odd_file(tmp_path), "r+b") as file, mmap.mmap(file.fileno(), 0):
        assert shm.mpi_segments() == []
    with subprocess.Popen([sys.executable, "-c", "import os, sys, time\n" + MAPPED, odd_file(tmp_path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"started\n"
            assert birth(process.pid) > birth(os.getpid())
            assert shm.names_in_use(process.pid) == set()
        finally:
            process.kill()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_of_a_job_whose_ranks_have_mapped_any_name(number, locale, tmp_path):
    """Its reaper stops them all before it kills any, and must get from the one to the other."""
    folder, script = os.fsencode(tmp_path) + b"/" + ODD[:14], write_script(tmp_path, MAPPED)
    os.mkdir(folder)
    env = {**importable(dict(os.environ)), "TMPDIR": os.fsdecode(folder), "LC_ALL": locale}
    command = [sys.executable, "-P", "-m", "dkcore", "run", "-n", "2", script, odd_file(tmp_path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as launcher:
        try:
            assert [launcher.stdout.readline() for _ in range(2)] == [b"started\n"] * 2
            os.kill(launcher.pid, number)
            launcher.wait(20)
        finally:
            launcher.kill()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in filter(str.isdigit, os.listdir("/proc")) if named(pid, script)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert Traces(tmp_path).shared() == set()
    while os.listdir(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert os.listdir(folder) == []


def named(pid: str, script: str) -> bool:
    with contextlib.suppress(OSError):
        return os.fsencode(script) in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
