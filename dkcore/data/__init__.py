"""Training data: arrays in files, shards and batches."""
