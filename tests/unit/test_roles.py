"""The roles of vectors: the engine's own, and never the center's for what has none."""

import numpy as np
import pytest

import dkcore as dk
from dkcore.engine.compile import compile_kernel
from dkcore.engine.load import engine
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.engine.roles import role_at, role_of
from dkcore.errors import RuleError


@pytest.fixture
def center():
    with dk.Center.create(np.zeros(8), states=2) as made:
        yield made


def test_a_name_has_the_role_that_the_engine_gives_it():
    role, states = engine().Role, ("m", "v")
    wanted = {"c": role.CENTER, "w": role.WORKER, "p": role.PREVIOUS, "m": role.STATE, "v": role.STATE + 1}
    assert {name: role_of(name, states) for name in wanted} == wanted
    assert [role_at(vector) for vector in range(3)] == [wanted["c"], wanted["m"], wanted["v"]]


@pytest.mark.parametrize("name", ["x", "C", "", "center"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(RuleError, match=f"a vector of c, w, p, m. Received: {name!r}. No other has a role"):
        role_of(name, ["m"])


def test_the_engine_refuses_a_role_that_it_does_not_have(center):
    kernel, formula = compile_kernel(dk.rules.single, center.dtype), FORMULAS["merge_put_back"]
    settings = {"typenum": center.dtype.num, "timeout": 1.0}
    with center.worker() as worker, pytest.raises(ValueError, match="a vector that an exchange has. Received: the role -1"):
        engine().Call(worker.slot, kernel, [engine().Role.CENTER, engine().Role.OUTSIDE], (), **settings)
    for role in (engine().Role.WORKER, engine().Role.PREVIOUS, -2):
        roles = [engine().Role.CENTER, role]
        merge = engine().Pass(center.segment, compile_kernel(formula, center.dtype), roles, formula.scalars, 1.0, 0, 8)
        with pytest.raises(ValueError, match=f"vector 1 of the formula has the role {int(role)}, which no pass knows"):
            merge.run(0, 1, ())
    with pytest.raises(ValueError, match="vector 3 of a center with 2 states"):
        center.segment.address(3)
    assert center.versions.sum() == 0
