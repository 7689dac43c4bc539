"""
A look ahead: the own jobs that are due next, topic by topic, read many at a time.

What it says may be out of date, so whoever assigns a job decides on the row as it is by then. But
nothing that is due, and whose turn would come earlier, is missing: the bus tells of what comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import Final

from offload.events import Bus
from offload.work.jobs import Job, Spec, State, due, turn
from offload.work.manager import GateMoved, JobAltered, JobChanged, JobQueued, JobRemoved
from offload.work.store import SMALL_BYTES, Store

PAGE: Final = 256
PAGES_KEPT: Final = 32


@dataclass(slots=True)
class _Page:
    """
    The first jobs of a topic, in the order of their turns; those that were taken are gone.

    Attributes:
        specs: What they are to run, as far as it is small.
        last: Whose turn is after this is not in the page, unless it is ``whole``.
        whole: Nothing is due after the page.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    specs: dict[str, Spec] = field(default_factory=dict)
    last: tuple[float, int] = (inf, 0)  # while it is being read: whatever comes may be missing
    whole: bool = False

    def fits(self, job: Job, spec: Spec | None) -> bool:
        """Take in a job that has come; False: it has its turn among those that were read."""
        if turn(job) <= self.last:
            return False
        self.whole = self.whole and len(self.jobs) < PAGE
        if self.whole:
            self.jobs[job.id], self.last = job, turn(job)
            if spec is not None and len(spec.payload or b"") <= SMALL_BYTES:
                self.specs[job.id] = spec
        return True


class Ahead:
    """What waits in ``store`` for nothing but a place."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._topics: set[str] | None = None  # None: to be asked for
        self._pages: dict[str, _Page] = {}
        self._asking = False  # for the topics
        self._next_at = 0.0  # when the next of those that wait for a time is due
        bus.listen(JobQueued, self._came)
        bus.listen(JobAltered, self._came)
        bus.listen(JobChanged, self._changed)
        bus.listen((GateMoved, JobRemoved), lambda _: self._forget())

    async def next_at(self, now: float) -> float:
        """Return when the next of those that wait for a time is due; infinite: none waits so."""
        if self._next_at <= now:
            self._forget()
            self._next_at = inf  # what comes meanwhile brings it forward
            at = await self._store.next_due_at(now)
            self._next_at = min(self._next_at, inf if at is None else at)
        return self._next_at

    async def topics(self, now: float) -> list[str]:
        """Return the topics that have a job which waits for nothing but a place."""
        await self.next_at(now)
        topics = self._topics
        if topics is None:
            topics = self._topics = set()
            self._asking = True
            topics.update(await self._store.queued_topics(now))
            self._asking = False
        return sorted(topics)

    def known_topics(self, now: float) -> set[str] | None:
        """Return what ``topics`` would, if that is known without asking the store."""
        return None if self._asking or now >= self._next_at else self._topics

    def nothing_waits(self) -> None:
        """Note that no job waits, due or not: the bus tells of what comes from now on."""
        self._topics, self._next_at = set(), inf

    async def jobs(self, topic: str, now: float, limit: int) -> list[Job]:
        """Return the topic's jobs that wait for nothing but a place, in the order to run them."""
        page = self._pages.get(topic)
        if page is None or (len(page.jobs) < limit and not page.whole):
            page = await self._read(topic, now, max(limit, PAGE))
        if page.whole and not page.jobs and self._pages.get(topic) is page and self._topics:
            self._topics.discard(topic)
        # Whose time is over, though nobody has ended it yet, takes nobody's turn.
        return list(islice((job for job in page.jobs.values() if due(job, now)), limit))

    async def specs(self, jobs: Iterable[Job]) -> dict[str, Spec]:
        """Return what the jobs are to run, of those that can be read."""
        found, missing = {}, []
        for job in jobs:
            page = self._pages.get(job.topic)
            spec = None if page is None else page.specs.get(job.id)
            if spec is None:
                missing.append(job.id)
            else:
                found[job.id] = spec
        return found | await self._store.specs(missing) if missing else found

    def drop(self, jobs: Iterable[Job]) -> None:
        """Leave out jobs that wait no more, or that nobody can start as they are."""
        for job in jobs:
            page = self._pages.get(job.topic)
            if page is not None:
                page.jobs.pop(job.id, None)
                page.specs.pop(job.id, None)

    def doubt(self, jobs: Iterable[Job]) -> None:
        """Read the topics of these jobs anew: they are not as they were when they were read."""
        for job in jobs:
            self._pages.pop(job.topic, None)

    # --- inside ----------------------------------------------------------------------------

    async def _read(self, topic: str, now: float, limit: int) -> _Page:
        self._pages.pop(topic, None)
        page = self._pages[topic] = _Page()
        if len(self._pages) > PAGES_KEPT:
            del self._pages[next(iter(self._pages))]
        found = await self._store.due_with_specs(topic, now, limit)
        page.jobs = {job.id: job for job in found.jobs}
        page.specs, page.whole = found.specs, found.whole
        page.last = turn(found.jobs[-1]) if found.jobs else (-inf, 0)
        return page

    def _came(self, fact: JobQueued | JobAltered) -> None:
        job = fact.job
        if job.state is not State.QUEUED:
            return
        if job.lane:  # who is in front there, the store alone knows
            self._forget()
        elif job.not_before > 0:
            self._next_at = min(self._next_at, job.not_before)
        else:
            if self._topics is not None:
                self._topics.add(job.topic)
            page = self._pages.get(job.topic)
            if page is not None and (isinstance(fact, JobAltered) or not page.fits(job, fact.spec)):
                del self._pages[job.topic]

    def _changed(self, changed: JobChanged) -> None:
        if changed.was is State.QUEUED:
            self.drop([changed.job])
        if changed.job.lane and changed.job.finished:  # the one behind it may start
            self._forget()

    def _forget(self) -> None:
        self._topics, self._next_at = None, 0.0
        self._pages.clear()
