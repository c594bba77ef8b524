"""The files of a job's status directory: what was written is read, and the docstring lists them all."""

import re

from dkcore.ranks.abort import printed
from dkcore.ranks.heartbeat import Heartbeats
from dkcore.ranks.status import Status, StatusDirectory


def test_what_one_process_writes_another_one_reads(tmp_path):
    status, reader = StatusDirectory(tmp_path), StatusDirectory(tmp_path)
    assert (reader.ranks(), reader.exit_code, reader.lost_connections(), reader.has_reapers()) == ({}, None, {}, False)
    status.write_lost_connection("a", 1)  # of a launcher that has removed the directory: nothing happens
    assert not reader.has_mark("of this launch")
    for rank in (11, 2):
        status.write(Status(rank, 12))
    assert list(reader.ranks()) == [2, 11]
    status.write_mark("of this launch")
    assert reader.has_mark("of this launch") and not reader.has_mark("of another")
    status.write_exit_code(-9)
    assert reader.exit_code == -9
    for code in (255, 1):
        status.write_lost_connection("a", code)
    assert reader.lost_connections() == {"a": 255}
    status.announce_reaper("there")
    assert reader.has_reapers()
    status.heartbeat(2).touch()
    assert Heartbeats(reader).silent([2, 11], 60.0) == []
    assert {path.name for path in status.path.iterdir()} - documented(status) == set()
    status.dismiss_reaper("there")
    assert not reader.has_reapers()


def documented(status: StatusDirectory) -> set[str]:
    """The files there that the docstring lists; fails when it lists one that is not there."""
    patterns = [name for name in re.findall(r"(?m)^    ([a-z]\S+)  ", StatusDirectory.__doc__) if name != "file"]
    assert len(patterns) == 6
    found = [{path.name for path in status.path.glob(re.sub("N|MARK", "*", pattern))} for pattern in patterns]
    assert all(found), patterns
    return set().union(*found)


def test_a_rank_that_died_is_lost_unless_it_had_told_of_its_end(tmp_path):
    status = StatusDirectory(tmp_path)
    status.write(Status(0, 2))
    status.write(Status(1, 2, state="done"))
    for rank in range(3):
        status.mark_lost(rank, since=7.0)
    assert [(each.state, each.time == 7.0) for each in status.ranks().values()] == [("lost", True), ("done", False)]


def test_the_end_of_a_rank_is_its_error_s():
    ends = {None: ("done", 0, ""), SystemExit(3): ("failed", 3, "sys.exit(3)"), ValueError("x"): ("failed", 1, "ValueError: x")}
    for error, told in ends.items():
        status = Status(0, 1)
        try:
            if error is not None:
                raise error
        except BaseException as raised:
            status.ended(raised)
        else:
            status.ended(None)
        assert (status.state, status.code, status.error) == told


def test_an_error_that_nobody_raised_has_a_text_without_frames():
    assert printed(ValueError("a sentence")) == "ValueError: a sentence\n"
