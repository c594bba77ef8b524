"""The state of the driver's Keras that changes what a model computes: noted on the driver, set in each rank.

What a process sets for itself alone (its seed is the job's, its devices are the rank's) is not among it.
"""

from typing import Any

__all__ = ["apply", "driver_seed", "note"]


def note() -> dict[str, Any]:
    """floatx, epsilon, image data format and global dtype policy of this process; on JAX its precision, too."""
    import keras

    state = {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
        "dtype_policy": keras.saving.serialize_keras_object(keras.config.dtype_policy()),
    }
    if keras.backend.backend() == "jax":
        import jax

        state["jax"] = {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_matmul_precision")}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        from tensorflow.python.framework.config import is_op_determinism_enabled

        state["tensorflow"] = {
            "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
            "op_determinism": is_op_determinism_enabled(),
        }
    if keras.backend.backend() == "torch":
        import torch

        state["torch"] = {"deterministic_algorithms": torch.are_deterministic_algorithms_enabled()}
    return state


def apply(state: dict[str, Any]) -> None:
    """Have the Keras of this process compute as the one that was noted; before a model is made."""
    import keras

    for name in {"floatx", "epsilon", "image_data_format"} & state.keys():
        getattr(keras.config, f"set_{name}")(state[name])
    if "jax" in state:
        import jax

        for name, value in state["jax"].items():
            jax.config.update(name, value)
    if "tensorflow" in state:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(state["tensorflow"]["tensor_float_32"])
        if state["tensorflow"]["op_determinism"]:
            tf.config.experimental.enable_op_determinism()
    if "torch" in state:
        import torch

        torch.use_deterministic_algorithms(state["torch"]["deterministic_algorithms"])
    if "dtype_policy" in state:  # models that earlier versions saved for Spark have less
        keras.config.set_dtype_policy(keras.saving.deserialize_keras_object(state["dtype_policy"]))


def driver_seed() -> int | None:
    """The seed that ``keras.utils.set_random_seed`` was given in this process; None when it never was called."""
    from keras.src.utils import rng_utils

    seed: int | None = rng_utils.get_random_seed()
    return seed
