"""Is dkcore fast? One file a question (``bench_*.py``); each verifies, then times, and compares in turn (A B A B).

``python -m bench`` asks all of them and prints what it found beside the goals; ``pytest bench/ --benchmark-only`` too.
"""
