"""Those who wait for room among the jobs that wait: first come, first served."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from offload.errors import QueueFull
from offload.events import Bus
from offload.work.jobs import Job, State
from offload.work.manager.arrivals import Insert
from offload.work.manager.facts import JobChanged

AGAIN_S: Final = 5.0  # the limit may have been raised, or a job removed


class Room:
    """Wakes one of those who wait for each job that waits no more."""

    def __init__(self, bus: Bus) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        bus.listen(JobChanged, self._changed)

    async def enter(self, insert: Insert, told: Callable[[Job], None]) -> Job:
        """Return what ``insert`` returns: at once, or when there is room."""
        while True:
            with suppress(QueueFull):
                return await insert(told)
            await self._wait()

    async def _wait(self) -> None:
        """Return when there may be room; whoever was faster may have taken it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=AGAIN_S)
        finally:
            if not turn.done():
                turn.cancel()

    def _changed(self, changed: JobChanged) -> None:
        if changed.was is not State.QUEUED or changed.job.state is State.QUEUED:
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
