"""Whether a center was made for the model and the rule that are to be trained with it."""

from typing import TYPE_CHECKING

import numpy as np

from dkcore.errors import LayoutError, RuleError, expected
from dkcore.formula.synchronous import Synchronous

if TYPE_CHECKING:
    from dkcore.center import Center
    from dkcore.formula.rule import Rule
    from dkcore.replica.replica import Replica

__all__ = ["check_replica", "check_rule"]


def check_rule(center: "Center", rule: "Rule | Synchronous") -> None:
    """RuleError unless the center was made for this synchronous method, or for asynchronous rules and the rule is one."""
    made = None if center.membership is None else center.membership.synchronous
    wanted = rule if isinstance(rule, Synchronous) else None
    if (made or wanted) and (made is None or wanted is None or made.to_dict() != wanted.to_dict()):
        received = f"one for {made.name!r}" if made else "one for asynchronous rules"
        raise RuleError(expected(f"a center made for {rule.name!r}", received, "Make it by Center.of(model, world, rule=rule)."))


def check_replica(center: "Center", replica: "Replica") -> None:
    """LayoutError unless the center has the weights of such a model: as many, of its dtype, in its order, with its statistics last."""
    if replica.size != center.size or replica.dtype != center.dtype or center.digest not in (0, replica.digest):
        what = f"a model of {center.size} {center.dtype} like that of the center"
        raise LayoutError(expected(what, f"{replica.size} {np.dtype(replica.dtype)}", "Make it by Center.of(model, world)."))
    membership, statistics = center.membership, replica.statistics
    if membership is not None and (membership.synchronous or membership.nodes > 1) and center.statistics != statistics:
        what = f"a center of which the last {statistics} elements are statistics, as of the model"
        raise LayoutError(expected(what, f"the last {center.statistics}", "Make it by Center.of(model, world), not of an array."))
