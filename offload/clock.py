"""
Time, as an instance sees it.

``now`` is *steady* time: seconds that neither jump with the wall clock nor pause for sleep, and
that go on where they stopped when the instance starts again (the rest of a delay survives a
restart). ``wall`` is for people and calendars only. Rooms are given a ``Clock``; pure rooms are
given ``now``.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from offload.ticks import machine_boot, ticks_s

__all__ = ["Clock", "Mark", "SystemClock", "machine_boot", "ticks_s"]


class Clock(Protocol):
    """What every room may ask of time."""

    def now(self) -> float:
        """Return steady seconds."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970, as the wall clock has it."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return when ``delay_s`` steady seconds are over."""
        ...

    def mark(self) -> "Mark":
        """Return the reading to keep for the next start."""
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """A reading that, kept on disk, lets the next start go on: same machine boot, or the rest."""

    machine_boot: str
    ticks_s: float
    steady_s: float


class SystemClock:
    """The machine's clock, going on from ``mark`` if there is one."""

    def __init__(self, mark: Mark | None = None) -> None:
        self._machine_boot, ticks = machine_boot(), ticks_s()
        if mark is None:
            self._offset_s = -ticks
        elif mark.machine_boot == self._machine_boot and mark.ticks_s <= ticks:
            self._offset_s = mark.steady_s - mark.ticks_s
        else:  # fewer ticks than before: a new boot, also where the system has no name for it
            self._offset_s = mark.steady_s - ticks

    def now(self) -> float:
        """Return steady seconds since this data directory was first used."""
        return ticks_s() + self._offset_s

    def wall(self) -> float:
        """Return seconds since 1970, as the wall clock has it."""
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        """Return when ``delay_s`` seconds are over."""
        await asyncio.sleep(delay_s)

    def mark(self) -> Mark:
        """Return the reading to keep."""
        ticks = ticks_s()
        return Mark(self._machine_boot, ticks, ticks + self._offset_s)
