"""What a formula's vectors mean when nodes are merged: sums of progress, which add up, or positions, which average."""

from dkcore.formula.rule import Rule

__all__ = ["adds_up"]


def adds_up(rule: Rule, vector: int) -> bool:
    """Whether what nodes did to a vector (0: the center, k: the k-th state) is added up; else it is averaged.

    It follows from what the formula computes, not from its signature. The center moves by progress when its new value depends on p,
    be it through a state. A state is a sum when its new value is the old one and something that does not depend on it.
    """
    if vector == 0:
        return reaches_previous(rule)
    name = rule.states[vector - 1]
    return is_sum(rule, rule.outputs[name], rule.vectors.index(name))


def reaches_previous(rule: Rule) -> bool:
    """Whether p has part in the new center, now or by way of the states, which are read at later exchanges."""
    if "p" not in rule.vectors:
        return False
    seen, ahead = set(), ["c"]
    while ahead:
        output = rule.outputs[ahead.pop()]
        if reads(rule, output, rule.vectors.index("p")):
            return True
        read = [name for name in rule.states if name not in seen and reads(rule, output, rule.vectors.index(name))]
        seen.update(read)
        ahead += read
    return False


def is_sum(rule: Rule, index: int, own: int) -> bool:
    """Whether a node is a leaf plus or minus what does not depend on it."""
    node = rule.nodes[index]
    if index == own:
        return True
    if node.op == "add":
        return any(is_sum(rule, a, own) and not reads(rule, b, own) for a, b in (node.args, node.args[::-1]))
    return node.op == "subtract" and is_sum(rule, node.args[0], own) and not reads(rule, node.args[1], own)


def reads(rule: Rule, index: int, leaf: int) -> bool:
    """Whether a node of the trace depends on a leaf."""
    node = rule.nodes[index]
    return index == leaf or (node.op not in ("vector", "scalar", "constant") and any(reads(rule, arg, leaf) for arg in node.args))
