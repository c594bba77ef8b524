"""What is asked of a job by `dkcore join`, and refused by its agent."""

import json
import threading
from types import SimpleNamespace

import pytest

from dkcore.data.arrays import SIDECAR
from dkcore.errors import DkcoreError
from dkcore.ranks.processes import machine
from dkcore.seats.guests import Guests
from dkcore.seats.requests import FOLDER, Request, answer_requests, asked


@pytest.mark.parametrize("kind", ["join", "leave"])
def test_a_job_of_spark_cannot_be_joined(tmp_path, kind):
    """The rows are those of an executor's partition, which no other process has."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / SIDECAR).write_text(json.dumps({"pieces": []}))
    (tmp_path / FOLDER).mkdir()

    def start(*arguments: object) -> None:
        raise AssertionError("a worker was started")

    guests = Guests(SimpleNamespace(home=tmp_path), SimpleNamespace(), SimpleNamespace(center=object(), beginning={}), start, print)
    over = threading.Event()

    def answer() -> None:
        while not over.wait(0.01):
            answer_requests(tmp_path, guests.handle)

    agent = threading.Thread(target=answer)
    agent.start()
    try:
        with pytest.raises(DkcoreError, match="Expected a job whose data all workers see. Received: rows of Spark's executors"):
            asked(tmp_path / FOLDER, Request(kind, 1, machine()))
    finally:
        over.set()
        agent.join()
    assert list((tmp_path / FOLDER).iterdir()) == [], "nothing is left of the request"
