"""The center as a caller sees it: what it is made of, which arrays it takes, what it refuses, and how it is closed."""

import contextlib
import threading

import numpy as np
import pytest

import dkcore as dk
from dkcore import rules
from dkcore.errors import LayoutError, RuleError

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@BOTH
def test_it_holds_the_values_it_was_made_of(dtype):
    values = np.arange(5000, dtype=dtype).reshape(50, 100)
    with dk.Center.create(values, name="held", stripe_bytes=1024, slots=3, states=2, digest=9, note="näher") as center:
        assert (center.name, center.size, center.dtype) == ("dkcore-held", 5000, dtype)
        assert (center.states, center.slots_count, center.digest, center.note) == (2, 3, 9, "näher")
        assert center.stripes == -(-5000 * center.dtype.itemsize // 1024) == len(center.versions)
        assert repr(center) == f"<Center dkcore-held: 5000 {center.dtype} in {center.stripes} stripes>"
        np.testing.assert_array_equal(center.snapshot(), values.ravel())
        np.testing.assert_array_equal(center.snapshot(state=2), np.zeros(5000))
        assert center.counts == {"live": 0, "deaths": 0, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}


def test_one_number_is_a_center():
    with dk.Center.create(np.float64(3)) as center:
        assert (center.size, center.stripes, center.snapshot()[0]) == (1, 1, 3)


@pytest.mark.parametrize("array", [np.zeros(0), np.zeros(3, int), np.zeros(3, np.float16), np.zeros(3, ">f4"), [1, 2], "weights"], ids=str)
def test_a_center_of_anything_else_is_refused(array):
    with pytest.raises(LayoutError, match=r"Expected one or more values of float32 or float64. Received: .*Convert with .astype"):
        dk.Center.create(array)


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a b", "a\n", "x" * 201])
def test_a_name_that_could_not_be_one_is_refused(name):
    for use in (lambda: dk.Center.create(np.zeros(3), name=name), lambda: dk.Center.attach(name)):
        with pytest.raises(ValueError, match="Expected a name of letters, digits"):
            use()


def test_a_note_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at most 1023 bytes. Received: 1024"):
        dk.Center.create(np.zeros(3), note="ä" * 512)
    with dk.Center.create(np.zeros(3), note="ä" * 511) as center:
        assert center.note == "ä" * 511


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"states": 6}, {"stripe_bytes": 100}, {"stripe_bytes": 0}])
def test_an_impossible_layout_is_refused(wrong):
    with pytest.raises(ValueError, match="slots 0|states 6|stripes of"):
        dk.Center.create(np.zeros(30), **wrong)


def test_a_name_in_use_is_refused():
    with dk.Center.create(np.zeros(3), name="once") as center:
        for name in ("once", "dkcore-once"):
            with pytest.raises(FileExistsError, match="dkcore-once is in use by another process"):
                dk.Center.create(np.zeros(3), name=name)
        assert center.snapshot().sum() == 0
    with dk.Center.create(np.ones(3), name="once") as center:  # the name is free again
        assert center.snapshot().sum() == 3


def of(size: int = 100, dtype: str = "f4") -> np.ndarray:
    return np.zeros(size, dtype)


def read_only() -> np.ndarray:
    array = of()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("array", "error", "text"),
    [
        (of(dtype="f8"), LayoutError, "of 100 float32. Received: 100 float64"),
        (of(dtype="i4"), LayoutError, "Received: 100 int32"),
        (of(dtype=">f4"), LayoutError, "Received: 100 >f4"),
        (of(99), LayoutError, "Received: 99 float32"),
        (of(101), LayoutError, "Received: 101 float32"),
        (of(200)[::2], ValueError, "contiguous, aligned and writeable"),
        (np.frombuffer(bytearray(401), "f4", 100, 1), ValueError, "contiguous, aligned and writeable"),
        (read_only(), ValueError, "contiguous, aligned and writeable"),
        ([0.0] * 100, TypeError, "as a numpy array. Received: list"),
        (None, TypeError, "as a numpy array. Received: NoneType"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(array, error, text):
    with dk.Center.create(of()) as center:
        with pytest.raises(error, match=rf"Expected w .*{text}"):
            center.exchange(rules.downpour, array, of())
        if array is not None:
            with pytest.raises(error, match=rf"Expected p .*{text}"):
                center.exchange(rules.downpour, of(), array)
        assert center.versions.sum() == 0


def test_worker_and_previous_need_memory_of_their_own():
    memory = of(150)
    with dk.Center.create(of()) as center:
        for w, p in ((memory[:100], memory[:100]), (memory[:100], memory[50:]), (memory[50:], memory[:100])):
            with pytest.raises(ValueError, match=r"memory of their own. Received: arrays that overlap. Pass p=w.copy\(\)"):
                center.exchange(rules.downpour, w, p)
    memory = of(200)
    with dk.Center.create(of()) as center:
        center.exchange(rules.downpour, memory[:100], memory[100:])  # neighbours are fine


def test_any_shape_of_the_right_size_is_exchanged_in_place():
    w = np.ones((10, 10), np.float32)
    with dk.Center.create(of()) as center:
        center.exchange(rules.downpour, w, of())
        assert center.snapshot().sum() == w.sum() == 100


def test_a_call_that_does_not_fit_its_rule_is_refused():
    with dk.Center.create(of()) as center:
        with pytest.raises(RuleError, match="p for rule 'downpour'. Received: none"):
            center.exchange(rules.downpour, of())
        with pytest.raises(RuleError, match="no p for rule 'aeasgd'. Received: one"):
            center.exchange(rules.aeasgd, of(), of())
        with pytest.raises(RuleError, match=r"the scalars \(window\) of rule 'adag'. Received: \(\)"):
            center.exchange(rules.adag, of(), of())
        for use in (lambda: center.exchange(len, of()), lambda: center.worker().call(print)):
            with pytest.raises(RuleError, match=r"a rule. Received: .* Decorate the formula with @dkcore.rule"):
                use()
        with pytest.raises(RuleError, match="unknown: beta"):
            center.exchange(rules.aeasgd, of(), beta=2)
        with pytest.raises(RuleError, match=r"1 state vectors for rule 'adagrad'. Received: 0. Create it with states=1"):
            center.exchange(rules.adagrad, of(), of())
        assert center.versions.sum() == 0


def test_scalars_are_those_of_the_last_call():
    with dk.Center.create(np.zeros(1)) as center:
        for scalars, wanted in (({}, 0.5), ({"alpha": 0.25}, 0.625), ({"alpha": 0.0}, 0.625), ({}, 0.8125)):
            center.exchange(rules.aeasgd, np.ones(1), **scalars)
            assert center.snapshot()[0] == wanted


def test_segments_are_exchanged_as_one_vector():
    w = np.arange(100, dtype=np.float32)
    addresses = np.array([w.ctypes.data, w.ctypes.data + 40], np.uint64)
    lengths = np.array([10, 90], np.uint64)
    with dk.Center.create(of(), stripe_bytes=64) as center, center.worker() as worker:
        call = worker.call(rules.downpour)
        call.segments(addresses, lengths)
        np.testing.assert_array_equal(center.snapshot(), np.arange(100))
        with pytest.raises(ValueError, match="weights of 90 elements for a center of 100"):
            call.segments(addresses[1:], lengths[1:])
        for bad in (lengths.astype(np.int64), lengths[:1], np.repeat(lengths, 2)[::2]):
            with pytest.raises(ValueError, match="Expected two contiguous uint64 arrays of one size"):
                call.segments(addresses, bad)


@BOTH
def test_a_snapshot_is_restored(dtype):
    with dk.Center.create(np.arange(1000, dtype=dtype), states=1) as center:
        saved = center.snapshot(out=np.empty(1000, dtype))
        center.restore(saved * 2)
        center.restore(saved * 3, state=1)
        np.testing.assert_array_equal(center.snapshot(), saved * 2)
        np.testing.assert_array_equal(center.snapshot(state=1), saved * 3)


def test_a_snapshot_into_what_does_not_fit_is_refused():
    with dk.Center.create(of()) as center:
        for out in (of(99), of(dtype="f8"), of(200)[::2]):
            with pytest.raises(LayoutError, match="Expected 100 contiguous float32"):
                center.snapshot(out)
            with pytest.raises(LayoutError, match="Expected 100 contiguous float32"):
                center.restore(out)
        with pytest.raises(ValueError, match="Expected a writeable array. Received: a read-only one"):
            center.snapshot(read_only())
        with pytest.raises(ValueError, match="vector 1 of a center with 0 states"):
            center.snapshot(state=1)


def test_closed_handles_raise():
    center = dk.Center.create(of())
    worker = center.worker()
    call, pull = worker.call(rules.downpour), worker.pull_call()
    center.exchange(rules.aeasgd, of())
    center.close()
    center.close()  # a second time does nothing
    uses = [center.snapshot, center.slots, center.worker, lambda: center.versions, lambda: center.counts]
    for use in [*uses, lambda: center.restore(of()), lambda: center.exchange(rules.aeasgd, of())]:
        with pytest.raises(ValueError, match="Expected an open center. Received: a closed one"):
            use()
    uses = [lambda: call.flat(of()), lambda: pull.flat(of()), lambda: worker.call(rules.adag), worker.report]
    for use in uses:
        with pytest.raises(ValueError, match="Expected a live worker. Received: one that was released"):
            use()
    worker.release()


def test_a_released_worker_raises():
    with dk.Center.create(of()) as center:
        with center.worker() as worker:
            call = worker.call(rules.downpour)
        worker.release()
        with pytest.raises(ValueError, match="Expected a live worker"):
            call.flat(of())


def test_two_threads_do_not_share_a_worker():
    """The GIL is free during an exchange: without a guard the second thread would change the arrays of the first."""
    w, p = (np.zeros(2_000_000, np.float32) for _ in range(2))
    refused = []
    with dk.Center.create(w) as center:

        def exchange() -> None:
            for _ in range(30):
                try:
                    center.exchange(dk.rules.downpour, w, p)
                except RuntimeError as error:
                    refused.append(str(error))

        threads = [threading.Thread(target=exchange) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused
        assert all("Expected one thread at a time" in message for message in refused)
        assert center.slots()[0]["exchanges"] == 60 - len(refused)


def test_threads_that_come_first_at_once_claim_one_slot():
    for _ in range(30):
        with dk.Center.create(of()) as center:
            start = threading.Barrier(4)

            def exchange(center=center, start=start) -> None:
                w, p = of(), of()
                start.wait()
                with contextlib.suppress(RuntimeError):  # another thread is within an exchange
                    center.exchange(dk.rules.downpour, w, p)

            threads = [threading.Thread(target=exchange) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(center.slots()) == 1
