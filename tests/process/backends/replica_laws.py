"""The laws of a replica on the backend of this process (KERAS_BACKEND); tests/test_replica.py runs it for each."""

import contextlib
import importlib
import logging

import keras
import numpy as np
import pytest
from replica_models import Everywhere, Rewind, assigned, floats, mixed, mixed_data, ordered, small, small_data

import dkcore as dk
from dkcore.errors import LayoutError, ModelError, NotFiniteError
from dkcore.replica import replica as module
from dkcore.replica.replica import Replica

# Keras' own convert_to_numpy, on all three backends, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")

BACKEND = keras.backend.backend()
LEVELS = {
    "tensorflow": ["tensorflow-op", "tensorflow-alias", "assign"],
    "jax": ["jax-pointer", "jax-step", "assign"],
    "torch": ["torch-pointer", "assign"],
}[BACKEND]
each_level = pytest.mark.parametrize("level", LEVELS)


@pytest.fixture(scope="session", autouse=True)
def compiled_op():
    """The op is compiled when TensorFlow is there at install; a bare checkout compiles it here."""
    if BACKEND == "tensorflow":
        from dkcore.replica import tensorflow_op

        try:
            tensorflow_op.find()
        except dk.errors.MissingError:
            tensorflow_op.build()


@pytest.fixture(scope="module")
def subject():
    model = mixed()
    model.compile(keras.optimizers.SGD(0.1), "mse")  # plain SGD: makes TensorFlow's Embedding copy on read
    x, y = mixed_data(2)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return model, Rewind(model)


@pytest.fixture
def center():
    with contextlib.ExitStack() as stack:
        yield lambda replica: stack.enter_context(center_of(replica))


def center_of(replica):
    """A center a little beside the weights of a replica."""
    return dk.Center.create(replica.read() + replica.dtype(0.25), digest=replica.digest)


def trained(subject, run_of):
    """Weights and center after training with an exchange in every hook of two epochs."""
    model, rewind = subject
    rewind()
    with center_of(Replica(model, level="assign")) as shared, shared.worker() as worker:
        run = run_of(worker.call(dk.rules.aeasgd, alpha=0.25))
        x, y = mixed_data(3)
        options = {"batch_size": 4, "shuffle": False, "verbose": 0, "epochs": 2, "validation_data": (x, y)}
        model.fit(x, y, callbacks=[Everywhere(run)], **options)
        run(model)  # outside fit too
        return floats(model), shared.snapshot()


@pytest.fixture(scope="module")
def wanted(subject):
    without, with_exchanges = trained(subject, lambda call: lambda model: None), trained(subject, assigned)
    assert np.isfinite(with_exchanges[0]).all()
    assert not np.array_equal(without[0], with_exchanges[0])
    return with_exchanges


@each_level
def test_an_edit_equals_assigning_bit_for_bit_in_every_hook(subject, wanted, level):
    replica = Replica(subject[0], level=level)
    got = trained(subject, lambda call: lambda model: replica.run(call))
    assert replica.level == level
    assert np.array_equal(got[0], wanted[0])
    assert np.array_equal(got[1], wanted[1])


@each_level
def test_a_neighbour_that_reads_the_model_in_every_hook_changes_nothing(subject, wanted, level):
    replica = Replica(subject[0], level=level)

    def nosy(call):
        def run(model):
            before = replica.read()
            assert np.array_equal(before, replica.read())
            replica.run(call)
            assert not np.array_equal(before, replica.read())
            if BACKEND == "jax":
                model.jax_state_sync()
            assert np.array_equal(floats(model), replica.read())

        return run

    assert np.array_equal(trained(subject, nosy)[0], wanted[0])


@each_level
def test_seeds_and_integers_stay_at_home(subject, center, level):
    model, rewind = subject
    rewind()
    others = [variable for variable in model.variables if not variable.dtype.startswith("float")]
    assert {v.name for v in others} >= {"calls", "seed_generator_state"}
    before = [np.array(keras.ops.convert_to_numpy(v.value)) for v in others]
    replica = Replica(model, level=level)
    with center(replica).worker() as worker:
        replica.run(worker.pull_call())
    after = [keras.ops.convert_to_numpy(v.value) for v in others]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


@each_level
def test_a_pull_gives_the_center(subject, center, level):
    replica = Replica(subject[0], level=level)
    shared = center(replica)
    with shared.worker() as worker:
        replica.run(worker.pull_call())
    assert np.array_equal(floats(subject[0]), shared.snapshot())


def aligned(flat):
    """A copy at an address that JAX and TensorFlow would rather alias than copy."""
    raw = np.empty(flat.nbytes + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    copy = raw[begin : begin + flat.nbytes].view(flat.dtype)
    copy[:] = flat
    return copy


@each_level
def test_write_copies(subject, center, level):
    model, _ = subject
    replica = Replica(model, level=level)
    flat = aligned(replica.read() + np.float32(1))
    replica.write(flat)
    written = flat.copy()
    assert np.array_equal(floats(model), written)
    flat[:] = 7  # as the center changes under its workers
    assert np.array_equal(replica.read(), written)
    flat[:] = written
    with center(replica).worker() as worker:
        replica.run(worker.pull_call())
    assert np.array_equal(flat, written)
    assert not np.array_equal(replica.read(), written)


@each_level
def test_write_inside_fit_is_seen_by_the_next_step(level):
    model = small()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    replica, seen = Replica(model, level=level), []
    flat = np.arange(replica.size, dtype=np.float32)

    def run(model):
        replica.write(flat)
        seen.append(replica.read())

    x, y = small_data(2)
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[Everywhere(run)])
    assert all(np.array_equal(each, flat) for each in seen)
    still = np.concatenate([np.full(np.prod(v.shape), "moving" not in v.name) for v in ordered(model)])
    assert np.array_equal(floats(model)[still], flat[still])


@pytest.mark.skipif(BACKEND == "torch", reason="a torch Parameter is its own value, by contract")
@pytest.mark.parametrize("eager", [None, False, True])
def test_what_was_read_before_keeps_its_value(center, eager):
    model = small()
    model.layers[1].trainable = False  # such weights pass through a step of fit that is not jitted
    model.compile("sgd", "mse", run_eagerly=bool(eager))
    replica = Replica(model)
    taken = [variable.value for variable in ordered(model)]
    taken = [value.read_value() if BACKEND == "tensorflow" else value for value in taken]
    before = floats(model)
    shared = center(replica)
    with shared.worker() as worker:
        call = worker.pull_call()
        if eager is None:
            replica.run(call)
            assert np.array_equal(floats(model), shared.snapshot())
        else:
            x, y = small_data(2)
            hook = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: replica.run(call))
            model.fit(x, y, batch_size=4, verbose=0, callbacks=[hook])
            assert not np.array_equal(floats(model), before)
    left = [value for value in taken if BACKEND == "tensorflow" or not value.is_deleted()]
    assert len(left) == len(taken) or (BACKEND == "jax" and eager is False)  # a jitted step donates what it is given
    if len(left) == len(taken):
        assert np.array_equal(np.concatenate([np.asarray(value).ravel() for value in left]), before)


@pytest.mark.parametrize("dtype", ["float32"] if BACKEND == "jax" else ["float32", "float64"])
@each_level
def test_layout_and_dtype(center, dtype, level):
    model = small(dtype)
    replica = Replica(model, level=level)
    assert replica.layout == [(v.path, tuple(v.shape)) for v in ordered(model)]
    assert (replica.size, replica.statistics, replica.dtype, replica.backend) == (31, 6, np.dtype(dtype).type, BACKEND)
    shared = center(replica)
    with shared.worker() as worker:
        replica.run(worker.call(dk.rules.aeasgd, alpha=0.5))
    assert np.array_equal(replica.read(), floats(model))
    assert np.allclose(shared.snapshot(), replica.read(), rtol=1e-6)  # alpha 1/2: both meet in the middle


def test_the_digest_is_of_shapes_and_not_of_counters():
    one, same, other = (Replica(small(units=units)) for units in (3, 3, 5))
    assert one.layout != same.layout  # keras numbers its layers
    assert one.digest == same.digest
    assert one.digest != other.digest
    assert 0 < one.digest < 2**64


def test_no_freezing_moves_a_weight_in_the_order():
    """Frozen before it is built, after it, when it is loaded, or thawed: ranks that do so at other times share a center."""
    replicas = [Replica(small())]
    frozen, thawed = small(), small()
    frozen.trainable = False
    thawed.trainable = False
    thawed.trainable = True
    born = keras.Sequential([keras.Input((4,)), *(layer for layer in keras.models.clone_model(frozen).layers[1:])])
    assert not born.trainable_weights
    for model in (frozen, thawed, born, keras.Model.from_config(frozen.get_config())):
        replicas.append(Replica(model))
        assert [path.rpartition("/")[2] for path, _ in replicas[-1].layout[-2:]] == ["moving_mean", "moving_variance"]
    assert len({replica.digest for replica in replicas}) == 1
    assert {replica.statistics for replica in replicas} == {6}


def test_steps_are_counted_truly():
    model = small()
    assert Replica(model).steps() is None
    per_execution = 1 if BACKEND == "torch" else 2
    model.compile(keras.optimizers.Adam(), "mse", steps_per_execution=per_execution)
    replica, counts = Replica(model), []
    x, y = small_data(5)
    hook = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: counts.append(replica.steps()))
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[hook])
    assert counts == ([2, 4, 5, 7, 9, 10] if per_execution == 2 else list(range(1, 11)))
    assert replica.steps() == 10


def test_steps_of_accumulated_gradients():
    model = small()
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), "mse")
    x, y = small_data(5)
    model.fit(x, y, batch_size=4, verbose=0)
    assert int(model.optimizer.iterations) == 2
    assert Replica(model).steps() == 5  # batches of 4


@pytest.mark.parametrize("eager", [False, True])
def test_a_replica_made_inside_fit_and_layers_frozen_later(center, eager):
    model, results = small(), []
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eager)
    rewind, replicas = Rewind(model), []

    def native(call):
        def run(model):
            if not replicas:
                replicas.append(Replica(model))
            replicas[0].run(call)

        return run

    x, y = small_data(2)
    for run_of in (native, assigned):
        rewind()
        shared = center(Replica(model))
        for frozen in (1,) if eager else (1, 3):  # as many weights frozen before as after, but others
            for layer in (1, 3):
                model.layers[layer].trainable = layer != frozen
            model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eager)
            with shared.worker() as worker:
                run = run_of(worker.call(dk.rules.aeasgd, alpha=0.25))
                hook = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs, run=run: run(model))
                model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[hook])
        results.append(floats(model))
    assert np.array_equal(*results)


@each_level
def test_not_finite_reaches_the_caller_and_leaves_what_a_flat_array_is_left_with(level):
    model = small()
    replica = Replica(model, level=level)
    weights = replica.read()
    weights[20] = np.nan
    replica.write(weights)
    left = []
    for run_of in (lambda call: call.flat(weights), replica.run):
        # two stripes: the first one is exchanged before the second one is refused
        with dk.Center.create(np.ones(31, np.float32), stripe_bytes=64) as shared, shared.worker() as worker:
            call = worker.call(dk.rules.aeasgd, alpha=0.25, check_finite=True)
            with pytest.raises(NotFiniteError):
                run_of(call)
            left.append(shared.snapshot())
    assert np.array_equal(*left)
    assert not np.array_equal(left[0], np.ones(31))
    assert np.array_equal(replica.read(), weights, equal_nan=True)


@pytest.mark.parametrize("best", range(len(LEVELS) - 1))
def test_a_level_that_loses_edits_is_found_out_and_left(monkeypatch, caplog, best):
    levels = importlib.import_module(f"dkcore.replica.{BACKEND}").LEVELS
    for level in levels[: best + 1]:
        monkeypatch.setattr(level, "run", lambda self, call: None)
        with pytest.raises(ModelError, match="edited by"):
            Replica(small(), level=level.name)
    with caplog.at_level(logging.INFO, "dkcore.replica.replica"):
        replica = Replica(small())
    assert replica.level == LEVELS[best + 1]
    assert f"{LEVELS[best]} does not work here" in caplog.text
    assert caplog.text.rstrip().endswith(f": {replica.level}")


def test_the_best_level_is_taken():
    assert Replica(small()).level == LEVELS[0]


def half(dtype):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype=dtype)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Sequential([keras.layers.Dense(1)]), "model.build"),
        (lambda: "model", "Received: str"),
        (lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)]), "0 floating-point"),
        (lambda: half("float16"), "kernel of float16"),
        (lambda: half("bfloat16"), "kernel of bfloat16"),
    ],
)
def test_models_that_cannot_be_exchanged(make, message):
    with pytest.raises(ModelError, match=message):
        Replica(make())


@pytest.mark.skipif(BACKEND == "jax", reason="JAX without x64 has one precision only")
def test_two_precisions_are_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(2, dtype="float64")])
    with pytest.raises(ModelError, match="float32, .* of float64"):
        Replica(model)


def test_arguments_are_checked():
    model = small()
    with pytest.raises(ModelError, match=LEVELS[0]):
        Replica(model, level="magic")
    replica = Replica(model)
    for wrong in (np.zeros(30, np.float32), np.zeros((31, 1), np.float32), np.zeros(31), [0.0] * 31):
        with pytest.raises(LayoutError, match="31 float32"):
            replica.write(wrong)
        with pytest.raises(LayoutError, match="31 float32"):
            replica.read(wrong)
    out = np.zeros(31, np.float32)
    assert replica.read(out) is out


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX takes the weights away during fit")
def test_weights_that_are_away_in_another_model(center):
    outer, inner = small(), None
    inner = keras.Model(outer.input, outer.layers[1].output)
    outer.compile("sgd", "mse")
    x, y = small_data(2)
    replica = Replica(inner)
    hook = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: replica.read())
    with pytest.raises(ModelError, match="another model"):
        outer.fit(x, y, batch_size=4, verbose=0, callbacks=[hook])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of the TensorFlow op")
class TestOp:
    def test_embedding_under_sgd_copies_on_read(self, subject):
        """The premise of the first law here: without it the subject would not test that trap."""
        handle = next(v.value.handle for v in subject[0].weights if v.name == "embeddings")
        import tensorflow

        one, two = (tensorflow.raw_ops.ReadVariableOp(resource=handle, dtype="float32") for _ in range(2))
        assert np.asarray(memoryview(one)).ctypes.data != np.asarray(memoryview(two)).ctypes.data

    def test_xla(self, center):
        model = small()
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=True)
        rewind, results = Rewind(model), []
        for run_of in (assigned, lambda call: lambda model: replica.run(call)):  # noqa: B023 (called within the loop)
            rewind()
            replica = Replica(model)
            with center(replica).worker() as worker:
                x, y = small_data(3)
                run = run_of(worker.call(dk.rules.downpour))
                model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[Everywhere(run)])
            results.append(floats(model))
        assert np.array_equal(*results)

    def test_without_the_op_the_next_level_serves_and_says_how_to_get_it(self, monkeypatch, caplog, tmp_path):
        from dkcore.replica import tensorflow_op

        monkeypatch.setattr(tensorflow_op, "PACKAGE", tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        tensorflow_op.load.cache_clear()
        try:
            assert Replica(small()).level == "tensorflow-alias"
            assert "python -m dkcore.tensorflow_op" in caplog.text
            with pytest.raises(dk.errors.MissingError, match="python -m dkcore.tensorflow_op"):
                Replica(small(), level="tensorflow-op")
            (tmp_path / "dkcore").mkdir()
            library = tmp_path / "dkcore" / tensorflow_op.filename(tensorflow_op.import_tensorflow())
            library.write_bytes(b"not a library")
            with pytest.raises(dk.errors.MissingError, match="Delete that file"):
                tensorflow_op.load()
        finally:
            tensorflow_op.load.cache_clear()

    def test_build(self, monkeypatch, tmp_path):
        from dkcore.replica import tensorflow_op

        path = tensorflow_op.build(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
        monkeypatch.setattr(tensorflow_op, "PACKAGE", tmp_path)
        assert tensorflow_op.find() == path

    def test_what_the_op_refuses(self):
        import tensorflow

        from dkcore.replica import tensorflow_op

        op, one = tensorflow_op.load(), tensorflow.Variable([1.0, 2.0])
        null, three = np.array([0, 0]), np.array([1, 2, 3])
        with pytest.raises(tensorflow.errors.InvalidArgumentError, match="function's address"):
            op(handles=one.handle, target=null, T="float32")
        with pytest.raises(tensorflow.errors.InvalidArgumentError, match="2 addresses"):
            op(handles=one.handle, target=three, T="float32")
        with pytest.raises(tensorflow.errors.InvalidArgumentError, match="of dtype double"):
            op(handles=one.handle, target=np.array([1, 0]), T="float64")


def test_the_module_names_the_backends_it_knows(monkeypatch):
    monkeypatch.setattr(module.keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ModelError, match="openvino"):
        Replica(small())
