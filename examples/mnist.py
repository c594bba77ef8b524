"""Models for MNIST, for the command line: ``dkcore train --model examples/mnist.py:mlp --data mnist``."""

import keras
from keras import layers


def mlp() -> keras.Model:
    """784-500-500-10, 648,010 parameters; takes the grey levels 0 to 255 as they are."""
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(500, activation="relu"),
            layers.Dense(500, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cnn() -> keras.Model:
    """A small convolutional network with batch normalization; 99 % in a few epochs."""
    block = [layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Rescaling(1 / 255),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(16, 3, use_bias=False),
            *block,
            layers.Conv2D(32, 3, use_bias=False),
            *(type(layer).from_config(layer.get_config() | {"name": None}) for layer in block),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
