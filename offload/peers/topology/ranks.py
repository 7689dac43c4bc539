"""
The order of the members, and so the leader, without comparing clocks between machines.

Each member announces a rank, and the order is (rank, id). When two parts meet that did not know
each other, one of them goes to the end, in its old order: so the longest-standing leads, and
whoever was cut off comes back at the end (C056).
"""

from collections.abc import Iterable
from typing import NamedTuple


class Standing(NamedTuple):
    """Where a member stands; standings compare as their members are ordered."""

    rank: int
    id: str


def settle(
    mine: Iterable[Standing], theirs: Iterable[Standing], *, mine_younger: bool | None = None
) -> dict[str, int]:
    """
    Return the new ranks of those who go to the end when the parts ``mine`` and ``theirs`` meet.

    The smaller part goes. If both are equal, the younger one does where that is known
    (``mine_younger``), else the one with the higher leader id. A part that stands wholly behind
    the other keeps its ranks. Both sides come to the same answer, each from its own end.
    """
    ours, others = sorted(mine), sorted(theirs)
    if not ours or not others:
        return {}
    if len(ours) != len(others):
        we_go = len(ours) < len(others)
    elif mine_younger is not None:
        we_go = mine_younger
    else:
        we_go = ours[0].id > others[0].id
    going, staying = (ours, others) if we_go else (others, ours)
    if going[0].rank > staying[-1].rank:
        return {}
    end = max(going[-1].rank, staying[-1].rank) + 1
    return {standing.id: end + place for place, standing in enumerate(going)}
