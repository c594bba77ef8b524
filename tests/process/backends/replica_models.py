"""Models for the laws of a replica, and a way to train one of them twice from the very same start."""

import keras
import numpy as np
from keras import layers


@keras.saving.register_keras_serializable("dkcore_tests")
class Counting(layers.Layer):
    """Counts its calls in an integer weight, which no exchange may touch. Has a scalar, and a weight of no elements."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.nothing = self.add_weight(shape=(0,), trainable=False, name="nothing")
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        self.calls.assign_add(1)
        return inputs * self.scale


def mixed():
    """Two inputs, two outputs, many shapes: embedding, convolution, batch norm, seeds, an integer, a frozen layer."""
    zeros = {"kernel_initializer": "zeros"}  # JAX compiles for seconds to draw random ones
    words, image = keras.Input((3,), dtype="int32", name="words"), keras.Input((4, 4, 2), name="image")
    left = layers.Flatten()(layers.Embedding(50, 4, embeddings_initializer="zeros")(words))
    right = layers.Conv2D(3, 2, **zeros)(layers.RandomFlip(seed=2)(image))
    right = layers.Flatten()(layers.BatchNormalization()(right))
    both = Counting()(layers.Dropout(0.3, seed=3)(layers.Concatenate()([left, right])))
    frozen = layers.Dense(8, activation="relu", trainable=False, **zeros)(both)
    first, second = layers.Dense(1, name="first", **zeros)(both), layers.Dense(2, name="second", **zeros)(frozen)
    model = keras.Model([words, image], {"first": first, "second": second})
    random = np.random.default_rng(1)
    for variable in model.weights:
        if variable.name in ("kernel", "embeddings"):
            variable.assign(random.normal(0, 0.3, tuple(variable.shape)).astype(np.float32))
    return model


def mixed_data(batches):
    random, n = np.random.default_rng(4), 4 * batches
    x = {"words": random.integers(0, 50, (n, 3)), "image": random.random((n, 4, 4, 2), np.float32)}
    y = {"first": random.random((n, 1), np.float32), "second": random.random((n, 2), np.float32)}
    return x, y


def small(dtype="float32", units=3):
    """One dense layer and a batch norm."""
    inputs = keras.Input((4,), dtype=dtype)
    hidden = layers.BatchNormalization(dtype=dtype)(layers.Dense(units, dtype=dtype)(inputs))
    return keras.Model(inputs, layers.Dense(1, dtype=dtype)(hidden))


def small_data(batches):
    random = np.random.default_rng(5)
    return random.random((4 * batches, 4), np.float32), random.random((4 * batches, 1), np.float32)


class Rewind:
    """Everything that makes a training repeatable, as it was when this was made."""

    def __init__(self, model):
        self.variables = [*model.variables, *model.optimizer.variables]
        self.values = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in self.variables]

    def __call__(self):
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(value)


def ordered(model):
    """The floating-point weights in the order of a replica: batch norm's statistics last."""
    floating = [variable for variable in model.weights if variable.dtype.startswith("float")]
    return sorted(floating, key=lambda variable: variable.name.startswith("moving"))


def floats(model):
    """All floating-point weights, through the framework's front door."""
    arrays = {id(variable): array for variable, array in zip(model.weights, model.get_weights(), strict=True)}
    return np.concatenate([arrays[id(variable)].ravel() for variable in ordered(model)])


class Everywhere(keras.callbacks.Callback):
    """Calls ``run(model)`` in every hook of fit; never through ``self.model``, which would sync JAX's state."""

    def __init__(self, run):
        super().__init__()
        self._run = run

    def _hook(self, *arguments, logs=None):
        self._run(self._model)

    on_train_begin = on_epoch_begin = on_train_batch_begin = on_train_batch_end = on_epoch_end = on_train_end = _hook


def assigned(call):
    """The reference: the same call on a copy, set through Keras."""

    def run(model):
        if keras.backend.backend() == "jax":
            model.jax_state_sync()
        flat, variables = floats(model), ordered(model)
        call.flat(flat)
        sizes = [int(np.prod(variable.shape)) for variable in variables]
        for variable, piece in zip(variables, np.split(flat, np.cumsum(sizes)[:-1]), strict=True):
            variable.assign(piece.reshape(variable.shape))

    return run
