"""Rows that lie in files: they come out as they went in, wherever they lie, and the files go away."""

import os
from mmap import PAGESIZE
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dkcore import _engine
from dkcore.data import shm_budget
from dkcore.data.arrow_columns import Pieces, open_pieces
from dkcore.data.arrow_writer import CHUNK, Store
from dkcore.data.shm_budget import Room
from dkcore.errors import DataError
from dkcore.ranks.shm import remove_orphans

SHARED = Path("/dev/shm")
NOWHERE = Path("/nowhere")
KINDS = ["bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64"]
HOLDER = """
from pathlib import Path
from dkcore.data.shm_budget import Room
from dkcore.data.arrow_writer import Store
store = Store(Path("/tmp"), "train", Room(Path("/dev/shm")))
store.append({"x": np.zeros(int(sys.argv[1]))})
print(store.files[0], flush=True)
input()
"""
RNG = np.random.default_rng(0)


def stored(store: Store, sizes: list[int], make) -> dict[str, np.ndarray]:
    """Put that many rows of ``make(rows)`` into the store at a time; all of them."""
    batches = [make(rows) for rows in sizes]
    for batch in batches:
        store.append(batch)
    store.finish()
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def columns(rows: int) -> dict[str, np.ndarray]:
    """One column of each kind, of every rank."""
    return {f"{kind} {shape}": RNG.integers(0, 100, (rows, *shape)).astype(kind) for kind in KINDS for shape in ((), (3,), (2, 5, 1))}


@pytest.mark.parametrize("shared", [SHARED, NOWHERE])
def test_rows_come_out_as_they_went_in(tmp_path, shared):
    with Store(tmp_path, "train", Room(shared)) as first, Store(tmp_path, "train", Room(NOWHERE)) as second:
        one, two = stored(first, [5, 1, 2000], columns), stored(second, [33], columns)
        assert all(Path(file).parent == (tmp_path if shared == NOWHERE else SHARED) for file in first.files)
        assert first.shared_bytes == (0 if shared == NOWHERE else first.bytes)
        pieces = open_pieces(first.files + second.files, first.columns)
        rows = RNG.permutation(2039)
        for name, piece in pieces.items():
            whole = np.concatenate([one[name], two[name]])
            assert (piece.shape, piece.dtype, piece.ndim, len(piece), piece.nbytes) == (
                whole.shape, whole.dtype, whole.ndim, len(whole), whole.nbytes)  # fmt: skip
            np.testing.assert_array_equal(piece[rows], whole[rows])
            assert piece[rows].dtype == whole.dtype and piece[rows].flags.writeable
            assert piece[rows[:0]].shape == whole[:0].shape
    assert not os.listdir(tmp_path)


def test_nobody_can_change_the_files_and_only_rows_are_given(tmp_path):
    with Store(tmp_path, "train", Room(NOWHERE)) as store:
        stored(store, [4], lambda rows: {"x": np.arange(rows)})
        [piece] = open_pieces(store.files, store.columns).values()
        assert not piece.memory.flags.writeable and not piece.windows.flags.writeable
        assert piece[np.arange(4)].tolist() == [0, 1, 2, 3]
        for wrong in (-1, 4):
            with pytest.raises(IndexError, match="rows of 0 to 3"):
                piece[np.array([1, wrong])]


def test_a_range_takes_a_file_within_its_bounds(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    addresses = _engine.Range(2 * PAGESIZE)
    with open(tmp_path / "file", "rb") as file:
        for at, size in ((PAGESIZE, PAGESIZE + 1), (2 * PAGESIZE + 1, 0)):
            with pytest.raises(ValueError, match=f"{size} bytes at {at} of a range of {2 * PAGESIZE}"):
                addresses.map(file.fileno(), at, size)
        with pytest.raises(OSError, match="mmap of 10 bytes of a file: Invalid argument"):
            addresses.map(file.fileno(), 1, 10)
        addresses.map(file.fileno(), PAGESIZE, 10)
    memory = np.frombuffer(addresses, np.uint8)
    del addresses, file
    assert memory[PAGESIZE : PAGESIZE + 10].tobytes() == b"0123456789"
    assert len(memory) == 2 * PAGESIZE and not memory[:PAGESIZE].any() and not memory.flags.writeable


def test_no_files_are_an_array_without_rows():
    empty = open_pieces([], {"x": {"dtype": "float32", "shape": [7]}})["x"]
    assert (len(empty), empty.shape, empty[np.arange(0)].shape) == (0, (0, 7), (0, 7))


def test_other_columns_and_broken_files_are_named(tmp_path):
    with Store(tmp_path, "train", Room(NOWHERE)) as store:
        stored(store, [4], lambda rows: {"x": np.ones((rows, 2), "f4")})
        for column in ({"dtype": "float64", "shape": [2]}, {"dtype": "float32", "shape": [3]}):
            with pytest.raises(DataError, match=r"'shape': \[2\]} in .*train-"):
                open_pieces(store.files, {"x": column})
        with pytest.raises(DataError, match="'y'. Received: none"):
            open_pieces(store.files, {"y": column})
        os.truncate(store.files[0], 100)
        with pytest.raises(DataError, match="an Arrow IPC file"):
            open_pieces(store.files, store.columns)
    with pytest.raises(DataError, match="No such file"):
        open_pieces(store.files, store.columns)


@pytest.mark.parametrize(("array", "options"), [(pa.array([True, False]), {}), (pa.array([1.0, 2.0]), {"compression": "zstd"})])
def test_what_could_not_be_mapped_is_refused(tmp_path, array, options):
    file = tmp_path / "other.arrow"
    with pa.ipc.new_file(file, pa.schema([("x", array.type)]), options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([array], ["x"]))
    with pytest.raises(DataError, match=f"in column 'x'. Received: .*{file.name}"):
        open_pieces([file], {"x": {"dtype": "bool" if array.type == pa.bool_() else "float64", "shape": []}})


def test_large_arrays_are_not_copied(tmp_path):
    with Store(tmp_path, "train", Room(NOWHERE)) as store:
        stored(store, [8] * 40, lambda rows: {"x": np.ones((rows, 1 << 17), "f4")})  # 160 MiB
        before = resident()
        piece = open_pieces(store.files, store.columns)["x"]
        assert isinstance(piece, Pieces) and piece[np.array([300])].sum() == 1 << 17
        assert resident() - before < 40e6


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_shared_memory_is_left_half_free(tmp_path, monkeypatch):
    left = 20 << 20
    with Store(tmp_path, "train", Room(SHARED)) as store:
        monkeypatch.setattr(shm_budget, "free", lambda shared: left - os.stat(store.files[0]).st_blocks * 512 if store.files else left)
        store.room = Room(SHARED)
        whole = stored(store, [1 << 17] * 40, lambda rows: {"x": RNG.random(rows)})  # 40 MiB
        assert [Path(file).parent for file in store.files] == [SHARED, tmp_path]
        assert 6 << 20 <= store.shared_bytes <= 10 << 20
        assert store.bytes == 40 << 20
        rows = RNG.permutation(40 << 17)
        np.testing.assert_array_equal(open_pieces(store.files, store.columns)["x"][rows], whole["x"][rows])


def test_when_shared_memory_is_full_all_the_same_the_rest_goes_to_the_directory(tmp_path, monkeypatch):
    calls = []

    def fallocate(file, offset, size):
        calls.append(size)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    with Store(tmp_path, "train", Room(SHARED)) as store:
        whole = stored(store, [CHUNK // 8] * 5, lambda rows: {"x": RNG.random(rows)})
        assert [Path(file).parent for file in store.files] == [SHARED, tmp_path]
        assert store.shared_bytes == 2 * CHUNK
        rows = np.arange(len(whole["x"]))
        np.testing.assert_array_equal(open_pieces(store.files, store.columns)["x"][rows], whole["x"])


def test_nobody_takes_files_in_use_for_orphans(tmp_path, script):
    with Store(tmp_path, "train", Room(SHARED)) as store:
        store.append({"x": np.zeros(CHUNK)})
        remove_orphans()
        store.finish()
        remove_orphans()
        assert Path(store.files[0]).exists()
    assert not Path(store.files[0]).exists()
    other = script(HOLDER, CHUNK)
    path = Path(other.line())
    assert path.exists()
    other.kill()
    remove_orphans()
    assert not path.exists()


def test_room_is_never_more_than_memory(monkeypatch):
    assert shm_budget.free(NOWHERE) == 0
    assert not Room(NOWHERE).has(1)
    monkeypatch.setattr(shm_budget, "available", lambda: 1000)
    assert shm_budget.free(SHARED) == 1000
    assert Room(SHARED).has(500) and not Room(SHARED).has(501)


def test_a_container_s_memory_counts(monkeypatch, tmp_path):
    whole = shm_budget.available()
    for name, text in {"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 500\ninactive_file 300"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(shm_budget, "own_cgroups", lambda: [tmp_path])
    assert shm_budget.available() == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert shm_budget.available() > whole / 2
