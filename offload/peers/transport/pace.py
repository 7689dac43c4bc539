"""
How much of us the peers may have: how fast they may speak, and how much may wait for them. Pure.

Whoever speaks too fast is not cut off but read later, until what it has said is paid for by time.
The measure is generous: thousands of jobs a second stay below it.
"""

from typing import Final

FRAMES_PER_S: Final = 50_000
BYTES_PER_S: Final = 128 * 1024 * 1024
LOOP_SHARE: Final = 0.5  # of our thread's time, for what one peer says
BURST_S: Final = 4.0  # for so long it may be faster
ALL: Final = 2.0  # all together may be as fast as so many
PAUSE_LIMIT_S: Final = 1.0  # so that we go on hearing that it is alive
DEBT_LIMIT_S: Final = 10.0  # so that it is over some time after it has stopped
WAITING_LIMIT_BYTES: Final = 8 * 1024 * 1024  # for one peer
WAITING_ALL_BYTES: Final = 64 * 1024 * 1024
WAITING_LEAST_BYTES: Final = 1024 * 1024  # for one peer, however much waits for others
_PEERS: Final = 1024


class Pace:
    """
    What the peers have said lately, as seconds that the fastest one allowed would take for it.

    It is kept by peer, not by link: so to link anew gains nothing.
    """

    def __init__(self) -> None:
        self._debts: dict[str, tuple[float, float]] = {}  # of whom, and when; the latest last
        self._all = (0.0, 0.0)
        self._lately: dict[str, float] = {}  # what each has said since
        self._since = 0.0

    def heard(self, peer: str, now: float, *, frames: int, size: int, busy_s: float) -> float:
        """
        Note a message of ``peer``, and return for how many seconds to read nothing more of it.

        Args:
            peer: Whose it is.
            now: Monotonic.
            frames: How many it holds.
            size: Its bytes.
            busy_s: For how long it has kept our thread busy.
        """
        cost_s = max(frames / FRAMES_PER_S, size / BYTES_PER_S, busy_s / LOOP_SHARE)
        own = _owed(*self._debts.pop(peer, (0.0, now)), now, cost_s)
        together = _owed(*self._all, now, cost_s / ALL)
        self._debts[peer], self._all = (own, now), (together, now)
        if len(self._debts) > _PEERS:
            del self._debts[next(iter(self._debts))]
        if now - self._since > BURST_S or len(self._lately) > _PEERS:
            self._lately, self._since = {}, now
        self._lately[peer] = self._lately.get(peer, 0.0) + cost_s
        if together > max(own, BURST_S) and self._is_loud(peer):
            own = together
        return min(max(own - BURST_S, 0.0), PAUSE_LIMIT_S)

    def _is_loud(self, peer: str) -> bool:
        """Say whether it says at least half as much as others do: the rest need not wait."""
        return 2 * self._lately[peer] * len(self._lately) >= sum(self._lately.values())


class Queued:
    """How many bytes wait for all the peers together."""

    def __init__(self) -> None:
        self.total = 0

    def fits(self, waiting: int, size: int) -> bool:
        """Say whether ``size`` bytes more may wait for a peer for which ``waiting`` do already."""
        most = WAITING_LIMIT_BYTES
        if self.total + size > WAITING_ALL_BYTES:
            most = WAITING_LEAST_BYTES
        return waiting + size <= most


def _owed(debt_s: float, at: float, now: float, cost_s: float) -> float:
    return min(max(debt_s - (now - at), 0.0) + cost_s, DEBT_LIMIT_S)
