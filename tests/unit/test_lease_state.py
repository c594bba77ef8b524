"""Where leases go on after a checkpoint, on the same and on other workers and nodes; and which rows a node has."""

from types import SimpleNamespace

import numpy as np
import pytest

from dkcore.checkpoints.manifest import Manifest
from dkcore.data.shard import NodeShard, Shard
from dkcore.data.sharding import node_shard
from dkcore.errors import DataError
from dkcore.training.job import Job
from dkcore.training.lease_state import epochs_done, restart_of


def manifest_of(*nodes, ranks=()):
    leases = [{"batches": 10, "next": following, "unsettled": unsettled, "exact": True} for following, unsettled in nodes]
    known = [{"rank": number, "leases": ranges} for number, ranges in enumerate(ranks)]
    return Manifest(1, 0, 1, "float32", 0, "", [], len(nodes), [0], known, {}, leases)


def test_what_was_unsettled_waits_and_who_had_trained_some_of_it_has_it_back():
    start = restart_of(manifest_of((17, [[4, 2], [12, 5]]), ranks=[[[12, 2]], [[4, 1]]]), 0, 1, 10, [0, 1])
    assert (start.following, start.waiting) == (17, [(4, 2), (12, 5)])
    assert start.held == {0: [(12, 2)], 1: [(4, 1)]}


def test_who_exchanged_after_its_copy_does_not_settle_it_twice():
    start = restart_of(manifest_of((17, [[12, 5]]), ranks=[[[9, 2]], []]), 0, 1, 10, [0, 1])
    assert start.held == {1: []}


def test_what_was_leased_after_the_copy_of_the_center_waits_too():
    """Tickets 17 to 19 may have been trained by others meanwhile, but are not in the copy."""
    start = restart_of(manifest_of((17, [[16, 1]]), ranks=[[[20, 2]]]), 0, 1, 10, [0])
    assert (start.following, start.waiting, start.held) == (22, [(16, 6)], {0: [(20, 2)]})


def test_other_workers_train_anew_what_was_not_exchanged():
    start = restart_of(manifest_of((17, [[12, 5]]), ranks=[[[12, 2]], []]), 0, 1, 10, [])
    assert (start.following, start.waiting, start.held) == (17, [(12, 5)], {})


@pytest.mark.parametrize(("node", "nodes", "batches", "rows"), [(0, 1, 20, True), (0, 2, 10, True), (0, 1, 10, False)])
def test_on_other_nodes_or_other_batches_the_same_fraction_is_done(node, nodes, batches, rows):
    start = restart_of(manifest_of((17, [[12, 2]])), node, nodes, batches, [0], rows)
    assert (start.following, start.waiting, start.held) == (15 * batches // 10, [], {})


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("parts", [[[0, 1, 2]], [[0], [1], [2]], [[0, 2], [1]]])
def test_nodes_have_all_rows_between_them_in_every_epoch(parts, shuffle):
    shard = Shard({"x_train": np.zeros(20)}, 0, 3)
    nodes = [NodeShard(shard, ranks, 3) for ranks in parts]
    orders = []
    for epoch in (0, 1):
        rows = [node.rows(epoch, shuffle=shuffle, seed=4) for node in nodes]
        assert [len(each) for each in rows] == [node.samples for node in nodes]
        np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(20))
        orders.append(rows[0].tolist())
    assert (orders[0] != orders[1]) == shuffle


def test_the_order_of_one_part_is_that_of_a_fixed_shard():
    shard = Shard({"x_train": np.zeros(20)}, 1, 3)
    np.testing.assert_array_equal(NodeShard(shard, [1], 3).rows(5, seed=4), shard.rows(5, seed=4))


def test_how_far_a_job_was_with_leases_and_without():
    assert epochs_done(manifest_of((17, [[12, 2]]), (25, []))) == 2.0
    fixed = manifest_of()
    fixed.ranks = [
        {"epoch": 1, "step": 5, "per_epoch": 10},
        {"epoch": 2, "step": 0, "per_epoch": 10},
        {"epoch": 0, "step": 0, "per_epoch": 0},
    ]
    assert epochs_done(fixed) == 1.75


def world_of(ranks, counts, node=0):
    """A world whose ranks of this node have those parts; counts: ranks of each node."""
    comms = [SimpleNamespace(allgather=lambda _, answer=answer: answer, bcast=lambda value: value) for answer in (ranks, counts)]
    leaders = SimpleNamespace(rank=node)
    return SimpleNamespace(node=comms[0], comm=comms[1], nodes=len(counts), node_size=len(ranks), leaders=leaders)


@pytest.mark.parametrize(
    ("size", "ranks", "counts", "parts"),
    [(4, [0, 1, 2, 3], [4], ([0], 1)), (4, [2, 3], [2, 2], ([1], 2)), (3, [1, 2], [1, 2], ([1, 2], 3)), (1, [0], [1, 1], ([0], 1))],
)
def test_a_node_has_the_part_of_its_ranks(size, ranks, counts, parts):
    """By the number of nodes alone where they have equally many ranks, so that another number of ranks has the same rows."""
    node = len(counts) - 1
    found = node_shard(Shard({"x_train": np.zeros(20)}, ranks[0], size), world_of(ranks, counts, node))
    assert ((found.ranks, found.size), found.sharers, found.node) == (parts, len(ranks), node)


def test_ranks_that_do_not_see_each_others_rows_cannot_lease_them():
    with pytest.raises(DataError, match="Expected rows that all ranks of a node can read"):
        node_shard(Shard({"x_train": np.zeros(20)}), world_of([0, 0], [2]))


WRONG = [
    ({"sharding": "dynamik"}, "sharding of fixed or dynamic. Received: 'dynamik'"),
    ({"sharding": "dynamic", "rule": "independent"}, "sharding='fixed' for an ensemble"),
]


@pytest.mark.parametrize(("settings", "text"), WRONG)
def test_settings_that_mean_nothing_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Job(**settings)
