"""A Keras model's weights as native segments, one file a backend."""
