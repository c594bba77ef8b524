"""What must hold of a shard's dataset on each Keras backend; tests/test_data.py runs it once per backend."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from dkcore.data.arrays import leaves, map_arrays, write
from dkcore.data.arrow_columns import describe
from dkcore.data.arrow_writer import Store
from dkcore.data.batches import ALIGNMENT, dataset
from dkcore.data.leased import Order, leased_dataset
from dkcore.data.shard import NodeShard, Shard
from dkcore.data.shm_budget import Room

BACKEND = keras.backend.backend()
SAMPLES, RANK, RANKS, BATCH = 103, 1, 3, 8
STEPS = 5  # of 34 samples: the last batch has 2


def arrays():
    index = np.arange(SAMPLES)
    return {
        "x_train": {"float": np.stack([index, index], 1).astype(np.float64), "bytes": index.astype(np.uint8)},
        "y_train": [index, (index % 2).astype(bool)],
        "sample_weight_train": [index.astype(np.float64), np.ones(SAMPLES)],
    }


def source(kind, directory):
    if kind == "pieces":
        return pieces(directory)
    if kind == "files":
        write(directory, arrays())
        return directory
    return arrays()


def pieces(directory):
    """The same, as Arrow IPC files of which some hold few rows."""
    columns = {path: leaf for key, nested in arrays().items() for path, leaf in leaves(nested, key)}
    files = []
    for number, (start, stop) in enumerate([(0, 7), (7, 7), (7, 90), (90, SAMPLES)]):
        store = Store(directory, f"train-{number}", Room(Path("/nowhere")))
        for row in range(start, stop, 9):
            store.append({path: leaf[row : min(row + 9, stop)] for path, leaf in columns.items()})
            store.write()
        store.finish()
        files += store.files
    structure = {key: map_arrays(lambda path, _: path, nested, key) for key, nested in arrays().items()}
    described = {path: {"dtype": leaf.dtype.name, "shape": leaf.shape[1:]} for path, leaf in columns.items()}
    describe(directory, structure, described, {"train": files})
    return directory


def batches(batched):
    """One epoch, as lists of numpy batches, the structure kept."""
    found = [keras.tree.map_structure(np.asarray, batch) for batch in batched]
    if isinstance(batched, keras.utils.PyDataset):
        batched.on_epoch_end()
    return found


class Leases:
    """Those of two epochs, of three batches each, as another worker leaves them: a source of batches."""

    def __init__(self):
        self.left = [(0, 0, 3), (0, 3, 2), (1, 0, 3), (1, 3, 2)]

    def begin(self):
        pass

    def take(self, most):
        if not self.left:
            return 0, 0, 0
        epoch, first, count = self.left.pop(0)
        if count > most:
            self.left.insert(0, (epoch, first + most, count - most))
        return epoch, first, min(count, most)


@pytest.mark.parametrize("kind", ["files", "memory", "pieces"])
def test_leased_batches_are_those_of_the_shard(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("dkcore.data.batches.AHEAD", 2)
    shard = NodeShard(Shard(source(kind, tmp_path), RANK, RANKS), [RANK], RANKS)
    adapter = leased_dataset(Order(shard, BATCH, True, 5), Leases(), BACKEND, scale=0.5)
    leased = adapter.get_tf_dataset() if BACKEND == "tensorflow" else adapter._get_iterator()
    wanted = dataset(Shard(source(kind, tmp_path), RANK, RANKS), BACKEND, BATCH, shuffle=True, seed=5, scale=0.5)
    for one, other in zip(batches(leased), batches(wanted) + batches(wanted), strict=True):
        keras.tree.map_structure(
            np.testing.assert_array_equal, one, keras.tree.lists_to_tuples(other) if BACKEND == "tensorflow" else other
        )


@pytest.mark.parametrize("kind", ["files", "memory", "pieces"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_each_sample_once_an_epoch_with_its_own_targets(tmp_path, kind, shuffle, monkeypatch):
    monkeypatch.setattr("dkcore.data.batches.AHEAD", 2)  # so that several are taken at once, several times
    shard = Shard(source(kind, tmp_path), RANK, RANKS)
    batched = dataset(shard, BACKEND, BATCH, shuffle=shuffle, seed=5, scale=0.5)
    orders = []
    for _ in range(3):
        found = batches(batched)
        assert [len(y[0]) for _, y, _ in found] == [8, 8, 8, 8, 2]
        for x, (index, odd), (weight, ones) in found:
            np.testing.assert_array_equal(x["float"], np.stack([index, index], 1) * 0.5)
            np.testing.assert_array_equal(x["bytes"], index * 0.5)
            np.testing.assert_array_equal(odd, index % 2 == 1)
            np.testing.assert_array_equal(weight, index)
            assert (ones == 1).all()
            assert [part.dtype.name for part in (x["float"], x["bytes"], weight)] == ["float32"] * 3
            assert [part.dtype.name for part in (index, odd)] == ["int64", "bool"]
        orders.append([int(index) for _, y, _ in found for index in y[0]])
        assert len(set(orders[-1])) == len(orders[-1]) == 34
    rows = [shard.rows(epoch, shuffle=shuffle, seed=5).tolist() for epoch in range(3)]
    assert orders == rows
    assert (orders[0] != orders[1] != orders[2]) is shuffle


def test_order_is_repeatable_and_depends_on_the_seed(tmp_path):
    def order(seed):
        found = batches(dataset(Shard(arrays(), RANK, RANKS), BACKEND, BATCH, seed=seed))
        return np.concatenate([y[0] for _, y, _ in found]).tolist()

    assert order(1) == order(1) != order(2)


def test_unscaled_whole_numbers_stay_and_y_may_be_missing():
    (x,) = batches(dataset(Shard({"x_train": np.arange(6, dtype=np.uint8)}), BACKEND, 4, shuffle=False))[1]
    assert x.dtype == np.uint8
    assert x.tolist() == [4, 5]


class Count(keras.callbacks.Callback):
    """What callbacks are told of the epochs."""

    def on_train_begin(self, logs=None):
        self.batches = 0
        self.promised = self.params["steps"]

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


def target(y_true, y_pred):
    return y_true


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_fit_sees_all_of_it(tmp_path, kind):
    index = np.arange(SAMPLES, dtype=np.float32)
    data = {"x_train": index[:, None], "y_train": index}
    if kind == "files":
        write(tmp_path, data)
        data = tmp_path
    shard = Shard(data, RANK, RANKS)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[target], steps_per_execution=1 if BACKEND == "torch" else 3)
    count = Count()
    batched = dataset(shard, BACKEND, BATCH, scale=0.001, shuffle=False)
    history = model.fit(batched, epochs=3, shuffle=False, verbose=0, callbacks=[count])
    assert count.promised == STEPS == shard.steps(BATCH)
    assert count.batches == 3 * (STEPS if BACKEND == "torch" else 2)
    assert int(model.optimizer.iterations) == 3 * STEPS
    # Neither a lost nor a doubled sample leaves the mean as it is, for all three epochs.
    np.testing.assert_allclose(history.history["target"], np.mean(range(RANK, SAMPLES, RANKS)), rtol=1e-6)
    assert history.history["loss"][2] < history.history["loss"][0]


def test_evaluate_and_one_sample():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[target])
    shard = Shard({"x_train": np.ones((1, 1)), "y_train": np.full(1, 7.0)})
    assert model.evaluate(dataset(shard, BACKEND, 32), verbose=0, return_dict=True)["target"] == 7


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only tf.data has an autotuner")
def test_fit_will_not_idle_at_the_end_of_an_epoch():
    assert dataset(Shard(arrays()), BACKEND, BATCH).options().autotune.enabled is False


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only tf.data could be tempted")
def test_a_large_file_is_not_read(tmp_path):
    length = 1 << 28  # float32: 1 GiB, of which only the pages that are touched take room
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (length // 256, 256)).flush()
    write(tmp_path, {"x_train": np.load(tmp_path / "x.npy", mmap_mode="r")})
    batched = dataset(Shard(tmp_path), BACKEND, 32, shuffle=False)
    before = resident()
    for _, _ in zip(range(20), batched, strict=False):
        pass
    assert resident() - before < 100e6


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow takes foreign memory")
@pytest.mark.parametrize("shift", [0, 4, 16, 32, 48])
def test_memory_at_any_address(shift):
    room = np.zeros(4096, np.uint8)
    start = -room.ctypes.data % ALIGNMENT + shift
    x = room[start : start + 400].view(np.float32)
    x[:] = np.arange(100)
    for array in (x, x[::-1], np.asfortranarray(x.reshape(50, 2)), np.broadcast_to(x[7], 100)):
        found = np.concatenate([batch.numpy() for (batch,) in dataset(Shard({"x_train": array}), BACKEND, 32, shuffle=False)])
        np.testing.assert_array_equal(found, array)
