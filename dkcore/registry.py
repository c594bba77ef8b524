"""Rules and synchronous methods by name, wherever one is asked for."""

from collections.abc import Mapping
from typing import Any

from dkcore.errors import RuleError, expected, nearest
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.rules import METHODS, REGISTRY

__all__ = ["KNOWN", "plain_rule", "rule_of", "state_of"]

KNOWN: dict[str, Rule | Synchronous] = REGISTRY | METHODS


class UnknownRuleError(RuleError, ValueError):
    """A name that no rule has."""


def rule_of(rule: "str | Mapping[str, Any] | Rule | Synchronous") -> Rule | Synchronous:
    """The rule itself: it, the built-in one of that name, or the one of its ``to_dict``.

    >>> rule_of("adag").scalars
    ('window',)
    """
    if isinstance(rule, Rule | Synchronous):
        return rule
    if isinstance(rule, str) and rule in KNOWN:
        return KNOWN[rule]
    if isinstance(rule, Mapping):
        return (Synchronous if "gather" in rule else Rule).from_dict(dict(rule))
    if isinstance(rule, str):
        raise UnknownRuleError(expected(f"a rule of {', '.join(KNOWN)}", repr(rule), nearest(rule, KNOWN, "`dkcore rules` shows them.")))
    raise RuleError(expected("a rule, or the name of one", repr(rule), "Decorate the formula with @dkcore.rule, or pass rule='adag'."))


def plain_rule(rule: "str | Mapping[str, Any] | Rule | Synchronous") -> str | dict[str, Any]:
    """The rule as JSON has it: a built-in one by its name, one of a user as all that it is."""
    found = rule_of(rule)
    plain = found.to_dict()
    return found.name if found.name in KNOWN and KNOWN[found.name].to_dict() == plain else plain


def state_of(rule: "Rule | Synchronous | None", state: int | str) -> int:
    """The number of a state vector that is given by its name: 0 the center, k the k-th state. RuleError when there is none."""
    if not isinstance(state, str):
        return state
    if state == "c":
        return 0
    if rule is None:
        what = f"a center that knows its rule, to find state {state!r}"
        raise RuleError(expected(what, "one made without a rule", "Pass rule= to create, attach or of; or pass the state's number."))
    if state not in rule.states:
        advice = nearest(state, rule.states, "Pass state=0 for the center itself.")
        raise RuleError(expected(f"a state of {rule.name!r} ({', '.join(rule.states) or 'it has none'})", repr(state), advice))
    return 1 + rule.states.index(state)
