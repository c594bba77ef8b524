"""Python's side of the compiled engine: a node's center, its workers, kernels and codecs."""
