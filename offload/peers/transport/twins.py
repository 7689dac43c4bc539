"""
Two processes with one instance id: a data directory was copied (C057). Pure.

Every start of an instance is a *life* with a random name. A hello from another life of a linked
peer is a restart, as a rule. But if the former life says hello once more after that, it was never
over: both run. Then the younger one must end.
"""

from dataclasses import dataclass
from typing import Final

SAME_AGE_S: Final = 1.0  # no clock and no network is better; then the names of the lives decide
LIVES_KEPT: Final = 4
IDS_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class Life:
    """One life, and when it began by the clock of the one who keeps this."""

    name: str
    born_at: float


class Lives:
    """The lives that have said hello here, for each id the latest last."""

    def __init__(self) -> None:
        self._heard: dict[str, dict[str, Life]] = {}

    def heard(self, instance_id: str, life: str, uptime_s: float, now: float) -> str | None:
        """
        Note a hello; return the life that is to end if two of them run, None as a rule.

        Instances that do not name their life are taken at their word.
        """
        if not life:
            return None
        lives = self._heard.pop(instance_id, {})
        latest = next(reversed(lives.values()), None)
        back = life in lives and latest is not None and latest.name != life
        lives.pop(life, None)
        lives[life] = Life(life, now - uptime_s)
        self._keep(instance_id, lives)
        if not back or latest is None:
            return None
        younger = is_younger(uptime_s, life, now - latest.born_at, latest.name)
        ends = life if younger else latest.name
        del lives[ends]
        return ends

    def _keep(self, instance_id: str, lives: dict[str, Life]) -> None:
        self._heard[instance_id] = lives
        if len(self._heard) > IDS_KEPT:
            del self._heard[next(iter(self._heard))]
        if len(lives) > LIVES_KEPT:
            del lives[next(iter(lives))]


def is_younger(uptime_s: float, life: str, other_uptime_s: float, other_life: str) -> bool:
    """Say whether the first of two lives is the younger one; both ends come to one answer."""
    if abs(uptime_s - other_uptime_s) > SAME_AGE_S:
        return uptime_s < other_uptime_s
    return life > other_life
