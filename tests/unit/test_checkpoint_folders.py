"""Checkpoints in a folder: whole or none at all, the newest whole one, any file system; what nodes' parts come to together."""

import ctypes
import json
import os

import numpy as np
import pytest

import dkcore as dk
from dkcore.checkpoints import manifest as manifests
from dkcore.checkpoints.copies import copy, tidy
from dkcore.checkpoints.folder import MANIFEST, Folder, name_of
from dkcore.checkpoints.manifest import FORMAT, assemble, find
from dkcore.checkpoints.part import node_part, rank_part, report_failure, write_part
from dkcore.checkpoints.schedule import Every, every_of
from dkcore.errors import CheckpointError, LayoutError
from dkcore.merge.cut import adds_of, start_of
from dkcore.registry import rule_of

NODE = {"digest": 7, "size": 4, "dtype": "float64", "statistics": 0, "rule": "downpour", "adds": [True], "nodes": 1, "ranks": 1, "merge": 0}


def write(folder: Folder, number: int, nodes: list[dict] | None = None, **about) -> str:
    """A checkpoint of one rank. nodes: arrays of the parts of its nodes."""
    parts = nodes or [{"vector-0": np.arange(4.0)}]
    for node, arrays in enumerate(parts):
        write_part(folder, name_of(number), node_part(node), arrays, {**NODE, "nodes": len(parts), **about})
    write_part(folder, name_of(number), rank_part(0), {"p": np.arange(4.0) + number}, {"rank": 0, "epoch": number})
    assert assemble(folder, name_of(number), {"seed": 1})
    return name_of(number)


@pytest.mark.parametrize("scheme", ["", "fsspec+file://"])
def test_a_checkpoint_comes_with_its_manifest_on_any_file_system(tmp_path, scheme):
    folder = Folder(f"{scheme}{tmp_path}/a/b")
    write_part(folder, name_of(1), node_part(0), {"vector-0": np.arange(4.0)}, NODE)
    assert not assemble(folder, name_of(1), {})
    with pytest.raises(CheckpointError, match="a whole checkpoint in .*a/b. Received: none"):
        find(folder.location)
    write(folder, 1)
    write(folder, 2)
    saved = find(folder.location)
    assert (saved.name, saved.manifest.ranks[0]["epoch"], saved.skipped) == (name_of(2), 2, ())
    np.testing.assert_array_equal(saved.part(rank_part(0))["p"], np.arange(4.0) + 2)
    assert find(f"{folder.location}/{name_of(1)}").manifest.settings == {"seed": 1}
    copy(folder, name_of(2), elsewhere := Folder(f"{scheme}{tmp_path}/c"))
    assert find(elsewhere.location).manifest == saved.manifest
    tidy(folder, 1)
    assert folder.names() == [name_of(2)]


def cut_short(path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def changed(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edited(path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "nodes": 2}))


def of_newer_code(path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": manifests.FORMAT + 1, "dkcore": "99.0"}))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (rank_part(0), cut_short, r"a whole rank-0.npz in .*00000002. Received: \d+ bytes of \d+"),
        (node_part(0), changed, "a whole node-0.npz in .*00000002. Received: other bytes"),
        (rank_part(0), lambda path: path.unlink(), "a whole rank-0.npz in .*00000002"),
        (MANIFEST, cut_short, "a manifest in .*00000002"),
        (MANIFEST, lambda path: path.write_bytes(b""), "a manifest in .*00000002"),
        (MANIFEST, edited, "the manifest that was written in .*00000002"),
        (MANIFEST, of_newer_code, f"a checkpoint of format {FORMAT} or older. Received: format {FORMAT + 1} of dkcore 99.0"),
    ],
)
def test_what_is_not_whole_is_refused_and_the_one_before_it_is_taken_of_a_folder(tmp_path, name, damage, message):
    folder = Folder(str(tmp_path))
    write(folder, 1)
    write(folder, 2)
    damage(tmp_path / name_of(2) / name)
    with pytest.raises(CheckpointError, match=message):
        find(f"{tmp_path}/{name_of(2)}")
    saved = find(str(tmp_path))
    assert saved.name == name_of(1)
    assert len(saved.skipped) == 1 and name_of(2) in saved.skipped[0]


def test_a_part_that_could_not_be_written_ends_its_checkpoint(tmp_path):
    folder = Folder(str(tmp_path))
    write_part(folder, name_of(1), node_part(0), {"vector-0": np.arange(4.0)}, NODE)
    report_failure(folder, name_of(1), rank_part(0), OSError("no room"))
    with pytest.raises(CheckpointError, match=r"^rank-0.npz: no room$"):
        assemble(folder, name_of(1), {})
    assert folder.numbers() == []


def test_arrays_with_pickles_are_not_read(tmp_path):
    folder = Folder(str(tmp_path))
    write(folder, 1)
    np.savez(tmp_path / name_of(1) / rank_part(0), p=np.array([{}], dtype=object))
    saved = find(str(tmp_path), verify=False)
    with pytest.raises(CheckpointError, match="Object arrays cannot be loaded"):
        saved.part(rank_part(0))


def test_intervals():
    assert [every_of(text) for text in ("5min", "30 s", ".5h")] == [
        Every(300.0, "seconds"),
        Every(30.0, "seconds"),
        Every(1800.0, "seconds"),
    ]
    assert [every_of(text) for text in ("1 epoch", 2, "100 exchanges")] == [Every(1, "epochs"), Every(2, "epochs"), Every(100, "exchanges")]
    for wrong in ("", "0s", "1.5 epochs", "5 minutes", "-1", True, None, 0):
        with pytest.raises(ValueError, match="checkpoint_every as a time"):
            every_of(wrong)


# ---------------------------------------------------------------------- of several nodes


def start(folder: Folder, nodes: int, rule: str = "downpour", node: int = 0, digest: int = 7):
    return start_of(find(folder.location), node, nodes, rule_of(rule), digest)


def test_what_nodes_had_not_told_each_other_is_not_lost(tmp_path):
    """Downpour adds progress: agreed, and what each has beyond that, and what compression holds back."""
    agreed, held = np.full(4, 10.0), np.array([0, 0.5, 0, 0])
    parts = [
        {"vector-0": agreed + np.eye(4)[0], "agreed-0": agreed, "held-0": held},
        {"vector-0": agreed + 2 * np.eye(4)[2], "agreed-0": agreed},
    ]
    write(folder := Folder(str(tmp_path)), 1, parts, merge=3)
    np.testing.assert_array_equal(start(folder, 1).vectors[0], [11, 10.5, 12, 10])
    assert start(folder, 3).agreed is None
    same = start(folder, 2, node=1)
    np.testing.assert_array_equal(same.vectors[0], parts[1]["vector-0"])
    np.testing.assert_array_equal(same.agreed[0], agreed)
    np.testing.assert_array_equal(start(folder, 2).held[0], held)


def test_positions_of_nodes_are_averaged_and_so_are_statistics(tmp_path):
    parts = [
        {"vector-0": np.array([2.0, 2, 2, 6]), "agreed-0": np.zeros(4)},
        {"vector-0": np.array([4.0, 0, 2, 2]), "agreed-0": np.zeros(4)},
    ]
    write(folder := Folder(str(tmp_path / "a")), 1, parts, adds=[False])
    np.testing.assert_array_equal(start(folder, 1).vectors[0], [3, 1, 2, 4])
    write(folder := Folder(str(tmp_path / "b")), 1, parts, statistics=1)
    np.testing.assert_array_equal(start(folder, 1).vectors[0], [6, 2, 4, 4])


def test_states_come_back_under_their_rule_alone(tmp_path):
    rule = rule_of("adagrad")
    parts = [{"vector-0": np.ones(4), "vector-1": np.full(4, 3.0)}]
    write(folder := Folder(str(tmp_path)), 1, parts, rule="adagrad", adds=adds_of(rule, 1))
    np.testing.assert_array_equal(start(folder, 1, "adagrad").vectors[1], parts[0]["vector-1"])
    assert len(start(folder, 1, "downpour").vectors) == 1


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    write(folder := Folder(str(tmp_path)), 1)
    with pytest.raises(LayoutError, match="a checkpoint of this model"):
        start(folder, 1, digest=8)


# ---------------------------------------------------------------------- scripts


SCRIPT = """
world = dk.init()
with dk.Center.of(np.arange(5.0), world, rule="adagrad") as center:
    center.restore(np.full(5, 2.0), state=1)
    center.save(sys.argv[1])
    try:
        center.save(sys.argv[1])
    except FileExistsError as error:
        print(error)
with dk.Center.of(np.zeros(5), world, rule="adagrad", resume=sys.argv[1]) as center:
    print(center.snapshot(), center.snapshot(state=1))
"""


def test_a_script_saves_a_center_with_its_states_and_goes_on_from_it(tmp_path, script):
    refused, found = script(SCRIPT, tmp_path / "mine").end().splitlines()
    assert "Expected a new folder for the checkpoint" in refused
    assert found == "[0. 1. 2. 3. 4.] [2. 2. 2. 2. 2.]"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_an_error_that_names_folder_and_room_and_leaves_nothing(tmp_path):
    libc = ctypes.CDLL(None)
    assert libc.mount(b"tmpfs", str(tmp_path).encode(), b"tmpfs", 0, b"size=64k") == 0
    try:
        with dk.Center.create(np.zeros(100_000)) as center:
            with pytest.raises(
                OSError, match=f"room for a checkpoint in {tmp_path}/full, where 0.1 MB are free. Received: .*No space left"
            ):
                center.save(tmp_path / "full")
        assert list(tmp_path.iterdir()) == []
    finally:
        libc.umount(str(tmp_path).encode())
