"""
The order of the members, and so the leader, without comparing clocks between machines.

Each member announces a rank, and the order is (rank, id). When two parts meet that did not know
each other, one of them goes to the end, in its old order: so the longest-standing leads, and
whoever was cut off comes back at the end (C056).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple


class Standing(NamedTuple):
    """Where a member stands; standings compare as their members are ordered."""

    rank: int
    id: str


class Part(NamedTuple):
    """How many there are in a part, and the highest rank among them."""

    size: int
    last: int

    def joined(self, other: "Part") -> "Part":
        """Return what is known of a part of which two things are known."""
        return Part(max(self.size, other.size), max(self.last, other.last))


NO_PART: Final = Part(0, 0)


def settle(
    mine: Iterable[Standing],
    theirs: Iterable[Standing],
    *,
    mine_younger: bool | None = None,
    part: Part = NO_PART,
) -> dict[str, int]:
    """
    Return the new ranks of those who go to the end when the parts ``mine`` and ``theirs`` meet.

    The smaller part goes. If both are equal, the younger one does where that is known
    (``mine_younger``), else the one with the higher leader id. A part that stands wholly behind
    the other keeps its ranks. Both sides come to the same answer, each from its own end.
    ``part`` is what is known of theirs, if not all of it is among ``theirs``.
    """
    ours, strangers = list(mine), list(theirs)
    if not ours or not strangers:
        return {}
    size = max(len(strangers), part.size)
    if len(ours) != size:
        we_go = len(ours) < size
    elif mine_younger is not None:
        we_go = mine_younger
    else:
        we_go = min(ours).id > min(strangers).id
    going, staying = (ours, strangers) if we_go else (strangers, ours)
    last = max(standing.rank for standing in staying)
    last = max(last, part.last) if we_go else last
    if min(going).rank > last:
        return {}
    end = max(last, *(standing.rank for standing in going)) + 1
    return {standing.id: end + place for place, standing in enumerate(sorted(going))}
