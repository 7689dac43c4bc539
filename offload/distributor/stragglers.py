"""
A second run for jobs that are marked idempotent, and take much longer than others of their topic.

It is an attempt like any other: the one before stays above the fence, so that the first success of
either counts, and whatever comes of the other changes nothing.
"""

import logging
from typing import Final

from offload.clock import Clock
from offload.distributor import wire
from offload.distributor.matching import Matching
from offload.distributor.wire import Network
from offload.events import Bus
from offload.placement import best, straggles
from offload.work.jobs import Job, State, read_demands
from offload.work.manager import JobBegun, JobChanged, JobStopping, Manager
from offload.work.store import Store

log = logging.getLogger(__name__)
LOOK_EVERY_S: Final = 1.0


class Stragglers:
    """Watches the idempotent jobs that run, and gives the late ones a second worker."""

    def __init__(
        self,
        manager: Manager,
        store: Store,
        matching: Matching,
        network: Network,
        clock: Clock,
        bus: Bus,
        own_id: str,
    ) -> None:
        self._manager = manager
        self._store = store
        self._matching = matching
        self._network = network
        self._clock = clock
        self._own_id = own_id
        self._running: dict[str, Job] = {}
        self._look_at = 0.0
        bus.listen(JobBegun, self._begun)
        bus.listen(JobChanged, self._changed)
        bus.listen(JobStopping, self._stopping)

    async def recover(self) -> None:
        """At start: know what runs elsewhere."""
        for job in await self._store.assigned():
            self._watch(job)

    async def tick(self, now: float) -> None:
        """Give a second worker to what is late, where one has a place for it at once."""
        if not self._running or now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        for job in tuple(self._running.values()):
            places = self._matching.places(job.topic, now)
            if not straggles(now - job.started_at, places.candidates):
                continue
            had, demands = {worker for _, worker in job.given}, read_demands(job.demands)
            free = [c for c in places.now() if c.id not in had and not c.waits(demands)]
            chosen = best(self._matching.policy(job), free, demands)
            if chosen is not None:
                log.info("job %s takes long: a second run of it at %s", job.id, chosen.name)
                await self._matching.run_twice(job, chosen.id, places)

    # --- inside ----------------------------------------------------------------------------

    def _watch(self, job: Job) -> None:
        alone = len([n for n, _ in job.given if n >= job.fence]) == 1
        if job.idempotent and job.state is State.ACTIVE and alone and not job.stopping:
            self._running[job.id] = job
        else:
            self._running.pop(job.id, None)

    def _begun(self, begun: JobBegun) -> None:
        if begun.job.idempotent:
            self._watch(begun.job)

    def _changed(self, changed: JobChanged) -> None:
        job = changed.job
        if not job.idempotent:
            return
        self._watch(job)
        if len(job.given) > 1:
            came = None if changed.attempt is None else changed.attempt.number
            self._let_go(job, came)

    def _stopping(self, stopping: JobStopping) -> None:
        job = stopping.job
        self._running.pop(job.id, None)
        if job.idempotent and len(job.given) > 1:
            self._let_go(job, job.attempt)  # that one is told by who follows it

    def _let_go(self, job: Job, known: int | None) -> None:
        """End the runs of which nothing counts any more, but for the one that is ``known``."""
        for attempt, worker in job.given:
            over = job.finished or attempt < job.fence
            if attempt == known or not over:
                continue
            if worker == self._own_id:
                self._manager.runs.stop(job.id, attempt)
            else:  # a lost word is made up for by the answer to its next HOLDING
                about = wire.about((self._store.store_id, job.id), attempt)
                self._network.send(worker, "cancel", about)
