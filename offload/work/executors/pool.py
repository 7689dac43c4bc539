"""Children that wait for the next task."""

import asyncio
import time
from typing import Final

from offload.work.executors.process import Child
from offload.work.executors.warden import Groups

LINGER_S: Final = 10.0
CLOSE_LIMIT_S: Final = 5.0


class Pool:
    """
    The children of one daemon.

    ``max_idle`` of them stay warm for ever, more of them for ``LINGER_S`` after a busy time.
    """

    def __init__(self, groups: Groups, *, max_idle: int) -> None:
        self._groups = groups
        self._max_idle = max_idle
        self._all: set[Child] = set()
        self._idle: list[Child] = []  # the one that worked last is last, and used first
        self._trimming: asyncio.TimerHandle | None = None

    async def take(self) -> Child:
        """Return a child that waits, or a new one; raise ``OSError`` if none can be started."""
        while self._idle:
            child = self._idle.pop()
            if child.clean:
                return child
        child = Child(self._groups)
        self._all.add(child)
        child.gone.add_done_callback(lambda _: self._forget(child))
        try:
            await child.open()
        except OSError:
            self._forget(child)
            raise
        if not child.clean:
            raise ChildProcessError("it ended at once")
        return child

    def _forget(self, child: Child) -> None:
        self._all.discard(child)
        if child in self._idle:
            self._idle.remove(child)

    def give_back(self, child: Child) -> None:
        """Take ``child`` back; one that cannot run another task is ended."""
        if not child.clean:
            child.kill()
            return
        self._idle.append(child)
        if len(self._idle) > self._max_idle and self._trimming is None:
            loop = asyncio.get_running_loop()
            self._trimming = loop.call_later(LINGER_S, self._trim)

    def _trim(self) -> None:
        self._trimming = None
        now = time.monotonic()
        while len(self._idle) > self._max_idle and now - self._idle[0].idle_since >= LINGER_S:
            self._idle.pop(0).kill()
        if len(self._idle) > self._max_idle:
            loop = asyncio.get_running_loop()
            self._trimming = loop.call_later(LINGER_S / 4, self._trim)

    async def close(self) -> None:
        """End all children, in bounded time."""
        if self._trimming is not None:
            self._trimming.cancel()
        self._idle.clear()
        ends = [child.gone for child in self._all]
        for child in self._all:
            child.kill()
        if ends:
            await asyncio.wait(ends, timeout=CLOSE_LIMIT_S)
