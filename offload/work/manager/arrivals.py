"""New jobs on their way to the store, and what follows when they are there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from offload.events import Bus
from offload.tasks import Tasks
from offload.work.jobs import Job, Spec, State
from offload.work.manager.facts import JobAdded, JobBegun, JobQueued, SlotFree
from offload.work.manager.runs import Runs
from offload.work.store import Store

# Stores a job; the callback hears which one before those who wait for the same commit go on.
Insert = Callable[[Callable[[Job], None]], Awaitable[Job]]


class New(NamedTuple):
    """A new job: as it was made; as it is to be stored, begun or to wait; what it is to run."""

    made: Job
    job: Job
    spec: Spec


class Arrivals:
    """
    Tells of new jobs that are on disk, and begins those that are stored as begun.

    Those of one tick of the loop together: each step is done for all of them before the next one.

    Args:
        store: Where they arrive.
        bus: Where it is told.
        runs: Whose places are kept free for those that begin.
        tasks: Whose background tasks look for those whose submitter has gone.
        start: Begins one.
        release: Lets go of the blobs of one: its row names them, or never will.

    Attributes:
        coming: How many are on their way that are to wait.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        runs: Runs,
        tasks: Tasks,
        start: Callable[[Job, Spec], None],
        release: Callable[[Spec], None],
    ) -> None:
        self.coming = 0
        self._store = store
        self._bus = bus
        self._runs = runs
        self._tasks = tasks
        self._start = start
        self._release = release
        self._arrived: list[tuple[New, Job | None]] = []  # in this tick of the loop

    async def take_in(self, new: New, insert: Insert) -> Job:
        """Return what ``insert`` returns, when it is told of and under way."""
        came = False

        def told(stored: Job) -> None:
            nonlocal came
            came = True
            self._came(new, stored)

        self._expect(new.job, 1)
        try:
            return await insert(told)
        except asyncio.CancelledError:  # what the store was asked for, it does
            self._tasks.start(self._look_for(new, lambda: came))
            raise
        except BaseException:
            self._came(new, None)
            raise

    def _expect(self, job: Job, count: int) -> None:
        if job.state is State.QUEUED:
            self.coming += count
        else:
            self._runs.promise(job.queue, count)

    def _came(self, new: New, stored: Job | None) -> None:
        """It is stored, or another in its stead, or none: see to it with the others."""
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._see_to_them)
        self._arrived.append((new, stored))

    async def _look_for(self, new: New, came: Callable[[], bool]) -> None:
        """Whoever added it has gone; if it is not stored, its place is free again."""
        await self._store.change(())  # what was asked of the store before has been done by then
        if not came():
            self._came(new, None)

    def _see_to_them(self) -> None:
        arrived, self._arrived = self._arrived, []
        facts: list[JobAdded | JobQueued | JobBegun | SlotFree] = []
        begun: list[tuple[Job, Spec]] = []
        for (made, job, spec), stored in arrived:
            self._expect(job, -1)
            self._release(spec)
            if stored is None or stored.id != job.id:
                if job is not made:
                    facts.append(SlotFree())  # that nobody takes
            elif job is made:
                facts += JobAdded(stored), JobQueued(stored, spec)
            else:
                facts.append(JobBegun(stored, made))
                begun.append((stored, spec))
        self._bus.publish_all(facts)
        for job, spec in begun:
            self._start(job, spec)
