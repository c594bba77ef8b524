"""What a seat concludes from the slot of a dead worker, and what jobs with seats refuse; without processes."""

import numpy as np
import pytest

import dkcore as dk
from dkcore.ranks.seated import Again
from dkcore.seats.account import Account, after_death, slot_of
from dkcore.seats.workers import without_mpi
from dkcore.training.job import Job
from dkcore.training.sums import counted

SIZE, STRIPES = 64 * 4, 4


@pytest.fixture
def center():
    with dk.Center.create(np.zeros(SIZE, np.float32), stripe_bytes=256) as made:
        assert made.stripes == STRIPES
        yield made


def slot(**more: object) -> dict:
    shown = {
        "exchanges": 5,
        "place": (1, 2, 10, 77),
        "next": (1, 4, 12, 91),
        "begun": 5,
        "stripes_in": STRIPES,
        "in_part": 0,
        "histogram": np.arange(64),
    }
    return shown | more


@pytest.mark.parametrize(
    ("shown", "exchanges", "place", "in_doubt"),
    [
        ({}, 5, (1, 2, 10, 77), 0),
        ({"begun": 6, "stripes_in": 0}, 5, (1, 2, 10, 77), 0),
        ({"begun": 6, "stripes_in": 3}, 5, (1, 2, 10, 77), 1),
        ({"begun": 6, "stripes_in": 0, "in_part": 1}, 5, (1, 2, 10, 77), 1),
        ({"begun": 6, "stripes_in": STRIPES}, 6, (1, 4, 12, 91), 0),
    ],
)
def test_a_worker_that_follows_begins_after_the_last_exchange_that_is_in(center, shown, exchanges, place, in_doubt):
    account = Account()
    again = after_death(center, Again(center.name, histogram=(1,) * 64), slot(**shown), account, batch_size=8)
    assert (again.exchanges, (again.epoch, again.step, again.steps, again.samples)) == (exchanges, place)
    assert (account.exchanges_in_doubt, account.rows_in_doubt) == (in_doubt, in_doubt * 2 * 8)
    assert again.histogram == tuple(range(1, 65))


def test_a_worker_that_died_before_its_first_exchange_leaves_what_it_took_over(center):
    before = Again(center.name, exchanges=5, epoch=1, step=2, steps=10)
    assert after_death(center, before, None, Account(), 8) == before
    fresh = slot(exchanges=0, place=(0, 0, 0, 0), begun=0, histogram=np.zeros(64, int))
    again = after_death(center, before, fresh, Account(), 8)
    assert (again.exchanges, again.epoch, again.step, again.steps) == (5, 1, 2, 10)


def test_a_slot_says_where_its_worker_stands(center):
    with center.worker(3) as worker:
        call, w = worker.call("single"), np.ones(SIZE, np.float32)
        worker.resume(7, 1, 2, 30, 120)
        assert center.slot(worker)["exchanges"] == 7 and center.slot(worker)["place"] == (1, 2, 30, 120)
        worker.place(1, 5, 33, 131)
        assert center.slot(worker)["place"] == (1, 2, 30, 120)
        call.flat(w)
        seen = slot_of(center, center.slot(worker)["pid"])
        assert (seen["exchanges"], seen["place"], seen["begun"], seen["stripes_in"]) == (8, (1, 5, 33, 131), 8, STRIPES)


def test_an_exchange_that_fails_moves_no_place(center):
    with center.worker() as worker:
        call, w = worker.call("single", check_finite=True), np.ones(SIZE, np.float32)
        w[-1] = np.nan
        worker.place(0, 1, 1)
        with pytest.raises(dk.errors.NotFiniteError):
            call.flat(w)
        seen = center.slot(worker)
        assert (seen["exchanges"], seen["place"], seen["begun"], seen["stripes_in"]) == (0, (0, 0, 0, 0), 1, STRIPES - 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_worker_loss": "retry"}, "stop, restart or shrink"),
        ({"on_worker_loss": "restart", "rule": "independent"}, "on_worker_loss='stop' for an ensemble"),
        ({"stall_timeout": 3}, "on_worker_loss for stall_timeout"),
        ({"stall_timeout": 0, "on_worker_loss": "restart"}, "more than 0 s"),
        ({"restarts": -1}, "restarts"),
    ],
)
def test_what_jobs_refuse(settings, message):
    with pytest.raises(ValueError, match=message):
        Job(**settings)


def test_a_worker_is_no_rank():
    given = {"PMI_RANK": "1", "PMIX_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "HYDI_CONTROL_FD": "7", "PATH": "/bin", "DKCORE_LAUNCH": "x"}
    assert without_mpi(given) == {"PATH": "/bin", "DKCORE_LAUNCH": "x"}


@pytest.mark.parametrize("sharding", ["fixed", "dynamic"])
def test_an_exchange_that_its_worker_took_no_note_of_is_counted(sharding):
    """4 rows of 4 and one of 2 an epoch; killed when the center had the exchange that ends it, of 3 batches, and nobody else knew."""
    job = Job(batch_size=4, sharding=sharding)
    records = [(0, 2, 1.0, 0.5, None, 0.0, 0.1)]
    again = Again("center", exchanges=2, epoch=0, step=5, steps=5, samples=18)
    sums = counted(job, records, 18, (0, 0, 0), again)
    assert (sums["samples"], sums["samples_timed"], sums["steps"], sums["last"]) == (18, 10, 5, 1.0)
