"""
Running consumers: as a coroutine, in a thread, in a child process; and commands.

Whatever a consumer does, a run ends with an ``Outcome``. Payloads are
unpacked where the consumer runs: for child processes the daemon only passes the bytes on.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from offload.app import App
from offload.work.calls import News, Ran, Task, ended
from offload.work.executors.logs import JobLog, prints_caught
from offload.work.executors.memory import MemoryWatch
from offload.work.executors.pool import Pool
from offload.work.executors.processes import ProcessRun
from offload.work.executors.runners import NOT_KILLABLE, Runner, Runners, TopicRule
from offload.work.executors.runs import Ends, LoopRun, Order, Run, ThreadRun
from offload.work.executors.warden import Groups
from offload.work.jobs import Result
from offload.work.programs import Command

__all__ = [
    "NOT_KILLABLE",
    "Command",
    "Executors",
    "News",
    "Ran",
    "Runner",
    "Task",
    "TopicRule",
    "prints_caught",
]
log = logging.getLogger(__name__)
HURRIED_GRACE_S: Final = 0.5


class Executors:
    """
    Runs the consumers of ``app``; how many at once is for the caller to say.

    Args:
        run_file: Where the process groups of the children are noted, for the next daemon.
        rules: What holds for topics, by pattern: the most specific one that takes a topic.
        grace_s: How long a consumer that was asked to stop may take before it is ended.
        max_idle: Child processes that are kept warm.

    Raises:
        ConfigError: If a consumer cannot run as a rule wants it.
    """

    def __init__(
        self,
        app: App | None,
        *,
        run_file: Path,
        rules: Mapping[str, TopicRule] | None = None,
        grace_s: float = 5.0,
        max_idle: int = 4,
    ) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runners = Runners(app, rules or {})
        self._unlisten: Callable[[], None] = lambda: None
        self._log = JobLog()
        self._ends = Ends()
        self._memory = MemoryWatch()
        self._grace_s = grace_s
        self._groups = Groups(run_file)
        self._pool = Pool(self._groups, max_idle=max_idle)
        self._runs: dict[tuple[str, int], Run] = {}
        self._closing = False

    def consumer(self, topic: str) -> Runner | None:
        """Return who runs ``topic`` here: a consumer or a command."""
        return self._runners.find(topic)

    def patterns(self) -> tuple[str, ...]:
        """Return the patterns of all topics that can be run here, commands included."""
        return self._runners.patterns()

    def version(self, pattern: str) -> str:
        """Return what the consumer of ``pattern`` says of its version, or ""."""
        return self._runners.version(pattern)

    def delivery(self, pattern: str) -> str:
        """Return how often the consumer of ``pattern`` says that a job may be started, or ""."""
        return self._runners.delivery(pattern)

    def govern(self, rules: Mapping[str, TopicRule]) -> None:
        """Follow other rules from now on; what runs goes on under the former ones."""
        self._runners = Runners(self._app, rules)

    async def open(self) -> None:
        """End what a former daemon on the same run file has left behind."""
        self._loop = asyncio.get_running_loop()
        if self._app is not None:
            self._unlisten = self._app.listen(self._app_changed)
        self._log.open()
        await asyncio.to_thread(self._groups.end_former)

    def begin(self, task: Task, news: Callable[[News], None], over: Callable[[Ran], None]) -> None:
        """
        Run ``task``, telling ``news`` what the consumer says meanwhile, and ``over`` its end.

        ``over`` is called once, on the loop, and never before this has returned.
        """
        runner = self.consumer(task.topic)
        refusal = self._refusal(task, runner)
        if runner is None or refusal:
            loop = asyncio.get_running_loop()
            loop.call_soon(over, ended(Result.REFUSED, refusal, 0.0))
            return
        run = self._made(Order(task, runner, news, over, self._forget, self._grace_s))
        self._runs[run.key] = run
        run.begin()

    def stop(
        self, job_id: str, attempt: int, *, at_once: bool = False, hurried: bool = False
    ) -> bool:
        """
        Ask the consumer to stop, and end it if it does not; its outcome is then STOPPED.

        One that has no ``Context`` cannot learn of it, and is ended at once.

        Args:
            job_id: Of which job.
            attempt: Which attempt of it.
            at_once: Its lease is over: it is not asked, but ended; its outcome is UNREACHABLE.
            hurried: It has next to no time for it.

        Returns:
            Whether it was running.
        """
        run = self._runs.get((job_id, attempt))
        if run is None:
            return False
        if hurried:
            run.hurry(HURRIED_GRACE_S)
        if at_once:
            run.end(Result.UNREACHABLE, "its lease was over")
        else:
            run.end(Result.STOPPED, "was stopped")
        return True

    def hurry(self) -> None:
        """Let consumers that are asked to stop, now or before, take next to no time for it."""
        self._grace_s = HURRIED_GRACE_S
        for run in list(self._runs.values()):
            run.hurry(HURRIED_GRACE_S)

    def renew(self, job_id: str, attempt: int, until_s: float) -> bool:
        """
        Allow a task that has a lease to run until ``until_s`` (``ticks.ticks_s``).

        A child process ends by itself, whatever its consumer does, when its lease is over.

        Returns:
            Whether it was running.
        """
        run = self._runs.get((job_id, attempt))
        if run is not None:
            run.renew(until_s)
        return run is not None

    async def close(self) -> None:
        """End what runs, and all child processes, in bounded time."""
        self._closing = True
        self._unlisten()
        self._unlisten = lambda: None
        self._log.close()
        runs = list(self._runs.values())
        for run in runs:
            run.end(Result.UNREACHABLE, "the instance was closed while it ran")
        await asyncio.gather(*(run.gone() for run in runs))
        await self._memory.close()
        await self._pool.close()
        await asyncio.to_thread(self._groups.close)

    def _app_changed(self) -> None:
        """Look at it on the loop, whichever thread has changed the app."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed)

    def _changed(self) -> None:
        """Give up on answers of consumers that were removed; what still runs goes on (C039)."""
        for run in list(self._runs.values()):
            declared = run.runner.declared
            if run.pending and declared is not None and not self._runners.has(declared):
                run.end(Result.FAILED, "its consumer was removed before it was finished")

    def _refusal(self, task: Task, runner: Runner | None) -> str:
        """Say why ``task`` cannot run here; "" if it can."""
        if runner is None or self._closing:
            reason = "is closing" if self._closing else f"has no consumer for {task.topic}"
            return f"the instance {reason}"
        leased = task.lease_until_s is not None
        return NOT_KILLABLE if leased and not runner.killable else ""  # it was, when it was taken

    def _forget(self, run: Run) -> None:
        self._runs.pop(run.key, None)

    def _made(self, order: Order) -> Run:
        match order.runner.isolate:
            case "coroutine":
                return LoopRun(order, self._log, self._ends)
            case "thread":
                return ThreadRun(order, self._log)
            case "process" | "command":
                return ProcessRun(order, self._pool, self._memory)
