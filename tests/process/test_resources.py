"""What runs out, is refused or is damaged: said as what it is, and done without where that can be."""

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import write_script

import dkcore as dk
from dkcore.commands import doctor
from dkcore.data import shm_budget
from dkcore.engine import compile
from dkcore.errors import MissingError, NoRoomError
from dkcore.launch import requirements
from dkcore.launch.launch import launch
from dkcore.ranks import cgroups, cores
from dkcore.training import atomic_files

DESCRIPTORS = """
import os, resource
first, second = dk.Center.create(np.zeros(10), name=f"first-{os.getpid()}"), dk.Center.create(np.zeros(10))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
full = []
try:
    while True:
        full.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for attempt in (lambda: dk.Center.attach(first.name, timeout=60), lambda: dk.Center.create(np.zeros(10)), first.worker):
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__, error.errno)
second.close()
os.close(full.pop())
dk.Center.attach(first.name).close()
print(os.path.exists(f"/dev/shm/{second.name}"))
"""


def test_no_descriptor_left(script):
    lines = script(DESCRIPTORS).end().splitlines()
    assert lines == [f"OSError {errno.EMFILE}"] * 3 + ["False"]


def test_a_limit_of_memory_is_seen_before_it_kills(monkeypatch, tmp_path):
    """Of version 1, as a container has it whose own folder is not to be seen: that of the whole container is."""
    (tmp_path / "memory").mkdir()
    for name, text in {"limit_in_bytes": "50000000", "usage_in_bytes": "40000000", "stat": "cache 7\ntotal_inactive_file 2000000"}.items():
        (tmp_path / "memory" / f"memory.{name}").write_text(f"{text}\n")
    told = tmp_path / "cgroup"
    told.write_text("4:cpu,memory:/docker/abc\n0::/\n")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    monkeypatch.setattr(cgroups, "OWN_CGROUP", told)
    assert shm_budget.available() == 12_000_000
    with pytest.raises(NoRoomError, match="Expected 16000000 bytes of memory for the center. Received: 12000000"):
        dk.Center.create(np.zeros(1_000_000), states=1)
    dk.Center.create(np.zeros(1_000_000)).close()


# ---------------------------------------------------------------------- caches and pinning


@pytest.fixture
def rule(tmp_path, monkeypatch):
    """A rule that numba compiles, into a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    @dk.rule
    def half(c, w, *, k):
        """Half."""
        return c + k * (w - c), w

    yield half
    compile.numba_kernel.cache_clear()


def exchanged(rule) -> float:
    compile.numba_kernel.cache_clear()
    with dk.Center.create(np.zeros(8, np.float32)) as center:
        center.exchange(rule, np.ones(8, np.float32), k=0.5)
        return center.snapshot()[0]


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc", "*.py"])
def test_a_damaged_cache_is_done_without_and_made_anew(pattern, rule, tmp_path, caplog):
    assert exchanged(rule) == 0.5
    (file,) = (tmp_path / "cache").rglob(pattern)
    whole = file.read_bytes()
    file.write_bytes(whole[:20] + b"\xff")
    assert exchanged(rule) == 0.5
    assert len(caplog.records) == (pattern != "*.py")  # a source is written anew without a word
    caplog.clear()
    assert exchanged(rule) == exchanged(rule) == 0.5
    assert not caplog.records
    assert list((tmp_path / "cache").rglob(pattern))


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("no locator available")])
def test_a_cache_that_cannot_be_written_is_done_without(failure, rule, monkeypatch, caplog):
    def refuse(_source):
        raise failure

    monkeypatch.setattr(compile, "load", refuse)
    assert exchanged(rule) == 0.5
    assert str(failure) in caplog.text


def test_pinning_that_is_refused_is_done_without(monkeypatch, caplog):
    def refuse(*_arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr(os, "sched_getaffinity", refuse)
    cores.pin((0,))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert cores.allowed() == tuple(range(os.cpu_count()))


# ---------------------------------------------------------------------- what must be there


def refuse(*_arguments, **_settings):
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize(("of", "name"), [(os, "pidfd_open"), (signal, "pidfd_send_signal")])
def test_without_pidfds_nothing_is_started(of, name, monkeypatch, tmp_path):
    monkeypatch.setattr(of, name, refuse)
    with pytest.raises(MissingError, match="Expected a system that gives pidfds. Received: .*Operation not permitted"):
        launch([write_script(tmp_path, "")], 1, directory=tmp_path / "job")
    assert not (tmp_path / "job").exists()
    (found,) = [finding for finding in doctor.examine() if finding.what == "processes"]
    assert (found.ok, found.needed) == (False, True)


def test_shared_memory_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(requirements.tempfile, "TemporaryFile", refuse)
    with pytest.raises(MissingError, match="Expected to write into /dev/shm"):
        launch([write_script(tmp_path, "")], 1, directory=tmp_path / "job")
    found = doctor.attempt("shared memory", doctor.shared_memory, "", needed=True)
    assert not found.ok
    assert "Operation not permitted" in found.found


def test_too_little_shared_memory_for_mpi(monkeypatch, tmp_path):
    full = os.statvfs_result((4096, 4096, 16384, 16384, 16384, 0, 0, 0, 0, 255))  # 64 MiB
    monkeypatch.setattr(requirements.os, "statvfs", lambda _path: full)
    requirements.check_room(11)
    with pytest.raises(NoRoomError, match="which MPI needs for 12 ranks"):
        launch([write_script(tmp_path, "")], 12, directory=tmp_path / "job", mpi="mpich")


def test_what_mpiexec_puts_into_the_temporary_folder_goes_with_it(monkeypatch, tmp_path):
    """Its proxy is killed before it could; and ranks see the user's own temporary folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    body = "print(os.environ['TMPDIR'])\nworld.comm.Barrier()\nif world.rank:\n    os.kill(os.getpid(), 9)\nworld.comm.Barrier()"
    with pytest.raises(dk.errors.RankError, match=f"\n{scratch}\n"):
        launch([write_script(tmp_path, body)], 2, directory=tmp_path / "job", mpi="mpich")
    assert not list(scratch.glob("hydra*"))


def test_what_ucx_shares_is_removed_of_ranks_that_died_while_they_started():
    from dkcore.ranks.shm import unused_segments

    path = Path(f"/dev/shm/ucx_shm_posix_{os.getpid():x}")
    path.touch()
    try:
        assert path.name in unused_segments(path.stat().st_ctime)
        with path.open():
            assert path.name not in unused_segments(path.stat().st_ctime)
    finally:
        path.unlink()


HOLDER = """
import sys
file, memory = open(sys.argv[1], "rb"), bytearray(500 << 20)
memory[::4096] = bytes(len(memory[::4096]))
print("up", flush=True)
sys.stdin.read()
"""


def test_a_process_that_ends_uses_no_segment_though_its_files_are_not_closed_yet():
    """mpiexec kills ranks within MPI_Init, which hold MPICH's file open; their memory goes first, which takes a while."""
    from dkcore.ranks.processes import Process
    from dkcore.ranks.shm import unused_segments

    path = Path(f"/dev/shm/mpich_shm_{os.getpid():x}_0")
    path.touch()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    try:
        for _ in range(20):
            with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], **pipes) as holder, Process(holder.pid) as process:
                holder.stdout.readline()
                assert path.name not in unused_segments(path.stat().st_ctime)
                holder.kill()
                while Path(f"/proc/{holder.pid}/maps").read_bytes():
                    pass
                found = unused_segments(path.stat().st_ctime)
                if not process.ended():  # all the while it was ending
                    assert path.name in found
                    return
        pytest.fail("no process was seen while it ended")
    finally:
        path.unlink()


def test_a_process_in_the_midst_of_an_exec_belongs_to_the_job(tmp_path):
    """It has no environment yet; one that begins anew all the time is found each time."""
    from dkcore.ranks.processes import kill_marked

    again = tmp_path / "again"
    again.write_text('#!/bin/sh\nexec "$0"\n')
    again.chmod(0o755)
    for trial in range(100):
        value = f"exec-{os.getpid()}-{trial}"
        with subprocess.Popen([again], env={**os.environ, "DKCORE_TEST": value}) as process:
            try:
                assert kill_marked(f"DKCORE_TEST={value}".encode()) == set()
                assert process.wait(5) == -9
            finally:
                process.kill()


# ---------------------------------------------------------------------- disks


def test_results_that_do_not_fit_are_kept_elsewhere(tmp_path, monkeypatch):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "model.keras").write_text("the last one")
    monkeypatch.setattr(atomic_files.tempfile, "gettempdir", lambda: str(elsewhere))
    source = tmp_path / "model.keras"
    source.write_text("trained")
    copy = atomic_files.shutil.copyfile

    def full(origin, target):
        if Path(target).parent == out:
            Path(target).write_text("tra")
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(origin, target)

    monkeypatch.setattr(atomic_files.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_files.put(source, out)
    error = atomic_files.keep([source, tmp_path / "missing"], out, OSError(errno.ENOSPC, "No space left on device"))
    (kept,) = elsewhere.iterdir()
    assert error.errno == errno.ENOSPC
    assert f"Expected room for the results in {out}. Received: No space left on device." in str(error)
    assert f"model.keras of this training are in {kept}." in str(error)
    assert (kept / "model.keras").read_text() == "trained"
    assert {path.name: path.read_text() for path in out.iterdir()} == {"model.keras": "the last one"}


def test_a_model_is_saved_whole_or_elsewhere(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(atomic_files.tempfile, "tempdir", str(elsewhere))
    atomic_files.save_whole(lambda path: path.write_text(path.suffix), tmp_path / "trained.keras")
    assert (tmp_path / "trained.keras").read_text() == ".keras"  # Keras asks for it

    def full(path):
        path.write_text("half")
        if path.parent == tmp_path:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"Nothing is lost: trained.keras of this training are in {elsewhere}"):
        atomic_files.save_whole(full, tmp_path / "trained.keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "trained.keras"]
    assert (tmp_path / "trained.keras").read_text() == ".keras"
