"""Lists of hosts: what may be written, and where ranks are placed."""

import pytest

from dkcore.launch.allocation import shared_folder, spreads
from dkcore.launch.hosts import Host, count_ranks, parse_hosts, place, read_hostfile
from dkcore.launch.mpich import Mpich
from dkcore.launch.openmpi import OpenMpi
from dkcore.launch.site import SiteMpi

FILE = """
# two kinds of machines
a slots=2   # fat
b:3
c
a
d slots=1 max_slots=4
"""


def test_what_may_be_written(tmp_path):
    assert parse_hosts("a:2,user@b, c.site:3") == [Host("a", 2), Host("user@b", 1), Host("c.site", 3)]
    assert parse_hosts(["a:2", Host("b", 2)]) == [Host("a", 2), Host("b", 2)]
    (tmp_path / "hosts").write_text(FILE)
    assert read_hostfile(tmp_path / "hosts") == [Host("a", 3), Host("b", 3), Host("c", 1), Host("d", 1)]


@pytest.mark.parametrize("text", ["a:", "a:0", "a:-1", "a:x", ":2", "a,,b", "-x", "a:2:3"])
def test_what_is_no_host(text):
    with pytest.raises(ValueError, match=r"Expected a host as host or host:SLOTS. Received: "):
        parse_hosts(text)


@pytest.mark.parametrize("line", ["a 2", "a slot=2", "a:2 slots=2", "a slots"])
def test_what_is_no_line_of_a_hostfile(line, tmp_path):
    (tmp_path / "hosts").write_text(line)
    with pytest.raises(ValueError, match=r"Expected a host as host, host:2 or host slots=2. Received: "):
        read_hostfile(tmp_path / "hosts")


def test_no_host_at_all(tmp_path):
    (tmp_path / "hosts").write_text("# none\n")
    for give in (lambda: parse_hosts([]), lambda: read_hostfile(tmp_path / "hosts")):
        with pytest.raises(ValueError, match="Expected one or more hosts. Received: none."):
            give()


def test_hosts_are_filled_one_after_the_other():
    hosts = parse_hosts("a:2,b:3,c")
    assert place(hosts, 6) == hosts
    assert place(hosts, 3) == [Host("a", 2), Host("b", 1)]
    with pytest.raises(ValueError, match=r"Expected slots for 7 ranks. Received: 6 \(a:2, b:3, c:1\)."):
        place(hosts, 7)


def test_as_many_ranks_as_slots_unless_told_otherwise():
    assert count_ranks(parse_hosts("a:2,b:3"), None, 2) == 5
    assert count_ranks(parse_hosts("a:2,b:3"), 4, 2) == 4
    assert count_ranks(None, None, 2) == 2


def test_where_a_batch_system_spreads_ranks_the_job_s_directory_is_shared(monkeypatch, tmp_path):
    for name in ("SLURM_JOB_ID", "PBS_NODEFILE"):
        monkeypatch.delenv(name, raising=False)
    assert shared_folder(None, tmp_path) is None
    assert shared_folder(parse_hosts("a"), tmp_path) == tmp_path
    monkeypatch.setenv("PBS_NODEFILE", "/var/spool/nodes")
    assert shared_folder(None, tmp_path) == tmp_path


def test_what_an_allocation_of_slurm_means():
    login = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}  # a shell of salloc, which is not on the node
    batch = {**login, "SLURMD_NODENAME": "a", "SLURM_PROCID": "0"}
    step = {**batch, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    assert [spreads(environ) for environ in ({}, login, batch, step)] == [False, True, False, False]
    assert all(spreads({**environ, "SLURM_JOB_NUM_NODES": "2"}) for environ in (login, batch, step))
    mpich = Mpich("/m/bin/mpiexec")
    launchers = [mpich.environment(environ, "/scratch").get("HYDRA_LAUNCHER") for environ in ({}, login, batch, step)]
    assert launchers == [None, None, None, "fork"]  # a step within a step would wait for ever


def test_commands_and_environments_name_hosts_as_each_mpi_wants_it():
    hosts = [Host("a", 2), Host("10.0.0.1", 1)]
    mpich, openmpi = Mpich("/m/bin/mpiexec"), OpenMpi("/o/bin/mpiexec")
    command = mpich.command(3, hosts)
    assert command[-4:] == ["-hosts", "a:2,10.0.0.1:1", "-n", "3"]
    assert mpich.command(3) == ["/m/bin/mpiexec", "-n", "3"]
    environment = mpich.environment({"HYDRA_HOST_FILE": "mine", "DKCORE_REMOTE": "outer"}, "/scratch", "/scratch/agent")
    assert environment == {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": "/scratch/agent"}
    command = openmpi.command(3, hosts, ["COLOUR", "PWD", "OMPI_MCA_btl", "BASH_FUNC_x%%"])
    assert command[command.index("--prefix") :] == ["--prefix", "/o", "--host", "a:2,10.0.0.1:1", "-x", "COLOUR", "-n", "3"]
    assert openmpi.environment({}, "/scratch", "/scratch/agent")["PRTE_MCA_plm_ssh_agent"] == "/bin/sh /scratch/agent"
    with pytest.raises(ValueError, match="Expected MPICH or Open MPI, to name it hosts. Received: /x/mpiexec."):
        SiteMpi("/x/mpiexec").command(3, hosts)
