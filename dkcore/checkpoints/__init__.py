"""Checkpoints as they lie in a folder: parts, the manifest that makes a checkpoint of them, and when one is due."""
