"""A module beside a script, with a custom layer: what `custom_modules` is for."""

import keras


@keras.saving.register_keras_serializable("tests")
class Twice(keras.layers.Layer):
    """Doubles its input; and fails on request when it is trained, as user code does."""

    def __init__(self, fails: bool = False, **options):
        super().__init__(**options)
        self.fails = fails

    def call(self, x, training=False):
        if self.fails and training:
            raise ArithmeticError("the layer of mine failed")
        return 2 * x

    def get_config(self):
        return {**super().get_config(), "fails": self.fails}
