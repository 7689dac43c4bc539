"""
When beats go over which link. Pure.

Of two peers the one with the lower id sets the pace, and the other answers: so one packet carries
both a beat and the system's receipt of another. Who waits in vain for a beat to answer sends one
by itself, a little later than it would have come.
"""

from typing import Final

PATIENCE_BEATS: Final = 1.1  # after which a beat that is to be answered is not waited for any more
APART_BEATS: Final = 0.5  # what comes sooner after our last beat is one in between


class Cadence:
    """The beats of the instance ``own_id``; every ``now`` is steady."""

    def __init__(self, own_id: str, heartbeat_s: float) -> None:
        self._own_id = own_id
        self._heartbeat_s = heartbeat_s
        self._beaten_at: dict[str, float] = {}

    def beaten(self, peer: str, now: float) -> None:
        """Note that a heartbeat went to ``peer``."""
        self._beaten_at[peer] = now

    def forget(self, peer: str) -> None:
        """There is no link to ``peer`` any more, or another one."""
        self._beaten_at.pop(peer, None)

    def hurry(self) -> None:
        """Let the next beats to all go soon."""
        self._beaten_at.clear()

    def is_due(self, peer: str, now: float, *, heartbeat: bool) -> bool:
        """Say whether a beat goes to ``peer`` now; ``heartbeat``: it is time by our own pace."""
        beaten_at = self._beaten_at.get(peer)
        if beaten_at is None:
            return True
        if self._own_id < peer:
            return heartbeat
        return now - beaten_at >= PATIENCE_BEATS * self._heartbeat_s

    def answers(self, peer: str, now: float) -> bool:
        """Say whether a beat of ``peer`` that has just come is answered by one."""
        beaten_at = self._beaten_at.get(peer)
        if self._own_id < peer or beaten_at is None:
            return False
        return now - beaten_at >= APART_BEATS * self._heartbeat_s
