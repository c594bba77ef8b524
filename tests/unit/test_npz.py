import os
import threading
import zipfile

import numpy as np
import pytest

from dkcore.data.npz import data_offset, open_npz, write_npz
from dkcore.errors import DataError


def parts(**changed):
    arrays = {
        "x_train": np.arange(24, dtype=np.float32).reshape(6, 2, 2),
        "y_train": np.arange(6, dtype=np.uint8),
        "x_test": np.ones((2, 2, 2), np.float32),
        "y_test": np.array([3, 4], np.uint8),
    }
    return {key: value for key, value in {**arrays, **changed}.items() if value is not None}


def assert_same(found, arrays):
    assert list(found) == list(arrays)
    for key, array in arrays.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("save", [np.savez, lambda path, **arrays: write_npz(path, arrays)])
def test_stored_arrays_are_mapped_in_place(tmp_path, save):
    save(tmp_path / "a.npz", **parts())
    found = open_npz(tmp_path / "a.npz")
    assert_same(found, parts())
    for array in found.values():
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert str(array.filename) == str(tmp_path / "a.npz")


@pytest.mark.parametrize("where", [None, "unpacked"])
def test_compressed_arrays_are_unpacked(tmp_path, where):
    np.savez_compressed(tmp_path / "a.npz", **parts())
    directory = where and tmp_path / where
    found = open_npz(tmp_path / "a.npz", directory)
    assert_same(found, parts())
    assert all(isinstance(array, np.memmap) == bool(where) for array in found.values())
    assert sorted(path.name for path in tmp_path.rglob("*.npy")) == (sorted(f"{key}.npy" for key in parts()) if where else [])


def test_fortran_order(tmp_path):
    arrays = parts(x_train=np.asfortranarray(parts()["x_train"]))
    np.savez(tmp_path / "a.npz", **arrays)
    assert_same(open_npz(tmp_path / "a.npz"), arrays)


def test_weights_are_taken_and_no_key_is_left_out(tmp_path):
    weights = np.ones(len(parts()["x_train"]), "float32")
    np.savez(tmp_path / "a.npz", **parts(), sample_weight_train=weights)
    np.testing.assert_array_equal(open_npz(tmp_path / "a.npz")["sample_weight_train"], weights)
    for name, nearest in {"sample_weights_train": "sample_weight_train", "X_test": "x_test", "y_trian": "y_train"}.items():
        np.savez(tmp_path / "a.npz", **parts(), **{name: weights})
        with pytest.raises(DataError, match=f"a key '{name}'. Did you mean '{nearest}'?"):
            open_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **parts(), notes=np.array(["not", "numbers"]))
    with pytest.raises(DataError, match="a key 'notes'. Save the arrays that are to be used under these names, and no others."):
        open_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **parts(), sample_weight_train=weights[1:])
    with pytest.raises(DataError, match="and weights, as samples x_train"):
        open_npz(tmp_path / "a.npz")


def test_no_test_data(tmp_path):
    np.savez(tmp_path / "a.npz", **parts(x_test=None, y_test=None))
    assert list(open_npz(tmp_path / "a.npz")) == ["x_train", "y_train"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_train": None}, "y_train in .*Received: x_train, x_test, y_test"),
        ({"x_train": None, "y_train": None}, "x_train and y_train in"),
        ({"y_test": None}, "both of x_test and y_test"),
        ({"y_train": np.array([None] * 6)}, "at y_train .*Python objects"),
        ({"y_train": np.array(["seven"] * 6)}, "at y_train .*<U5"),
        ({"x_train": np.zeros((6, 2, 2), np.complex64)}, "at x_train .*complex64"),
        ({"y_train": np.arange(5)}, "'x_train': 6, 'y_train': 5"),
        ({"y_test": np.arange(3, dtype=np.uint8)}, "'x_test': 2, 'y_test': 3"),
        ({"x_train": np.zeros((0, 2, 2)), "y_train": np.zeros(0)}, r"one sample or more at x_train .*\(0, 2, 2\)"),
        ({"y_train": np.float32(1)}, r"one sample or more at y_train .*shape \(\)"),
        ({"x_test": np.ones((2, 4), np.float32)}, r"'x_train': \(2, 2\), 'x_test': \(4,\)"),
    ],
)
def test_bad_arrays_are_named(tmp_path, save, changed, message):
    save(tmp_path / "a.npz", **parts(**changed))
    with pytest.raises(DataError, match=message):
        open_npz(tmp_path / "a.npz", tmp_path / "unpacked")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_pickle_is_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", **parts(y_train=np.array([Bomb(str(tmp_path / "exploded"))] * 6)))
    with pytest.raises(DataError, match="Python objects"):
        open_npz(tmp_path / "a.npz")
    assert not (tmp_path / "exploded").exists()


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "cut.npz", **parts())
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:-200])
    for name in ("text.npz", "cut.npz", "absent.npz", "."):
        with pytest.raises(DataError, match=r"an \.npz file"):
            open_npz(tmp_path / name)


@pytest.mark.parametrize("begin", [0, 500])  # which zlib notices; which only the checksum does
def test_damaged_content(tmp_path, begin):
    noise = np.random.default_rng(0).random((6, 20, 20))
    np.savez_compressed(tmp_path / "a.npz", **parts(x_train=noise, x_test=None, y_test=None))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        begin += data_offset(tmp_path / "a.npz", archive.getinfo("x_train.npy"))
    content[begin : begin + 100] = b"\xff" * 100
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"an \.npz file"):
        open_npz(tmp_path / "a.npz", tmp_path)


def test_encrypted_file(tmp_path):
    np.savez(tmp_path / "a.npz", **parts())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        open_npz(tmp_path / "a.npz")


def test_member_shorter_than_its_header_says(tmp_path):
    np.save(tmp_path / "y.npy", np.zeros(100_000))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("y_train.npy", (tmp_path / "y.npy").read_bytes()[:1000])
        archive.writestr("x_train.npy", (tmp_path / "y.npy").read_bytes()[:1000])
    with pytest.raises(DataError, match="all of x_train"):
        open_npz(tmp_path / "a.npz")


def test_written_arrays_are_aligned(tmp_path):
    write_npz(tmp_path / "a.npz", parts())
    assert [array.offset % 64 for array in open_npz(tmp_path / "a.npz").values()] == [0] * 4
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None
    with np.load(tmp_path / "a.npz") as archive:
        assert_same({key: archive[key] for key in archive}, parts())


def test_writers_at_once_never_leave_half_a_file(tmp_path):
    path, failures = tmp_path / "a.npz", []
    arrays = [parts(x_train=np.full((6, 300, 300), number, np.float32), x_test=None, y_test=None) for number in range(4)]
    write_npz(path, arrays[0])

    def write(number):
        for _ in range(10):
            write_npz(path, arrays[number])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        x = open_npz(path)["x_train"]
        if not (x == x[0, 0, 0]).all():
            failures.append("torn")
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(tmp_path) == ["a.npz"]


def test_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        write_npz(tmp_path / "a.npz", {"x_train": np.zeros(3), "y_train": np.array([None])})
    assert os.listdir(tmp_path) == []
