"""Time that passes when the test says so."""

import asyncio
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from itertools import count
from typing import Final

from offload.clock import Mark

TURNS: Final = 20  # of the event loop, in which whoever was woken does what it has to do
WALL: Final = 1_700_000_000.0


async def turn() -> None:
    """Let the event loop turn until those that wait for nothing else have done their work."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class MovedClock:
    """
    A clock that stands still until ``advance``; an ``offload.clock.Clock``.

    Args:
        settle: Returns when what is under way at this moment is done; by default the event loop
            turns a few times.
    """

    def __init__(self, settle: Callable[[], Awaitable[None]] = turn) -> None:
        self._settle = settle
        self._now = 0.0
        self._wall = WALL
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now(self) -> float:
        """Return the steady seconds that have passed."""
        return self._now

    def wall(self) -> float:
        """Return the wall-clock time, which passes alike, unless it is set."""
        return self._wall + self._now

    def set_wall(self, wall: float) -> None:
        """Set the wall clock, forward or back; steady time does not notice."""
        self._wall = wall - self._now

    def mark(self) -> Mark:
        """Return the reading to keep."""
        return Mark("in memory", self._now, self._now)

    async def sleep(self, delay_s: float) -> None:
        """Return when time has been moved by ``delay_s``."""
        awake = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._now + delay_s, next(self._numbers), awake))
        await awake

    async def advance(self, seconds: float) -> None:
        """
        Let ``seconds`` pass, as they would: each sleeper wakes at its time.

        What follows from its waking is done before the next one wakes.
        """
        until = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self._now = max(self._now, self._sleepers[0][0])
            while self._sleepers and self._sleepers[0][0] <= self._now:
                awake = heappop(self._sleepers)[2]
                if not awake.done():
                    awake.set_result(None)
            await self._settle()
        self._now = until
        await self._settle()
