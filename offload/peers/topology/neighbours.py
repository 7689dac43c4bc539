"""Whom this instance is linked with, and whom these say that they are linked with."""

from collections.abc import Iterable, Iterator, Set
from typing import Final

SAME_AGE_S: Final = 1.0
_NOBODY: Final[frozenset[str]] = frozenset()


class Neighbours:
    """The linked peers, each with those that it says it is linked to."""

    def __init__(self) -> None:
        self._near: dict[str, frozenset[str]] = {}
        self._younger: dict[str, bool] = {}  # peer -> whether we are younger, where that is clear

    def __contains__(self, peer: object) -> bool:
        return peer in self._near

    def __iter__(self) -> Iterator[str]:
        return iter(self._near)

    def __len__(self) -> int:
        return len(self._near)

    def link(self, peer: str, ahead_s: float | None) -> None:
        """Note a link; the peer has been up so many seconds longer than we, if that is known."""
        self._near.setdefault(peer, _NOBODY)
        if ahead_s is not None:
            self._younger.pop(peer, None)
            if abs(ahead_s) > SAME_AGE_S:
                self._younger[peer] = ahead_s > 0

    def cut(self, peer: str) -> None:
        """Note that the link is no more."""
        self._near.pop(peer, None)
        self._younger.pop(peer, None)

    def say(self, peer: str, links: Set[str]) -> bool:
        """Note to whom ``peer`` says it is linked; return whether it is a neighbour at all."""
        if peer in self._near:
            self._near[peer] = frozenset(links)
            return True
        return False

    def near(self, peer: str) -> frozenset[str]:
        """Return those that ``peer`` says it is linked to."""
        return self._near.get(peer, _NOBODY)

    def holders(self, instance_id: str, but: Iterable[str] = ()) -> list[str]:
        """Return the neighbours that say they are linked to it."""
        return [p for p, near in self._near.items() if instance_id in near and p not in but]

    def are_younger(self, peer: str) -> bool | None:
        """Say whether we are younger than ``peer``; None if nobody can tell."""
        return self._younger.get(peer)
