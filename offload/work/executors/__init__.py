"""
Running consumers: as a coroutine, in a thread, in a child process.

Whatever a consumer does, ``Executors.run`` returns an ``Outcome`` and does not raise. Payloads are
unpacked where the consumer runs: for child processes the daemon only passes the bytes on.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from offload.app import App, Consumer
from offload.work.calls import News, Ran, Task, ended
from offload.work.executors.pool import Pool, ProcessRun
from offload.work.executors.runs import LoopRun, Run, ThreadRun
from offload.work.executors.warden import Groups
from offload.work.jobs import Result

__all__ = ["Executors", "News", "Ran", "Task"]
log = logging.getLogger(__name__)


class Executors:
    """
    Runs the consumers of ``app``; how many at once is for the caller to say.

    Args:
        run_file: Where the process groups of the children are noted, for the next daemon.
        grace_s: How long a consumer that was asked to stop may take before it is ended.
        max_idle: Child processes that are kept warm.
    """

    def __init__(
        self, app: App | None, *, run_file: Path, grace_s: float = 5.0, max_idle: int = 4
    ) -> None:
        self._app = app
        self._grace_s = grace_s
        self._groups = Groups(run_file)
        self._pool = Pool(self._groups, max_idle=max_idle)
        self._runs: dict[tuple[str, int], Run] = {}
        self._closing = False

    def consumer(self, topic: str) -> Consumer | None:
        """Return who runs ``topic`` here."""
        return None if self._app is None else self._app.find(topic)

    async def open(self) -> None:
        """End what a former daemon on the same run file has left behind."""
        await asyncio.to_thread(self._groups.end_former)

    async def run(self, task: Task, news: Callable[[News], None]) -> Ran:
        """
        Run ``task``, telling ``news`` what the consumer says meanwhile.

        If this is cancelled, the consumer is ended first.
        """
        consumer = self.consumer(task.topic)
        if consumer is None or self._closing:
            reason = "is closing" if self._closing else f"has no consumer for {task.topic}"
            return ended(Result.REFUSED, f"the instance {reason}", 0.0)
        run = self._made(task, consumer, news)
        key = task.job_id, task.attempt
        self._runs[key] = run
        try:
            return await run.result()
        except OSError as error:
            log.warning("no child process can be started: %s", error)
            return ended(Result.REFUSED, f"no child process can be started: {error}", 0.0)
        finally:
            self._runs.pop(key, None)

    def stop(self, job_id: str, attempt: int, *, at_once: bool = False) -> bool:
        """
        Ask the consumer to stop, and end it if it does not; its outcome is then STOPPED.

        One that has no ``Context`` cannot learn of it, and is ended at once.

        Args:
            job_id: Of which job.
            attempt: Which attempt of it.
            at_once: Its lease is over: it is not asked, but ended; its outcome is UNREACHABLE.

        Returns:
            Whether it was running.
        """
        run = self._runs.get((job_id, attempt))
        if run is None:
            return False
        if at_once:
            run.end(Result.UNREACHABLE, "its lease was over")
        else:
            run.end(Result.STOPPED, "was stopped")
        return True

    async def close(self) -> None:
        """End what runs, and all child processes, in bounded time."""
        self._closing = True
        for run in list(self._runs.values()):
            run.end(Result.UNREACHABLE, "the instance was closed while it ran")
        await self._pool.close()
        await asyncio.to_thread(self._groups.close)

    def _made(self, task: Task, consumer: Consumer, news: Callable[[News], None]) -> Run:
        match consumer.isolate:
            case "coroutine":
                return LoopRun(task, consumer, news, grace_s=self._grace_s)
            case "thread":
                return ThreadRun(task, consumer, news, grace_s=self._grace_s)
            case "process":
                return ProcessRun(task, consumer, news, grace_s=self._grace_s, pool=self._pool)
