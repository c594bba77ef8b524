"""What does a Keras model cost, compared with a flat vector?

On each backend, inside of ``fit``, between two of its steps: the exchange of the model's own weights and that of a flat
vector of the same size, in turn. A process for each backend.
"""

from importlib.util import find_spec

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.harness.turns import replay
from dkcore.frameworks import BACKENDS

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"), "1")


def cases(quick: bool) -> list[Case]:
    """A large model and one of many small variables, on every backend; on the first when there is no time."""
    made = []
    for backend in BACKENDS[:1] if quick else BACKENDS:
        keys = f"replica_vs_flat/{backend}/4798010", f"memory/bytes_per_parameter_per_worker/{backend}"
        made.append(Case(*keys, backend=backend, shape="4798010"))
        made.append(Case(f"replica_us/{backend}/200variables", backend=backend, shape="200variables"))
    return made


def bench_replica(case, kept, turns, quick):
    if find_spec(case.backend) is None:
        pytest.skip(f"{case.backend} is not installed: pip install 'dkcore[{case.backend}]'")
    rounds = 15 if quick else 31
    environment = {"KERAS_BACKEND": case.backend, **QUIET, **ONE_THREAD}
    crew = kept.get(case.backend, lambda stack: stack.enter_context(Crew(1, "bench.subjects.fitted:Fitted", environment=environment)))
    measured = crew.ask("measure", case.shape, rounds)[0]  # verifies first
    seconds = turns({name: replay(measured[name]) for name in ("replica", "flat")}, rounds=rounds, verify=lambda: None)
    if case.shape == "200variables":
        turns.figure(case.keys[0], seconds["replica"] * 1e6, unit="us", note=measured["level"])
        return
    note = f"{measured['level']}, {np.median(seconds['replica']) * 1e3:.1f} ms"
    turns.figure(case.keys[0], seconds["replica"] / seconds["flat"], note=note)
    turns.figure(case.keys[1], [measured["grown"] / int(case.shape)], unit="bytes", note="in fit: one p")
