"""Functions on MPI ranks under Spark, and every way in which they fail: each ends all, leaves nothing, and says why."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faults import DATA, NAN
from ranks_of import await_clean, left_behind, linger, pids

import spark_bridge
from dkcore.errors import DkcoreError, RankError

LIMIT = 10.0  # seconds for everything to be gone


def test_results_come_in_rank_order(spark):
    def sums(factor, plus=0):
        import dkcore

        world = dkcore.init()
        return world.rank, world.comm.allreduce(factor) + plus, world.nodes

    assert spark_bridge.run(sums, (3,), {"plus": 1}, spark=spark) == [(0, 7, 1), (1, 7, 1)]
    assert spark_bridge.run(sums, (3,), num_workers=1, spark=spark) == [(0, 3, 1)]
    assert left_behind() == []


def test_ranks_of_one_machine_share_a_center(spark):
    def add():
        import numpy as np

        import dkcore as dk

        world = dk.init()
        center = dk.Center.of(np.zeros(1000), world)
        w, p = np.zeros(1000), np.zeros(1000)
        with center.worker(world.rank) as worker:
            call = worker.call(dk.rules.downpour, p=p)
            for _ in range(10):
                w += 1.0
                call.flat(w)
        center.finish()
        return center.name, float(center.snapshot().sum())

    (first, total), (second, same) = spark_bridge.run(add, spark=spark)
    assert first == second
    assert total == same == 2 * 10 * 1000


def test_logs_come_to_the_driver(spark, capsys):
    def say():
        import dkcore

        print("word of", dkcore.init().rank)

    spark_bridge.run(say, spark=spark, show_logs=True)
    assert {"[rank 0] word of 0", "[rank 1] word of 1"} <= set(capsys.readouterr().err.splitlines())


def test_variables_reach_the_ranks(spark):
    assert spark_bridge.run(lambda: os.environ["OF_MINE"], spark=spark, env={"OF_MINE": "yes"}) == ["yes", "yes"]


def test_an_exception_is_raised_with_its_traceback(spark):
    def fail():
        import dkcore

        world = dkcore.init()
        print("about to fail", world.rank)
        if world.rank == 1:
            raise KeyError("of mine")
        world.comm.Barrier()

    with pytest.raises(RankError, match=r"(?s)^Rank 1 .*about to fail 1.*in fail.*KeyError: 'of mine'") as caught:
        spark_bridge.run(fail, spark=spark)
    assert str(caught.value).splitlines()[-1] == f"Error: rank 1 on {socket.gethostname()}: KeyError: 'of mine'"
    assert caught.value.rank == 1
    assert await_clean(1.0) == []


FAULTS = {
    "NaN": (NAN, r"NotFiniteError: NaN or infinity in the worker's element 0"),
    "bad data": (DATA, r"DataError: Expected a sample for each of 2 workers\. Received: 1 samples\. Use fewer workers\."),
    "an exit code": ("sys.exit(3)", r"sys\.exit\(3\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_cause_comes_last(spark, fault):
    code, cause = FAULTS[fault]

    def fail():
        exec(f"import sys\nimport dkcore as dk\nworld = dk.init()\nif world.rank == 1:\n    {code}\nworld.comm.Barrier()", {})

    with pytest.raises(RankError) as caught:
        spark_bridge.run(fail, spark=spark)
    assert re.fullmatch(f"Error: rank 1 on {socket.gethostname()}: {cause}", str(caught.value).splitlines()[-1])
    assert await_clean(1.0) == []


def test_an_exit_without_a_word_does_not_hang(spark):
    def leave():
        import dkcore

        world = dkcore.init()
        if world.rank == 1:
            os._exit(3)
        world.comm.Barrier()

    with pytest.raises(RankError, match=rf"\nError: rank 1 on {socket.gethostname()}: process \d+ died without an exception.*$"):
        spark_bridge.run(leave, spark=spark)
    assert await_clean(1.0) == []


def once_begun(folder, act) -> tuple[threading.Thread, list[float]]:
    """A thread that calls ``act(pids)`` once all ranks are there; and when it did."""
    when: list[float] = []

    def wait():
        told = pids(folder)
        time.sleep(0.3)
        when.append(time.monotonic())
        act(told)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, when


def mpiexec_pid() -> int:
    found = [line for line in left_behind() if "mpiexec.hydra -launcher" in line and "reaper.py" not in line]
    assert len(found) == 1
    return int(found[0].partition(":")[0])


@pytest.mark.parametrize(
    ("victim", "word"),
    [
        ("rank", r"\nError: rank 1 on \S+: process \d+ died without an exception.*$"),
        ("proxy", r"\nError: rank 1 on \S+: its proxy was killed by signal 9\.$"),
        ("mpiexec", r"\nError: mpiexec killed by .*$"),
    ],
)
def test_a_kill_ends_everything(spark, tmp_path, victim, word):
    kills = {"rank": lambda told: told[1]["pid"], "proxy": lambda told: told[1]["proxy"], "mpiexec": lambda told: mpiexec_pid()}
    thread, when = once_begun(tmp_path, lambda told: os.kill(kills[victim](told), signal.SIGKILL))
    with pytest.raises(RankError, match=word):
        spark_bridge.run(linger, (str(tmp_path),), spark=spark)
    thread.join()
    assert left_behind() == []
    assert time.monotonic() - when[0] < LIMIT


@pytest.mark.parametrize("how", ["group", "tag", "all"])
def test_a_cancelled_job_ends_everything(spark, tmp_path, how):
    context = spark.sparkContext
    context.setJobGroup("mine", "of mine")
    context.addJobTag("marked")
    ways = {"group": (context.cancelJobGroup, "mine"), "tag": (context.cancelJobsWithTag, "marked"), "all": (context.cancelAllJobs,)}
    cancel, *which = ways[how]
    thread, when = once_begun(tmp_path, lambda told: cancel(*which))
    try:
        with pytest.raises(Exception, match="cancelled") as caught:
            spark_bridge.run(linger, (str(tmp_path),), spark=spark)
    finally:
        context.clearJobTags()
        context.setLocalProperty("spark.jobGroup.id", None)
    thread.join()
    assert not isinstance(caught.value, DkcoreError)
    assert await_clean(LIMIT - (time.monotonic() - when[0])) == []


def test_an_interrupt_ends_everything(spark, tmp_path):
    thread, when = once_begun(tmp_path, lambda told: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        spark_bridge.run(linger, (str(tmp_path),), spark=spark)
    thread.join()
    assert await_clean(LIMIT - (time.monotonic() - when[0])) == []
    assert spark_bridge.run(lambda: 1, spark=spark) == [1, 1]  # the session is as good as before


def test_too_few_slots_are_refused_at_once(spark):
    with pytest.raises(ValueError, match=r"3 task slots.*Received: 2\b.*num_workers"):
        spark_bridge.run(linger, ("",), num_workers=3, spark=spark)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="1 or more workers"):
            spark_bridge.run(linger, ("",), num_workers=wrong, spark=spark)


DRIVER = """
import sys
from pyspark.sql import SparkSession
import ranks_of, spark_bridge, spark_settings
builder = SparkSession.builder.master(sys.argv[1])
for name, value in spark_settings.settings().items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
spark_bridge.run(ranks_of.linger, (sys.argv[2],), num_workers=2, spark=spark)
"""


@contextlib.contextmanager
def driver(folder: Path, master: str):
    """Another process that drives a cluster; it is ended with the context."""
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ["PYTHONPATH"]])}
    command = [sys.executable, "-c", DRIVER, master, str(folder)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    found = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return found + [other for child in found for other in children(child)]


def executor_of(rank: dict) -> int:
    """The Java process above a rank."""
    pid = rank["proxy"]
    while "CoarseGrainedExecutorBackend" not in Path(f"/proc/{pid}/cmdline").read_text():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def test_a_killed_executor_ends_everything(spark_environment, tmp_path):
    with driver(tmp_path, "local-cluster[2,2,1024]") as process:
        told = pids(tmp_path)
        os.kill(executor_of(told[1]), signal.SIGKILL)
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
    assert "RankError" in errors, errors
    # Spark's own threads may still print behind it.
    assert re.search(r"^Error: rank 1 on \S+: its task is gone\. Was its executor killed", errors, re.MULTILINE), errors
    assert await_clean(LIMIT - (time.monotonic() - began)) == []


def test_a_killed_driver_ends_everything(spark_environment, tmp_path):
    with driver(tmp_path, "local[2]") as process:
        pids(tmp_path)
        process.kill()
        began = time.monotonic()
        process.communicate(timeout=60)
    assert await_clean(LIMIT - (time.monotonic() - began)) == []
