"""Children that wait for the next task, and the runs that use them."""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

from offload.work.calls import Ran, ended
from offload.work.child import task_fields
from offload.work.executors.process import Child
from offload.work.executors.runs import Run
from offload.work.executors.warden import Groups
from offload.work.jobs import Result

LINGER_S: Final = 10.0
LOAD_LIMIT_S: Final = 300.0
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


class ProcessRun(Run):
    """Runs a consumer in a child of ``pool``."""

    def __init__(self, *args: Any, pool: Pool, **named: Any) -> None:
        super().__init__(*args, **named)
        self._pool = pool
        self._child: Child | None = None
        self._loading: asyncio.TimerHandle | None = None

    async def _start(self) -> None:
        child = await self._pool.take()
        if self._ending is not None:  # while the child was started
            self._pool.give_back(child)
            self._finish(ended(*self._ending, 0.0))
            return
        self._child = child
        home = self.consumer.home
        if home is None:  # pragma: no cover - App.consumer sees to it
            raise ValueError("a consumer in process isolation has a home")
        name = self.consumer.pattern, self.consumer.qualname
        fields = task_fields(self.task)
        fields |= {"home": [home.kind, home.where, home.file], "name": list(name)}
        child.give(fields, self)
        if name in child.loaded:
            self._called()
        else:
            reason = f"its module was not imported within {LOAD_LIMIT_S:g} s"
            self._loading = self._loop.call_later(LOAD_LIMIT_S, self.end, Result.TIMED_OUT, reason)
            self._timers.append(self._loading)

    def on_loaded(self) -> None:
        """Start the clock: importing the consumer's module is not the job's time."""
        if self._loading is not None and self._child is not None:
            self._loading.cancel()
            self._child.loaded.add((self.consumer.pattern, self.consumer.qualname))
            self._called()

    def on_news(self, kind: str, text: str) -> None:
        """Pass it on."""
        self._say(kind, text)

    def on_done(self, ran: Ran) -> None:
        """Give the child back and finish."""
        if self._child is not None:
            self._pool.give_back(self._child)
        self._child = None
        self._finish(ran)

    def on_death(self, reason: str) -> None:
        """Finish without a word from the consumer."""
        self._child = None
        self._finish(ended(Result.CRASHED, reason, time.monotonic() - self._began))

    def _ask(self) -> None:
        if self._child is not None:
            self._child.ask()

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def _abort(self) -> None:
        if self._child is not None:  # it has not answered
            self._child.kill()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await asyncio.shield(self._child.gone)
