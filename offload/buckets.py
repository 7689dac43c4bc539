"""How often somebody may do something: buckets that fill with time, and are drawn from. Pure."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Buckets(Generic[K]):
    """
    A bucket for each of the ``keys`` that drew last; one that was forgotten is full again.

    Args:
        per_s: By how much each fills in a second.
        size: What each holds at most.
        keys: How many are remembered.
    """

    def __init__(self, per_s: float, size: float, *, keys: int = 1024) -> None:
        self._per_s, self._size, self._keys = per_s, size, keys
        self._left: dict[K, tuple[float, float]] = {}  # what was left, and when

    def draw(self, key: K, now: float, amount: float = 1.0) -> bool:
        """Take ``amount`` out of a bucket, if there is as much in it; else take nothing."""
        left, at = self._left.pop(key, (self._size, now))
        left = min(self._size, left + (now - at) * self._per_s)
        there = left >= amount
        self._left[key] = left - amount if there else left, now
        if len(self._left) > self._keys:
            del self._left[next(iter(self._left))]
        return there
