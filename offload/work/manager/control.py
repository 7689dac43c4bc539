"""What a person may do to a job: drop it, delete it, let it run again, change its priority."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from offload.clock import Clock
from offload.errors import JobNotFound, Refused, UsageError
from offload.events import Bus
from offload.tasks import Tasks
from offload.work.jobs import FINAL, UNDER_WAY, Event, Job, State, ended, requeued
from offload.work.manager.facts import JobQueued, JobRemoved
from offload.work.manager.intake import Intake
from offload.work.manager.leftovers import Leftovers
from offload.work.store import Step, Store

REMOVED: Final = "removed by a person"


class Control:
    """
    A person's hand on the jobs that were added here.

    Args:
        store: Where they are.
        bus: Where it is told.
        clock: The time.
        intake: Knows whether the input files of a job are still here.
        leftovers: What jobs that are gone leave on the disk.
        change: How rules are put to jobs (``Manager.change``).
        tasks: Where what is begun is done to the end, though who has asked for it goes away.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        intake: Intake,
        leftovers: Leftovers,
        change: Callable[..., Awaitable[list[Any]]],
        tasks: Tasks,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._bus = bus
        self._clock = clock
        self._intake = intake
        self._leftovers = leftovers
        self._change = change

    async def drop(self, job_id: str) -> bool:
        """
        Drop a job that waits (C003), or delete one that has ended or cannot be read (C012).

        With the latter goes its folder of output files, unless that was named by its submitter.

        Returns:
            Whether that was done; False: it is under way.
        """
        broken = await self._store.unreadable_job(job_id)
        if broken is not None:
            await self._tasks.see_through(self._delete(job_id, broken.topic))
            return True
        now = self._clock.now()
        [found] = await self._change([(job_id, partial(_dropped, now))])
        if found is None:
            return False
        state, topic = found
        if state in FINAL:
            await self._tasks.see_through(self._delete(job_id, topic))
        return state not in UNDER_WAY

    async def requeue(self, job_id: str) -> Job:
        """
        Let a job go again now, under its id: one that waits for a retry or a time, or has failed.

        Its failures and crashes are forgotten if it had ended, and so are its time limits.

        Raises:
            JobNotFound: If it is not there, or cannot be read.
            KeyTaken: If another of its key has not ended.
            Refused: If it is under way, due already, has succeeded or was never to start twice,
                or its input files are no longer here.
        """
        return await self._tasks.see_through(self._requeue(job_id))

    async def set_priority(self, job_id: str, priority: int) -> Job:
        """
        Give a job that waits another priority; higher runs first.

        Raises:
            UsageError: If the number is too large.
            JobNotFound: If it is not there.
            Refused: If it does not wait.
        """
        if not -(2**31) <= priority < 2**31:
            raise UsageError("priority: must fit into 32 bits")

        def decide(job: Job, _now: float) -> Job | str:
            if job.state is not State.QUEUED:
                return f"job {job.id} is {job.state}; only one that waits has a priority to change"
            return job._replace(priority=priority)

        return await self._altered(job_id, decide)

    async def _requeue(self, job_id: str) -> Job:
        job, spec = await self._store.job(job_id), await self._store.spec(job_id)
        if job is None or spec is None:
            raise JobNotFound(job_id)
        self._intake.hold(job_id, spec)
        try:
            return await self._altered(job_id, requeued, alone=True)
        finally:
            self._intake.release(spec)

    async def _altered(
        self, job_id: str, decide: Callable[[Job, float], Job | str], *, alone: bool = False
    ) -> Job:
        """Put a decision to the job: what it is to be, or why that cannot be."""
        now = self._clock.now()

        def rule(job: Job) -> Step[Job | str]:
            decided = decide(job, now)
            return Step(decided, keep=decided if isinstance(decided, Job) else None)

        [decided] = await self._change([(job_id, rule)], alone=alone)
        if decided is None:
            raise JobNotFound(job_id)
        if isinstance(decided, str):
            raise Refused(decided)
        self._bus.publish(JobQueued(decided))
        return decided  # type: ignore[no-any-return]

    async def _delete(self, job_id: str, topic: str) -> None:
        await self._store.remove(job_id)
        await self._leftovers.remove([job_id])
        self._bus.publish(JobRemoved(job_id, topic, self._clock.wall()))


def _dropped(now: float, job: Job) -> Step[tuple[State, str]]:
    was = job.state, job.topic
    if job.state is not State.QUEUED:
        return Step(was)
    return Step(was, keep=ended(job, Event.DROP, now)._replace(reason=REMOVED))
