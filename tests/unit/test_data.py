import json
import os
import subprocess
import sys

import numpy as np
import pytest

from dkcore.data.arrays import read, write
from dkcore.data.shard import Shard
from dkcore.errors import DataError

LIGHT = """
import sys
import dkcore.data.arrays, dkcore.report.history, dkcore.mnist, dkcore.report.report
heavy = {"keras", "tensorflow", "jax", "torch", "matplotlib", "pyarrow"} & sys.modules.keys()
assert not heavy, heavy
"""


def simple(samples=13):
    return {"x_train": np.arange(samples * 2, dtype=np.float32).reshape(samples, 2), "y_train": np.arange(samples)}


def test_structures_come_back(tmp_path):
    arrays = {
        "x_train": {"image": np.arange(12).reshape(4, 3), "words": [np.ones(4, ">i2"), np.zeros((4, 1), bool)]},
        "y_train": (np.arange(4.0), np.asfortranarray(np.arange(8.0).reshape(4, 2))),
        "sample_weight_train": np.ones(4, np.float16),
        "x_test": {"image": np.arange(3).reshape(1, 3), "words": [np.ones(1, ">i2"), np.zeros((1, 1), bool)]},
        "y_test": None,
    }
    write(tmp_path / "data", arrays)
    found = read(tmp_path / "data")
    assert list(found) == ["x_train", "y_train", "sample_weight_train", "x_test"]
    np.testing.assert_array_equal(found["x_train"]["image"], arrays["x_train"]["image"])
    assert found["x_train"]["words"][0].dtype == np.dtype("=i2")
    np.testing.assert_array_equal(found["x_train"]["words"][0], 1)
    assert found["x_train"]["words"][1].dtype == bool
    np.testing.assert_array_equal(found["y_train"][1], arrays["y_train"][1])
    assert found["y_train"][1].flags.c_contiguous
    assert found["sample_weight_train"].dtype == np.float16


def test_what_is_read_is_mapped_and_private(tmp_path):
    write(tmp_path, simple())
    first, second = read(tmp_path), read(tmp_path)
    assert isinstance(first["x_train"], np.memmap)
    assert first["x_train"].ctypes.data % 64 == 0
    first["x_train"][:] = -1
    assert second["x_train"][3, 1] == 7


def test_directory_may_move(tmp_path):
    write(tmp_path / "a", simple())
    (tmp_path / "a").rename(tmp_path / "b")
    np.testing.assert_array_equal(read(tmp_path / "b")["x_train"], simple()["x_train"])


def test_mapped_arrays_are_not_copied_but_views_of_them_are(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(20))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    touched = np.load(tmp_path / "x.npy", mmap_mode="c")
    touched[0] = 77
    tests = {"whole": mapped[:4:-1], "touched": mapped[5:]}
    write(tmp_path / "data", {"x_train": {"whole": mapped, "touched": touched}, "x_test": tests})
    found = read(tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == ["arrays.json", "x_test-2.npy", "x_test-3.npy", "x_train-1.npy"]
    np.testing.assert_array_equal(found["x_train"]["whole"], np.arange(20))
    np.testing.assert_array_equal(found["x_test"]["whole"], np.arange(20)[:4:-1])
    np.testing.assert_array_equal(found["x_test"]["touched"], np.arange(5, 20))
    assert found["x_train"]["touched"][0] == 77


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": None}, "x_train"),
        ({"x": np.ones(3)}, r"\['x'\]"),
        ({"y_train": np.arange(12)}, "'x_train': 13, 'y_train': 12"),
        ({"x_train": {"a": np.ones(13), "b": np.ones(5)}}, "'x_train.a': 13, 'x_train.b': 5"),
        ({"y_train": [0, 1, 0]}, r"an array at y_train\[0\]. Received: int"),
        ({"y_train": np.array(["a"] * 13)}, "y_train. Received: dtype <U1"),
        ({"y_train": np.array([{}] * 13)}, "y_train. Received: dtype object"),
        ({"y_train": np.ones(13, np.longdouble)}, "y_train. Received: dtype"),
        ({"x_train": np.ones((13, 0))}, r"x_train. Received: shape \(13, 0\)"),
        ({"y_train": np.float32(3)}, r"y_train. Received: shape \(\)"),
        ({"y_train": None, "sample_weight_train": np.ones(13)}, "targets"),
        ({"y_test": np.ones(3)}, "x_test"),
    ],
)
def test_bad_arrays_are_named(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "data", {**simple(), **changed})
    with pytest.raises(DataError, match=message):
        Shard({**simple(), **changed})
    assert not (tmp_path / "data").exists()


def test_no_data_and_lost_files(tmp_path):
    with pytest.raises(DataError, match=r"training data in .*nowhere"):
        Shard(tmp_path / "nowhere")
    write(tmp_path, simple())
    with pytest.raises(DataError, match="x_test"):
        Shard(tmp_path, part="test")
    os.truncate(tmp_path / "x_train-0.npy", 140)
    with pytest.raises(DataError, match="x_train in"):
        read(tmp_path)
    (tmp_path / "x_train-0.npy").unlink()
    with pytest.raises(DataError, match=r"x_train in .*No such file"):
        read(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 5, 13])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_sample_belongs_to_one_rank_once_an_epoch(size, shuffle):
    for epoch in range(2):
        shards = [Shard(simple(), rank, size) for rank in range(size)]
        rows = [shard.rows(epoch, shuffle=shuffle, seed=3) for shard in shards]
        assert sorted(np.concatenate(rows)) == list(range(13))
        assert [len(part) for part in rows] == [shard.samples for shard in shards]
        for part in rows:
            assert len(set(part // size)) == len(part)  # one of each neighbourhood
        assert shuffle or all(set(part % size) == {rank} for rank, part in enumerate(rows))


def test_shuffling_is_new_each_epoch_and_repeatable():
    shard, other = Shard(simple(200), 0, 2), Shard(simple(200), 1, 2)
    first = shard.rows(0, seed=1)
    odd = [set(shard.rows(epoch, seed=1) % 2 * shard.rows(epoch, seed=1)) for epoch in range(2)]
    assert all(30 < len(rows) < 70 for rows in odd)  # half and half: neighbours may differ in kind
    assert odd[0] != odd[1]  # and others the next time
    np.testing.assert_array_equal(first, Shard(simple(200), 0, 2).rows(0, seed=1))
    for different in (shard.rows(1, seed=1), shard.rows(0, seed=2), other.rows(0, seed=1) - 1, shard.rows(0, shuffle=False)):
        assert not np.array_equal(first, different)


def test_a_shard_copies_nothing(tmp_path):
    x = np.arange(26).reshape(13, 2)
    assert np.shares_memory(Shard({"x_train": x}, 1, 2).arrays[0], x)
    write(tmp_path, {"x_train": x})
    array = Shard(tmp_path, 1, 2).arrays[0]
    assert type(array) is np.ndarray  # its rows are taken faster than those of a memmap
    assert isinstance(array.base, np.memmap)


def test_steps_and_refusals():
    shard = Shard(simple(13), 0, 2)
    assert [shard.steps(size) for size in (1, 2, 7, 100)] == [7, 4, 1, 1]
    with pytest.raises(DataError, match="batch size of 1 or more"):
        shard.steps(0)
    with pytest.raises(DataError, match=r"each of 14 workers. Received: 13"):
        Shard(simple(13), 0, 14)
    with pytest.raises(ValueError, match=r"a rank of 0 to 1. Received: 2"):
        Shard(simple(13), 2, 2)


def test_test_part_without_targets():
    arrays = {**simple(), "x_test": np.ones((3, 2))}
    assert [len(array) for array in Shard(arrays, part="test").arrays] == [3]


def test_sidecar_is_plain_json(tmp_path):
    write(tmp_path, simple())
    content = json.loads((tmp_path / "arrays.json").read_text())
    assert content["structure"] == {"x_train": 0, "y_train": 1}
    assert content["files"][0] == {"file": "x_train-0.npy", "dtype": "<f4", "offset": 128, "shape": [13, 2]}


def test_imports_are_light():
    subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], check=True, timeout=60)
