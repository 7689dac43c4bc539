"""Peers that have refused jobs: they are left alone with such jobs for a while."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

REFUSED_S: Final = 1.0
REFUSED_MOST_S: Final = 30.0
Kind = tuple[str, bool]  # of jobs: their topic; exclusive work?


@dataclass(slots=True)
class _Refusal:
    reason: str
    until: float
    pause_s: float


class Refusals:
    """Who has refused which kind of jobs: a pause follows, ever longer while it takes none."""

    def __init__(self) -> None:
        self._refusals: dict[tuple[str, Kind], _Refusal] = {}

    def refused(self, peer: str, kind: Kind, reason: str, now: float) -> None:
        """``peer`` has given back a job; those that it was given together are one try."""
        last = self._refusals.get((peer, kind))
        if last is not None and now < last.until:
            last.reason = reason
            return
        pause_s = min(2 * last.pause_s, REFUSED_MOST_S) if last else REFUSED_S
        self._refusals[peer, kind] = _Refusal(reason, now + pause_s, pause_s)

    def taken(self, peer: str, kind: Kind) -> None:
        """``peer`` has taken one: should it refuse the next, that is the first time again."""
        last = self._refusals.get((peer, kind))
        if last is not None:
            last.pause_s = REFUSED_S / 2

    def forget(self, peer: str) -> None:
        """``peer`` has said something new of itself: its refusals count no more."""
        for key in [key for key in self._refusals if key[0] == peer]:
            del self._refusals[key]

    def reason(self, peer: str, kind: Kind, now: float) -> str:
        """Return why ``peer`` is left alone with such jobs, "" if it is not."""
        refusal = self._refusals.get((peer, kind))
        return refusal.reason if refusal and refusal.until > now else ""

    def ends(self, now: float) -> Iterator[float]:
        """Yield when the pauses end."""
        return (r.until for r in self._refusals.values() if r.until > now)
