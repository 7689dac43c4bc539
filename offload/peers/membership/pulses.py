"""
How far away peers are, in time, by what heartbeats carry. Pure.

A beat says when it left by its sender's clocks, and gives back the last such moment that it
heard, with how long it kept that: so a round trip is known without a question of its own. The
shortest of the last ones counts: longer ones were held up by somebody who was busy.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from offload.errors import Malformed

KEPT: Final = 8
LONGEST_S: Final = 60.0


class Pulse(NamedTuple):
    """
    What is measured of a link.

    Attributes:
        rtt_s: A round trip.
        ahead_s: By how much the peer's wall clock is ahead of ours.
    """

    rtt_s: float
    ahead_s: float


@dataclass(slots=True)
class _Peer:
    heard: tuple[float, float] | None = None  # its steady moment, and when it came by our clock
    waits: bool = False  # for a moment of its own to come back
    measured: deque[Pulse] = field(default_factory=lambda: deque(maxlen=KEPT))


class Pulses:
    """The round trips to all peers. Every ``now`` is steady, every ``wall`` since 1970."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}

    def of(self, peer: str) -> Pulse | None:
        """Return what is known of the link to ``peer``."""
        known = self._peers.get(peer)
        return min(known.measured) if known and known.measured else None

    def is_due(self, peer: str) -> bool:
        """Say whether the next beat to ``peer`` has to say something of time."""
        known = self._peers.get(peer)
        return known is None or known.waits or not known.measured

    def said(self, peer: str, now: float, wall: float) -> dict[str, Any]:
        """Return what a beat to ``peer`` says of time."""
        known = self._peers.get(peer)
        fields: dict[str, Any] = {"at": [now, wall]}
        if known is not None and known.heard is not None:
            sent, came = known.heard
            fields["echo"] = [sent, now - came]
            known.heard, known.waits = None, False  # once is enough: a later beat brings another
        return fields

    def hear(self, peer: str, fields: dict[str, Any], now: float, wall: float) -> None:
        """Take in what a beat of ``peer`` says of time; raise ``Malformed``."""
        if "at" not in fields:
            return
        sent, their_wall = _pair(fields, "at")
        known = self._peers.setdefault(peer, _Peer())
        known.heard, known.waits = (sent, now), "echo" not in fields
        if "echo" not in fields:
            return
        left, kept_s = _pair(fields, "echo")
        rtt_s = now - left - kept_s
        if kept_s >= 0 and -0.001 <= rtt_s < LONGEST_S:
            rtt_s = max(0.0, rtt_s)
            known.measured.append(Pulse(rtt_s, their_wall + rtt_s / 2 - wall))

    def forget(self, peer: str) -> None:
        """There is no link to ``peer`` any more, or another one."""
        self._peers.pop(peer, None)


def _pair(fields: dict[str, Any], name: str) -> tuple[float, float]:
    match fields[name]:
        case [float() | int() as first, float() | int() as second]:
            return float(first), float(second)
    raise Malformed(f"beat: {name} is not two numbers")
