"""
Own jobs whose time is over, and those whose time has moved with the wall clock.

One look at the next limit serves however many jobs have one: the store's indexes keep them sorted.
"""

import logging
from functools import partial
from typing import Final

from offload.clock import Clock
from offload.events import Bus
from offload.leases import origin
from offload.work.jobs import Job, limits_of, moved
from offload.work.manager import JobQueued, Manager
from offload.work.store import Step, Store

log = logging.getLogger(__name__)
PAGE: Final = 500
JUMP_S: Final = 0.5
LOOK_AGAIN_S: Final = 60.0


class Limits:
    """Ends what was not started or finished in time, wherever it is (DESIGN §2)."""

    def __init__(self, *, manager: Manager, store: Store, clock: Clock, bus: Bus) -> None:
        self._manager = manager
        self._store = store
        self._clock = clock
        self._next_at = 0.0
        self._offset_s: float | None = None  # of the wall clock from the steady one
        bus.listen(JobQueued, self._queued)

    async def tick(self, now: float) -> None:
        """End what is overdue; look whether the wall clock was set."""
        offset_s = self._clock.wall() - now
        if self._offset_s is None or abs(offset_s - self._offset_s) > JUMP_S:
            await self._move(now, offset_s)
            self._offset_s = offset_s
        if now < self._next_at:
            return
        self._next_at = now + LOOK_AGAIN_S
        while overdue := await self._store.overdue(now, PAGE):
            rules = [(job_id, partial(_overdue, now)) for job_id in overdue]
            ended = await self._manager.change(rules)
            if not any(ended):
                break
        following = await self._store.next_limit_at()
        if following is not None:
            self._next_at = min(self._next_at, following)

    async def _move(self, now: float, offset_s: float) -> None:
        """Let jobs that wait for a time of the wall clock wait for it as it is now."""
        waiting = await self._store.timed()
        for start in range(0, len(waiting), PAGE):
            rule = partial(_moved, now, offset_s)
            some = waiting[start : start + PAGE]
            await self._manager.change([(job_id, rule) for job_id in some])
        if waiting and self._offset_s is not None:
            log.info("the wall clock was set: %d jobs wait for a new time", len(waiting))

    def _queued(self, fact: JobQueued) -> None:
        self._next_at = min([self._next_at, *limits_of(fact.job)])


def _overdue(now: float, job: Job) -> Step[bool]:
    kept = origin.overdue(job, now)
    return Step(kept is not None, keep=kept)


def _moved(now: float, offset_s: float, job: Job) -> Step[None]:
    return Step(None, keep=moved(job, now, offset_s))
