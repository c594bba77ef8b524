"""`dkcore.utils`, also to be found here, beside the other modules for DataFrames."""

from dkcore.utils import deserialize_keras_model, precache, serialize_keras_model, shuffle, uniform_weights

__all__ = ["deserialize_keras_model", "precache", "serialize_keras_model", "shuffle", "uniform_weights"]
