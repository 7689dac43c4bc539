"""
Whom to be linked with when there are too many for everyone to be linked with everyone.

Every pair of instances has a weight that follows from their ids, the same on both sides. Each
instance wants those few links of its own that weigh least. What all want together is a random
graph: in one piece, a few hops wide, and little changed by one that comes or goes.
"""

import hashlib
import heapq
from collections.abc import Iterable
from typing import Final

FULL_MESH: Final = 50  # up to so many members all are linked with all
WANTED: Final = 6


class Mesh:
    """The links that the instance ``own_id`` wants."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._weights: dict[str, bytes] = {}

    def add(self, instance_id: str) -> None:
        """Count a member in."""
        self._weights[instance_id] = weigh(self._own_id, instance_id)

    def remove(self, instance_id: str) -> None:
        """Count a member out."""
        self._weights.pop(instance_id, None)

    def lightest(self, but: Iterable[str] = ()) -> frozenset[str]:
        """Return those to be linked with; never one of ``but``, who cannot be reached now."""
        avoided = set(but)
        fit = (i for i in self._weights if i not in avoided)
        return frozenset(heapq.nsmallest(WANTED, fit, key=self._weights.__getitem__))


def weigh(one: str, other: str) -> bytes:
    """Return the weight of a pair, whichever of them is named first."""
    low, high = sorted((one, other))
    return hashlib.blake2b(f"{low} {high}".encode("ascii"), digest_size=8).digest()
