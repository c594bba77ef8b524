"""NaN and infinity: refused before the center sees them, and located."""

import numpy as np
import pytest

import dkcore as dk
from dkcore import rules
from dkcore.errors import NotFiniteError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 777, 5000, 9999])
def test_what_is_not_finite_never_reaches_the_center(at, bad, dtype):
    with dk.Center.create(np.zeros(10_000, dtype), stripe_bytes=1 << 14) as center, center.worker() as worker:
        call = worker.call(rules.downpour, check_finite=True)
        w = np.ones(10_000, dtype)
        w[at] = bad
        with pytest.raises(NotFiniteError, match=f"NaN or infinity in the worker's element {at}$") as caught:
            call.flat(w)
        assert caught.value.element == at
        seen = center.snapshot()
        assert (seen[at:] == 0).all()
        assert np.isin(seen, (0, 1)).all()
        w[:] = seen + 1
        call.p[:] = seen
        call.flat(w)  # worker and center are as usable as before
        np.testing.assert_array_equal(center.snapshot(), seen + 1)


def test_the_check_is_a_choice():
    with dk.Center.create(np.zeros(3)) as center, center.worker() as worker:
        worker.call(rules.downpour).flat(np.full(3, np.nan))
        assert np.isnan(center.snapshot()).all()
