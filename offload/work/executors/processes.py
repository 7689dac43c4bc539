"""Runs in a child process: of a consumer, or of a command, whose keeper the child then is."""

import asyncio
import logging
import signal
import time
from contextlib import suppress
from typing import Any, Final

from offload.sizes import size_text
from offload.ticks import ticks_s
from offload.work.calls import Ran, ended
from offload.work.child import task_fields
from offload.work.executors.memory import MemoryWatch, used_bytes
from offload.work.executors.pool import CLOSE_LIMIT_S, Pool
from offload.work.executors.process import Child
from offload.work.executors.runs import Order, Run
from offload.work.jobs import Result

log = logging.getLogger(__name__)
LOAD_LIMIT_S: Final = 300.0
RENEWABLE_S: Final = 0.5  # so long before its end a process could have learnt of its new lease
LEASE_OVER: Final = "its lease was over"
LEASE_MISSED: Final = (
    "its process did not renew its lease, though it could have: a call that holds the GIL for"
    " longer than a lease (or a handler of SIGALRM) keeps it from that"
)


class ProcessRun(Run):
    """Runs a consumer, or a command, in a child of ``pool``."""

    def __init__(self, order: Order, pool: Pool, memory: MemoryWatch) -> None:
        super().__init__(order)
        self._pool = pool
        self._memory = memory
        self._child: Child | None = None
        self._loading: asyncio.TimerHandle | None = None
        self._lease_until_s = self.task.lease_until_s
        self._renewed_s = ticks_s()
        self._starting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Give it to a child, which may have to be started."""
        self._starting = self._loop.create_task(self._start())

    async def gone(self) -> None:
        """Return when its child has ended, or is none of ours."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
            self._finish(ended(Result.UNREACHABLE, "", 0.0))
        if self._child is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await asyncio.shield(self._child.gone)

    async def _start(self) -> None:
        try:
            child = await self._fit()
        except OSError as error:
            log.warning("no child process can be started: %s", error)
            reason = f"no child process can be started: {error}"
            self._finish(ended(Result.REFUSED, reason, 0.0))
            return
        if self._ending is not None:  # while the child was started
            self._pool.give_back(child)
            self._finish(ended(*self._ending, 0.0))
            return
        self._child = child
        limit = self.runner.memory_bytes
        if limit is not None:
            self._memory.begin(child.pid, limit, self._too_large)
        child.give(self._fields(), self)
        if self._name is None or self._name in child.loaded:
            self._called()
        else:
            reason = f"its module was not imported within {LOAD_LIMIT_S:g} s"
            self._loading = self._loop.call_later(LOAD_LIMIT_S, self.end, Result.TIMED_OUT, reason)
            self._timers.append(self._loading)

    async def _fit(self) -> Child:
        """Return a child; if there is a cap, one that is not large already by former jobs."""
        while True:
            child = await self._pool.take()
            limit = self.runner.memory_bytes
            if limit is None or not child.loaded:
                return child
            used = await asyncio.to_thread(used_bytes)
            if used[child.pid] <= limit / 2 and child.clean:
                return child
            child.kill()

    @property
    def _name(self) -> tuple[str, str] | None:
        consumer = self.runner.consumer
        return None if consumer is None else (consumer.pattern, consumer.qualname)

    def _fields(self) -> dict[str, Any]:
        fields = {**task_fields(self.task), "lease_until_s": self._lease_until_s}
        consumer, command = self.runner.consumer, self.runner.command
        if command is not None:
            return fields | {"command": [command.arguments, command.give_up_exit_codes]}
        assert consumer is not None  # noqa: S101 - it is one or the other
        home = consumer.home
        assert home is not None  # noqa: S101 - App.consumer sees to it
        return fields | {"home": [home.kind, home.where, home.file], "name": list(self._name or ())}

    def renew(self, until_s: float) -> None:
        """Allow it to run until ``until_s``."""
        if self._lease_until_s is not None and until_s > self._lease_until_s:
            self._lease_until_s, self._renewed_s = until_s, ticks_s()
            if self._child is not None:
                self._child.renew(until_s)

    def on_loaded(self) -> None:
        """Start the clock: importing the consumer's module is not the job's time."""
        if self._loading is not None and self._child is not None and self._name is not None:
            self._loading.cancel()
            self._child.loaded.add(self._name)
            self._called()

    def on_news(self, kind: str, text: str) -> None:
        """Pass it on."""
        self._say(kind, text)

    def on_later(self) -> None:
        """Note that no code of the consumer runs in the main thread any more."""
        self.pending = True

    def on_done(self, ran: Ran) -> None:
        """Give the child back and finish."""
        self._unwatch()
        if self._child is not None:
            self._pool.give_back(self._child)
        self._child = None
        self._finish(ran)

    def on_death(self, reason: str, code: int) -> None:
        """Finish without a word from the consumer."""
        self._unwatch()
        self._child = None
        result = Result.CRASHED
        if code == -signal.SIGALRM and self._lease_until_s is not None:
            missed = self._lease_until_s - ticks_s() > RENEWABLE_S
            result = Result.CRASHED if missed else Result.UNREACHABLE
            reason = LEASE_MISSED if missed else LEASE_OVER
        self._finish(ended(result, reason, time.monotonic() - self._began))

    def _too_large(self, used: int) -> None:
        limit = size_text(self.runner.memory_bytes or 0)
        self.end(Result.FAILED, f"used {size_text(used)} of memory; its cap is {limit}")

    def _unwatch(self) -> None:
        if self._child is not None and self.runner.memory_bytes is not None:
            self._memory.end(self._child.pid)

    def _ask(self) -> None:
        if self._child is not None:
            self._child.ask()

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
