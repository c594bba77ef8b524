"""The ten lines: your own Keras script on several ranks. ``mpirun -n 2 python examples/script.py``, on any number of nodes."""

import numpy as np

import dkcore as dk

world = dk.init()  # before keras is imported: it gives each rank its share of the cores

import keras  # noqa: E402

digits = np.load(dk.mnist.load())
x, y = digits["x_train"] / np.float32(255), digits["y_train"]
model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

center = dk.Center.of(model, world)
model.fit(world.shard(x), world.shard(y), verbose=0, callbacks=[dk.Exchange(center, "aeasgd", window=12)])

center.finish()  # when all have finished, on all nodes, the center is final
if world.rank == 0:
    center.copy_to(model)
    loss, accuracy = model.evaluate(digits["x_test"] / np.float32(255), digits["y_test"], verbose=0)
    print(f"{world.size} ranks, test accuracy {accuracy:.3f}")
