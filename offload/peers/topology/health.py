"""
How well this instance itself is doing: who is slow must not blame others.

Every late tick of our own, and every suspicion against us that we had to refute, makes us more
patient with others; ticks in time make that pass.
"""

from typing import Final

STRAIN_LIMIT: Final = 8
LATE_BEATS: Final = 1.0  # so late is a strain
AWAY_BEATS: Final = 2.0  # for so long we stood still, or slept: that time counts against nobody
RECOVERY_BEATS: Final = 10.0  # in time, after which a strain is over


class Health:
    """Watches our own ticks."""

    def __init__(self, now: float, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._ticked_at = self._eases_at = now
        self.strain = 0

    @property
    def patience_s(self) -> float:
        """Return how much longer than usual others may be quiet."""
        return self.strain * self._heartbeat_s

    def tick(self, now: float) -> float:
        """Note a tick; return how many seconds we stood still, 0 if we did not."""
        late_s = now - self._ticked_at
        self._ticked_at = now
        if late_s > LATE_BEATS * self._heartbeat_s:
            self.suffer(now)
        elif self.strain and now >= self._eases_at:
            self.strain -= 1
            self._eases_at = now + RECOVERY_BEATS * self._heartbeat_s
        return late_s if late_s > AWAY_BEATS * self._heartbeat_s else 0.0

    def suffer(self, now: float) -> None:
        """Note that we were slow."""
        self.strain = min(self.strain + 1, STRAIN_LIMIT)
        self._eases_at = now + RECOVERY_BEATS * self._heartbeat_s
