"""A report as a run writes it, of a machine that there is not: for tests of what is made of reports."""

import json
import math
from pathlib import Path

from bench.harness.figure import Figure
from bench.report.report import Report

SIZES = (1_000, 100_000, 1_000_000, 4_798_010, 67_108_864)
PEERS = {"dkcore": 1.0, "mpich_rma": 1.9, "numpy_lock": 2.4, "gloo": 6.0, "ray": 900.0, "elephas_http": 30_000.0}
CACHES = {"L1": 49_152, "L2": 2_097_152, "L3": 33_554_432}
CODECS = {"none": 170.0, "bf16": 91.0, "int8": 48.0, "topk:0.01": 8.0}


def synthetic() -> Report:
    """Every kind of figure: some with goals, met and missed, one absent, one failed."""
    report = Report()
    report.load = 0.1
    for figure in [*roof(), *exchanges(), *workers(), *training()]:
        report.add(figure)
    for codec, value in CODECS.items():
        for link, factor in (("1gbit", 1.0), ("10gbit", 0.12)):
            report.add(Figure(f"merge_s/{codec}/{link}", factor * value / 1e3, 0.03, "s"))
    report.absent["peer_us/tensorflow/1000/1workers"] = "tensorflow is not installed: pip install tensorflow | or not"
    report.failed["simulation/staleness/8workers"] = "AssertionError: 1 + 1 is not 3"
    report.ask("What can this machine do?", ["roof"])
    report.ask("How fast are\nothers?", ["peer_us", "vs_dist_keras"])
    return report


def flat(**changes) -> dict:
    """What such a report has in JSON, with other values for some keys ("/" written as "__")."""
    machine = {"machine/cores": 2, **{f"machine/cache_bytes/{level}": size for level, size in CACHES.items()}}
    return synthetic().to_dict() | machine | {key.replace("__", "/"): value for key, value in changes.items()}


def written(path: Path, found: dict) -> Path:
    path.write_text(json.dumps(found))
    return path


def roof():
    for level, size in CACHES.items():
        yield Figure(f"roof/cache_bytes/{level}", size, unit="bytes")
    for level, speed in (("L1", 260.0), ("L2", 95.0), ("L3", 30.0), ("memory", 13.0)):
        for threads in (1, 2):
            yield Figure(f"roof/update/{level}/{threads}threads", threads * speed, 0.02, "GB/s")
            yield Figure(f"roof/read/{level}/{threads}threads", threads * speed * 0.9, 0.02, "GB/s")


def exchanges():
    for workers in (1, 2):
        for size in SIZES:
            for index, rule in enumerate(("adag", "aeasgd", "dynsgd", "downpour", "adagrad", "gap_aware")):
                cached = 4 if 12 * size < 2e6 else 1.6 if 12 * size < 3e7 else 0.96
                speed = workers * 13 * cached * (1 - 0.02 * index)
                yield Figure(f"exchange_gbps/{rule}/{size}/{workers}workers", 24 * size / (24 * size / speed + 700), 0.02, "GB/s")
            for name, factor in PEERS.items():
                slower = factor if name == "dkcore" else factor * (1 + 3 / math.log10(size))
                yield Figure(f"peer_us/{name}/{size}/{workers}workers", slower * (1 + size / 600 * workers**0.7), 0.05, "us")
    yield Figure("exchange_us/1000", 1.1, 0.05, "us", "as a script calls it")
    yield Figure("exchange_vs_unlocked/adag/67108864/2workers", 0.8, 0.3)
    yield Figure("spark_launch_s", 1.4, 0.1, "s")
    yield Figure("vs_dist_keras/1000000/2workers", 60.0, 0.1)


def workers():
    for count in (1, 2, 4, 8):
        yield Figure(f"staleness/{count}workers", (count - 1) * 1.02, 0.05)
        yield Figure(f"scaling/exchanges_per_s/100000/{count}workers", 9000 * min(count, 2) ** 0.93, 0.03, "/s")


def training():
    for name, pace in (("dkcore/jax/adag", 1.0), ("dkcore/torch/adag", 1.6), ("keras/jax", 2.1), ("elephas", 6.0)):
        for index in range(12):
            yield Figure(f"training_s/{name}/{index}", pace * (index + 1), unit="s")
            yield Figure(f"training_loss/{name}/{index}", 0.07 + math.exp(-0.45 * index))
