"""What jobs say while they run: told at once, and kept."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from offload.errors import DiskFull
from offload.events import Bus
from offload.tasks import Tasks
from offload.work.jobs import Job, merged
from offload.work.manager.facts import JobNews
from offload.work.store import NewsLine, Rule, Step, Store

log = logging.getLogger(__name__)
Item = tuple[float, str, str]  # wall time, kind, text
KEEP_EVERY_S: Final = 0.05


class Hearing:
    """
    Takes in what own jobs say, from here and from afar.

    Args:
        store: Where it is kept.
        bus: Where it is told.
        tasks: Whose background tasks keep it.
        change: How rules are put to jobs.
        lines_of: How many lines of a job are kept, by its topic.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        tasks: Tasks,
        change: Callable[[Sequence[tuple[str, Rule[None]]]], Awaitable[Any]],
        lines_of: Callable[[str], int],
    ) -> None:
        self._store = store
        self._bus = bus
        self._tasks = tasks
        self._change = change
        self._lines_of = lines_of
        self._waiting: dict[str, list[NewsLine]] = {}
        self._keeping = asyncio.Lock()

    def hear(self, job_id: str, items: Sequence[Item], attempt: int = 0, first: int = 0) -> None:
        """
        Keep what the job says, its properties at once, and publish it.

        Of an ``attempt`` elsewhere the worker numbers what is said; ``first`` is where that begins.
        """
        lines = []
        for number, (wall, kind, text) in enumerate(items, first):
            if kind == "properties":
                self._tasks.start(self._keep_properties(job_id, text))
            elif first:
                lines.append(NewsLine(wall, kind, text, attempt, number))
            else:
                lines.append(NewsLine(wall, kind, text))
            self._bus.publish(JobNews(job_id, wall, kind, text))
        if lines and not self._waiting:
            self._tasks.start(self._keep_lines())
        if lines:
            self._waiting.setdefault(job_id, []).extend(lines)

    async def flush(self) -> None:
        """Return when all that was said until now is kept."""
        async with self._keeping:
            waiting, self._waiting = self._waiting, {}
            try:
                for job_id, lines in waiting.items():
                    await self._store.add_news(job_id, lines, self._lines_of)
            except DiskFull:
                log.warning("disk full: some lines of the logs of jobs are not kept")

    async def _keep_lines(self) -> None:
        await asyncio.sleep(KEEP_EVERY_S)
        await self.flush()

    async def _keep_properties(self, job_id: str, text: str) -> None:
        try:
            await self._change([(job_id, partial(_kept, text))])
        except DiskFull:  # they come once more, with the outcome
            log.warning("disk full: properties of job %s wait for its outcome", job_id)


def _kept(text: str, job: Job) -> Step[None]:
    if job.finished:
        return Step(None)
    return Step(None, keep=job._replace(properties=merged(job.properties, text)))
