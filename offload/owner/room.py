"""Keeps looking whether this machine may work, and keeps what a person said (issue 4, line 6)."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, Protocol

from offload.clock import Clock
from offload.config import PolicyConfig, WhenConfig
from offload.durations import seconds
from offload.errors import UsageError
from offload.events import Bus
from offload.moments import at_wall
from offload.owner.rules import Sample, obstacle
from offload.work.manager import GateMoved
from offload.work.store import Store

log = logging.getLogger(__name__)
TICK_S: Final = 1.0
LOOK_EVERY_S: Final = 5.0
_NOTE: Final = "snooze"
_DAY_S: Final = 86_400.0


class Looks(Protocol):
    """What tells how the machine is."""

    def look(self, when: WhenConfig) -> Sample:
        """Measure what ``when`` asks for; called in a thread."""
        ...


class Owner:
    """
    When this machine works, for its owner and for others.

    The conditions of ``[policy] when`` are about the work of others; while it snoozes nothing
    starts here at all.

    Args:
        store: Where a snooze is kept.
        bus: Where it is told that something has changed.
        clock: The time.
        policy: What the configuration says.
        machine: What tells how the machine is.
        hand_back: Gives back what runs here, for a reason; with it the own jobs, or not.
    """

    def __init__(
        self,
        *,
        store: Store,
        bus: Bus,
        clock: Clock,
        policy: Callable[[], PolicyConfig],
        machine: Looks,
        hand_back: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._policy = policy
        self._machine = machine
        self._hand_back = hand_back
        self._until_wall = _kept(store.notes.get(_NOTE, ""))
        self._look_at = 0.0
        self._reserved = "" if _asks_nothing(policy().when) else "is being looked at"
        self._said = self.resting() or self._reserved

    def resting(self) -> str:
        """Say why nothing at all starts here; "" if it may."""
        if not self._snoozes():
            return ""
        until = datetime.fromtimestamp(self._until_wall, UTC).astimezone()
        far = self._until_wall - self._clock.wall() >= _DAY_S
        return f"snoozing until {until:%Y-%m-%d %H:%M}" if far else f"snoozing until {until:%H:%M}"

    def reserved(self) -> str:
        """Say why nothing of others starts here; "" if it may."""
        return self._reserved

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values: whether it works for others, why not, until when it rests."""
        reason = self.resting() or self._reserved
        until = datetime.fromtimestamp(self._until_wall, UTC) if self._snoozes() else None
        return {
            "open": not reason,
            "reason": reason,
            "snooze_until": until and until.isoformat(timespec="seconds"),
            "on_return": self._policy().on_return,
        }

    async def snooze(self, duration: str | float) -> dict[str, Any]:
        """
        Start nothing here for so long, over restarts too; return how it is then.

        What runs finishes, or is handed back, as ``[policy] on_return`` says.

        Raises:
            UsageError: If ``duration`` is none.
        """
        try:
            duration_s = seconds(duration)
        except ValueError as error:
            raise UsageError(f"snooze: {error}") from None
        if not duration_s:
            raise UsageError("snooze: for how long? 'off' ends it")
        await self._keep(self._clock.wall() + duration_s)
        return self.as_json()

    async def wake(self) -> dict[str, Any]:
        """End a snooze; return how it is then."""
        await self._keep(0.0)
        return self.as_json()

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            await self._look()
            await self._clock.sleep(TICK_S)

    # --- inside --------------------------------------------------------------------------------

    def _snoozes(self) -> bool:
        return self._clock.wall() < self._until_wall

    async def _keep(self, until_wall: float) -> None:
        await self._store.keep_note(_NOTE, str(until_wall) if until_wall else "")
        self._until_wall = until_wall
        await self._tell()

    async def _look(self) -> None:
        when = self._policy().when
        if _asks_nothing(when):
            self._reserved = ""
        elif self._clock.now() >= self._look_at:
            self._look_at = self._clock.now() + LOOK_EVERY_S
            self._reserved = obstacle(when, await asyncio.to_thread(self._machine.look, when))
        await self._tell()

    async def _tell(self) -> None:
        """Say what has changed; if it is closed now, give back what runs if that is wished."""
        reason = self.resting() or self._reserved
        if reason == self._said:
            return
        was, self._said = self._said, reason
        log.info("works for nobody else: %s" if reason else "works for others%s", reason)
        self._bus.publish(GateMoved())
        newly = bool(reason) and (not was or bool(self.resting()))
        if newly and self._policy().on_return == "hand-back":
            await self._hand_back(reason, bool(self.resting()))


def _asks_nothing(when: WhenConfig) -> bool:
    return when == WhenConfig()


def _kept(note: str) -> float:
    try:
        until_wall = float(note or 0)
    except ValueError:
        until_wall = math.nan
    if at_wall(until_wall) is None:
        log.warning("until when it snoozes cannot be read; it does not")
        return 0.0
    return until_wall
