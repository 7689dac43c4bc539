"""
Who has fallen silent, who is asked about it, and who agrees.

A suspicion is no judgement. While it lasts two peers are asked at every beat, those first that
say they hold a link to the suspect. One that has heard of it later ends the suspicion; when all
that could be asked, two at least, have lost it as well, it may be declared gone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ASKED: Final = 2
FRESH_BEATS: Final = 3.0  # how long the word of a peer holds


class Question(NamedTuple):
    """Ask ``peer`` whether it has heard of this life later than of beat ``number``."""

    peer: str
    id: str
    boot: int
    incarnation: int
    number: int


class Answer(NamedTuple):
    """What one that is asked knows of a life: whether it lives, and its latest beat."""

    id: str
    boot: int
    number: int
    alive: bool


@dataclass(slots=True)
class _Suspicion:
    rounds: int = 0
    lost: dict[str, float] = field(default_factory=dict)  # peer -> when it said that it lost it too


class Suspicions:
    """All that are open; ``now`` is in seconds, and so is ``heartbeat_s``."""

    def __init__(self, heartbeat_s: float) -> None:
        self._fresh_s = FRESH_BEATS * heartbeat_s
        self._open: dict[str, _Suspicion] = {}

    def __contains__(self, instance_id: object) -> bool:
        return instance_id in self._open

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def open(self, instance_id: str) -> None:
        """Begin to suspect it."""
        self._open.setdefault(instance_id, _Suspicion())

    def close(self, instance_id: str) -> None:
        """End the suspicion, if there is one."""
        self._open.pop(instance_id, None)

    def ask(self, instance_id: str, peers: list[str], holds: Callable[[str], bool]) -> list[str]:
        """Return whom to ask this time: those that hold a link first, then others in turn."""
        suspicion = self._open[instance_id]
        first = [peer for peer in peers if holds(peer)]
        rest = [peer for peer in peers if peer not in first]
        turn = suspicion.rounds * ASKED % max(len(rest), 1)
        suspicion.rounds += 1
        return (first + rest[turn:] + rest[:turn])[:ASKED]

    def lost_too(self, instance_id: str, peer: str, now: float) -> None:
        """Note that ``peer`` has lost it as well."""
        if instance_id in self._open:
            self._open[instance_id].lost[peer] = now

    def agreed(self, instance_id: str, peers: int, now: float) -> int:
        """Return how many agree if that is enough, of so many ``peers`` that could be asked."""
        lost = self._open[instance_id].lost
        fresh = sum(1 for at in lost.values() if now - at <= self._fresh_s)
        return fresh if fresh and fresh >= min(ASKED, peers) else 0
