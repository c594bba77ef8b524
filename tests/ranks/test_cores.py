"""The fair share of cores, as arithmetic and in real ranks."""

import json
import os
import sys
from types import SimpleNamespace

import pytest
from mpi_ranks import python, write_script

from dkcore.ranks import cgroups, cores
from dkcore.ranks.cores import Share, fair_share


@pytest.mark.parametrize("ranks", range(1, 12))
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_unbound_ranks_divide_the_node(ranks, count):
    mask = tuple(range(count))
    shares = [fair_share([mask] * ranks, index) for index in range(ranks)]
    taken = [set(mask) if share.cpus is None else set(share.cpus) for share in shares]
    assert set.union(*taken) == set(mask) if ranks >= 1 else True  # no core is idle
    assert all(share.threads == len(cpus) >= 1 for share, cpus in zip(shares, taken, strict=True))
    users = [sum(cpu in cpus for cpus in taken) for cpu in mask]
    assert max(users) - min(users) <= 1  # nor more crowded than another
    assert max(share.threads for share in shares) - min(share.threads for share in shares) <= 1
    assert ranks > count or max(users) == 1


def test_ranks_that_are_bound_apart_keep_what_they_have():
    masks = [(0, 1), (2, 3), (4,)]
    assert [fair_share(masks, index) for index in range(3)] == [Share(2), Share(2), Share(1)]


def test_ranks_bound_in_groups_divide_their_groups_processors():
    masks = [(0, 1, 2, 3), (4, 5, 6, 7)] * 2  # one mask a socket
    assert [fair_share(masks, index).cpus for index in range(4)] == [(0, 1), (4, 5), (2, 3), (6, 7)]


def test_hardware_threads_of_a_core_stay_together(monkeypatch, tmp_path):
    for cpu in range(4):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{cpu % 2}\n")
    monkeypatch.setattr(cores, "TOPOLOGY", tmp_path)
    assert [fair_share([(0, 1, 2, 3)] * 2, index).cpus for index in range(2)] == [(0, 2), (1, 3)]


def test_a_quota_limits_threads_and_pins_nobody():
    masks = [tuple(range(64))] * 2
    assert fair_share(masks, 1, quota=6.5) == Share(3)
    assert fair_share(masks, 1, quota=0.5) == Share(1)
    assert fair_share(masks, 1, quota=64).cpus == tuple(range(32, 64))


def test_the_quota_is_the_tightest_of_the_cgroups_above(monkeypatch, tmp_path):
    (tmp_path / "proc").write_text("1:cpu:/x\n0::/pods/mine\n")
    (tmp_path / "pods" / "mine").mkdir(parents=True)
    (tmp_path / "pods" / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "pods" / "mine" / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    monkeypatch.setattr(cgroups, "OWN_CGROUP", tmp_path / "proc")
    assert cgroups.cpu_quota() == 2.5
    (tmp_path / "pods" / "cpu.max").write_text("max 100000\n")
    assert cgroups.cpu_quota() is None


def test_told_how_many():
    masks = [(0, 1, 2, 3)] * 3
    assert [fair_share(masks, index, requested=2).cpus for index in range(3)] == [(0, 1), (2, 3), (0, 1)]
    assert fair_share(masks, 0, requested=0) == Share(4)
    assert [cores.requested_cores(text) for text in (None, "", "0", "3")] == [None, None, 0, 3]
    with pytest.raises(ValueError, match=r"Expected DKCORE_CORES to be 0 or more. Received: '-1'."):
        cores.requested_cores("-1")


def test_a_rank_and_the_threads_that_it_has_keep_to_its_share(tmp_path):
    body = """
import json, threading
facts = {"cores": world.cores, "threads": [sorted(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")]}
facts |= {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC", "XLA_FLAGS")}
open(f"{sys.argv[1]}/{world.rank}", "w").write(json.dumps(facts))
"""
    script = write_script(tmp_path, body)
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(2,), daemon=True).start()\n"
    (tmp_path / "script.py").write_text(text + (tmp_path / "script.py").read_text())
    told = {"DKCORE_CORES": "1", "NPROC": "9", "XLA_FLAGS": "--xla_foo"}
    assert python("mpich", script, str(tmp_path), **told).returncode == 0
    for rank in range(2):
        facts = json.loads((tmp_path / str(rank)).read_text())
        assert facts["cores"] == 1
        assert len(facts["threads"]) > 1
        assert all(cpus == facts["threads"][0] and len(cpus) == 1 for cpus in facts["threads"])
        assert facts["OMP_NUM_THREADS"] == facts["TF_NUM_INTRAOP_THREADS"] == "1"
        assert facts["NPROC"] == "9"  # the user's word counts
        assert facts["XLA_FLAGS"] == "--xla_foo --xla_cpu_multi_thread_eigen=false"


def framework(calls: list, started: bool):
    def told(name):
        def call(threads):
            if started:
                raise RuntimeError("cannot be modified after initialization")
            calls.append((name, threads))

        return call

    return SimpleNamespace(
        set_num_threads=lambda threads: calls.append(("torch", threads)),
        config=SimpleNamespace(threading=SimpleNamespace(
            set_intra_op_parallelism_threads=told("intra"), set_inter_op_parallelism_threads=told("inter"))),
        backends_are_initialized=lambda: started,
    )  # fmt: skip


@pytest.mark.parametrize("started", [False, True])
def test_frameworks_that_are_there_are_asked_or_complained_of(started, monkeypatch, caplog):
    calls = []
    for name in ("torch", "tensorflow", "jax._src.xla_bridge"):
        monkeypatch.setitem(sys.modules, name, framework(calls, started))
    cores.tell_frameworks(3)
    assert calls == [("torch", 3)] + ([] if started else [("intra", 3), ("inter", 3)])
    assert [record.levelname for record in caplog.records] == (["WARNING"] if started else [])
    assert not started or "TensorFlow and JAX started before dkcore.init()" in caplog.text


def test_the_frameworks_are_left_alone_when_there_is_nobody_to_share_with(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("DKCORE_CORES", raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    alone = SimpleNamespace(rank=0, allgather=lambda value: [value])
    assert cores.take_share(alone) == len(os.sched_getaffinity(0))
    assert "OMP_NUM_THREADS" not in os.environ
