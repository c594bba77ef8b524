"""Who of a node is done, and what the leaders of the nodes conclude from it: the rules of every end, without any wait.

Design:
(a) Each rank of a node has a number in the segment (src_ext/member.c): how often it has finished; LEFT once it closed its
    center, ended, or died and was noticed. Numbers only rise, so the order in which ranks leave does not matter.
(b) One more number, behind those of the ranks, is the node's: how many phases are over, and its center is final of. Where no
    merge is needed it is not: there the slowest rank says so.
(c) ``tests/nodes/test_membership.py`` tries every order of these steps.
"""

from collections.abc import Iterable

__all__ = ["CLOSING", "DONE", "LEFT", "TRAINING", "are_over", "end_phase", "state_of"]

LEFT = 2**32 - 1
TRAINING, DONE, CLOSING = 0, 1, 2


def state_of(slowest: int, phase: int) -> int:
    """Of a node: its slowest rank has finished so often, and so many phases are over."""
    if slowest == LEFT:
        return CLOSING
    return DONE if slowest > phase else TRAINING


def end_phase(states: Iterable[int]) -> bool:
    """Whether the phase ends with this round of all nodes: nobody trains any longer."""
    return all(state >= DONE for state in states)


def are_over(states: Iterable[int]) -> bool:
    """Whether nobody will ever come again."""
    return all(state == CLOSING for state in states)
