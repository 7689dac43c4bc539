"""
Jobs on this instance: taken in, run, recorded.

The manager knows nothing of other machines. What decides about a job is a pure rule that runs
inside the store's transaction; what has changed is published after the commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from offload.blobs import Blobs, Shares
from offload.clock import Clock
from offload.errors import DiskFull, Refused, StoreFault
from offload.events import Bus
from offload.payload import Encoded
from offload.tasks import Tasks
from offload.work.executors import Executors, News
from offload.work.jobs import (
    Delivery,
    Job,
    Options,
    Outcome,
    Spec,
    State,
    stopped,
)
from offload.work.manager.arrivals import Arrivals, New
from offload.work.manager.control import Control
from offload.work.manager.facts import (
    GateMoved,
    JobAdded,
    JobAltered,
    JobBegun,
    JobChanged,
    JobEvent,
    JobNews,
    JobQueued,
    JobRemoved,
    JobStopping,
    RunEnded,
    SlotFree,
)
from offload.work.manager.gates import Gates
from offload.work.manager.hearing import Hearing
from offload.work.manager.intake import Intake, LeaseOf, searchable
from offload.work.manager.leftovers import Leftovers
from offload.work.manager.recording import DISK_FULL_EVERY_S, Arrived, Recording
from offload.work.manager.returns import HANDED_BACK, returned, taken_back
from offload.work.manager.room import Room
from offload.work.manager.runs import Runs, Work
from offload.work.manager.turnstile import Turnstile
from offload.work.queues import QueueRule
from offload.work.store import Rule, Step, Store

__all__ = [
    "Arrived",
    "GateMoved",
    "JobAdded",
    "JobAltered",
    "JobBegun",
    "JobChanged",
    "JobEvent",
    "JobNews",
    "JobQueued",
    "JobRemoved",
    "JobStopping",
    "Manager",
    "RunEnded",
    "SlotFree",
    "Work",
]
R = TypeVar("R")
_Fact = JobChanged | JobStopping | JobAltered
_Noted = tuple[Any, tuple[_Fact, ...]]  # a rule's answer, and what it has changed
LINES_KEPT: Final = 1_000


class Manager:
    """
    The own jobs of one instance, and the places in which attempts run on it.

    Attributes:
        at_once: Asked of a new job, before which so many are on their way that are to wait: it as
            it begins here at once, or as it is if it is to wait too.
    """

    def __init__(
        self,
        *,
        store: Store,
        blobs: Blobs,
        executors: Executors,
        bus: Bus,
        clock: Clock,
        own_id: str,
        queue_of: Callable[[str], QueueRule],
        work_folder: Path,
        results_folder: Path,
        lines_of: Callable[[str], int] = lambda _topic: LINES_KEPT,
        lease_of: LeaseOf = lambda _topic, _delivery: None,
        resources: Mapping[str, float] = MappingProxyType({}),
        most_queued: Callable[[], int] = lambda: 0,
        most_of: Callable[[str], int | None] = lambda _topic: None,
        most_blobs: Callable[[], int | None] = lambda: None,
        shares: Shares | None = None,
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._own_id = own_id
        self._queue_of = queue_of
        self._most_queued = most_queued
        self._room = Room(bus)
        self._intake = Intake(blobs, clock, queue_of, lease_of, most_of, most_blobs, shares)
        self._tasks = Tasks()
        self._turnstile = Turnstile(partial(store.change, ()), self._tasks)
        self.leftovers = Leftovers(store, self._tasks, work_folder, results_folder)
        self.control = Control(
            store, bus, clock, self._intake, self.leftovers, self.change, self._tasks
        )
        self._hearing = Hearing(store, bus, self._tasks, self.change, lines_of)
        self._recording = Recording(
            store,
            blobs,
            results_folder,
            clock,
            own_id,
            queue_of,
            self._tasks,
            self.change,
            self._recorded,
            most_of,
        )
        self.at_once: Callable[[Job, Spec, int], Job] = lambda job, _spec, _coming: job
        self._lined_up: dict[str, Job] = {}  # own attempts that wait for a place here
        self._live: set[str] = set()
        self._handing_back = False
        self._closed = False
        self._taken_off: dict[tuple[str, int], str] = {}  # job and attempt -> why it was ended
        self.gates = Gates(store, bus, self._take_back_closed, self._tasks)
        is_open = self.gates.is_open
        self.runs = Runs(
            executors, blobs, clock, queue_of, work_folder, is_open, resources, most_of, shares
        )
        release = self._intake.release
        self._arrivals = Arrivals(store, bus, self.runs, self._tasks, self.start, release)
        bus.listen(GateMoved, lambda _: self.runs.look_again())

    # --- taking in -------------------------------------------------------------------------

    async def add(self, topic: str, encoded: Encoded, options: Options) -> Job:
        """
        Store a job; it is on disk when this returns.

        Raises:
            InvalidTopic, UsageError, PayloadError, UnsafeName: If it cannot be; nothing is stored.
            Conflict, KeyTaken: If its key is taken; see ``Options.if_key``.
            QueueFull: If as many jobs wait as may, and it was not to wait (``Options.if_full``).
            DiskFull: If there is no room; nothing is stored.
        """
        if not self._turnstile.passes():
            await self._turnstile.wait()
        made, spec = await self._intake.make(topic, encoded, options)
        new = New(made, self.at_once(made, spec, self._arrivals.coming), spec)
        insert = partial(self._insert, new.job, spec, encoded, options.if_key)
        waits = options.if_full == "wait"
        enter = partial(self._room.enter, insert) if waits else insert
        return await self._arrivals.take_in(new, enter)

    async def add_again(self, job: Job) -> Job:
        """
        Store a finished job anew, under a new id (C042).

        Raises:
            Refused: If its arguments or input files are no longer here.
            QueueFull: If as many jobs wait as may.
        """
        return await self._tasks.see_through(self._add_again(job))

    async def take_over(self, job: Job, spec: Spec) -> Job:
        """
        Store a job of another instance's past, under its id, as our rules have it.

        Raises:
            Conflict: If its key stands for something else here.
            DiskFull: If there is no room.
        """
        rule = self._queue_of(job.topic)
        lane = rule.lane(job.order_by)
        exclusive = lane and job.delivery is Delivery.AT_LEAST_ONCE
        job = job._replace(
            queue=rule.name,
            lane=lane,
            delivery=Delivery.EXCLUSIVE if exclusive else job.delivery,
            finished_wall=self._clock.wall() if job.finished else 0.0,
        )
        stored = await self._store.insert(job, spec, searchable(spec))
        self._bus.publish(JobAdded(stored))
        if stored.state is State.QUEUED:
            self._bus.publish(JobQueued(stored))
        return stored

    def rule(self, topic: str) -> QueueRule:
        """Return the rules of the queue that takes ``topic``."""
        return self._queue_of(topic)

    # --- changing --------------------------------------------------------------------------

    async def change(
        self, rules: Sequence[tuple[str, Rule[R]]], *, alone: bool = False
    ) -> list[R | None]:
        """
        Put each rule to its job, all in one transaction; publish what changed, return the answers.

        None stands for a job that is not there. With ``alone`` each is to be the only one of its
        key that lives, else nothing changes: ``KeyTaken``. What changed is published even if who
        has asked for it is gone by then: others act on it.
        """
        wall = self._clock.wall()
        noted = [(job_id, partial(_noting, rule, wall)) for job_id, rule in rules]
        change = self._store.change_alone if alone else self._store.change
        return [pair and pair[0] for pair in await change(noted, self._changed)]

    def too_large(self, topic: str, outcome: Outcome) -> str:
        """Say why the files of an outcome are not to be brought here; "" if they are."""
        return self._recording.too_large(topic, outcome)

    async def record(self, arrived: Sequence[Arrived]) -> None:
        """
        Apply outcomes, or find that they change nothing; in every case it is on disk afterwards.

        The blobs that an outcome names must be here.

        Raises:
            DiskFull: If there is no room for output files; the outcome is still to be applied.
        """
        await self._recording.record(arrived)

    # --- running ---------------------------------------------------------------------------

    def start(self, job: Job, spec: Spec) -> None:
        """Run the current attempt of an own job that was assigned to this instance."""
        key = (self._store.store_id, job.id)
        begin = partial(self._begin, key, job, spec)
        self._lined_up[job.id] = job
        self.runs.enter(key, job.topic, self._own_id, begin, spec.needs)
        if job.id in self._lined_up and self.gates.closed(self.runs.queue_name(job.topic)):
            self._tasks.start(self._take_back_closed())  # it was closed meanwhile

    @property
    def busy(self) -> bool:
        """Whether an own job runs here, or is about to, or its outcome is still to be recorded."""
        return bool(self._live) or self.runs.promised

    def hear(
        self,
        job_id: str,
        items: Sequence[tuple[float, str, str]],
        attempt: int = 0,
        first: int = 0,
    ) -> None:
        """Keep what an own job says (wall, kind, text), and publish it; see ``Hearing``."""
        self._hearing.hear(job_id, items, attempt, first)

    async def heard(self) -> None:
        """Return when all that own jobs have said until now is kept."""
        await self._hearing.flush()

    async def recover(self) -> None:
        """At start: carry the placing of output files to its end, and remove what has no plan."""
        await self._recording.sweep()
        await self._recording.recover()

    async def hand_back(self) -> None:
        """End the own attempts that still run; their jobs wait again, at no cost."""
        self._handing_back = True
        await self._take_back(lambda _: HANDED_BACK)
        for job in await self._store.assigned():
            if job.worker == self._own_id:
                self.runs.stop(job.id, job.attempt)

    async def take_off(self, reason: str) -> None:
        """End the own attempts that run here and may run twice; their jobs wait again, for free."""
        running = set(self.runs.running())
        for job in await self._store.assigned():
            may_run_again = job.delivery is not Delivery.AT_MOST_ONCE
            if job.worker == self._own_id and job.id in running and may_run_again:
                self._taken_off[job.id, job.attempt] = reason
                self.runs.stop(job.id, job.attempt)

    async def give_back(self, closed: Callable[[str, str], str]) -> None:
        """Own jobs in line for whose topic and queue ``closed`` has a reason wait again."""
        await self._take_back(lambda job: closed(job.topic, self.runs.queue_name(job.topic)))

    async def close(self) -> None:
        """Stop all that runs in the background; what jobs have said is kept."""
        self._closed = True
        self._turnstile.close()
        await self.runs.close()
        await self._tasks.close()
        with suppress(StoreFault):
            await self._hearing.flush()

    # --- inside ----------------------------------------------------------------------------

    async def _add_again(self, job: Job) -> Job:
        spec = await self._store.spec(job.id)
        if spec is None:
            raise Refused(f"job {job.id} cannot be read any more")
        again, fields = self._intake.again(job, spec)
        try:
            stored = await self._store.insert(again, spec, fields, self._most_queued())
        finally:
            self._intake.release(spec)
        self._bus.publish(JobAdded(stored))
        self._bus.publish(JobQueued(stored))
        return stored

    def _insert(
        self, job: Job, spec: Spec, encoded: Encoded, if_key: str, told: Callable[[Job], None]
    ) -> Awaitable[Job]:
        """Store a job, or find the one that has its key."""
        most = 0
        if job.state is State.QUEUED:
            job, most = self._intake.in_place(job), self._most_queued()
        if job.key and if_key != "same":
            return self._insert_alone(job, spec, encoded, if_key, told)
        return self._store.insert(job, spec, encoded.fields, most, told)

    async def _insert_alone(
        self, job: Job, spec: Spec, encoded: Encoded, if_key: str, told: Callable[[Job], None]
    ) -> Job:
        """Store a job as the only one of its key; tell of one that it replaces."""
        now, why = self._clock.now(), f"replaced by job {job.id}, which has its key"

        def oust(other: Job) -> Step[None]:
            return Step(None, keep=stopped(other, now, why))

        def came(pair: tuple[Job, _Noted | None]) -> None:
            stored, ousted = pair
            self._changed([ousted])
            told(stored)

        rule = partial(_noting, oust, self._clock.wall())
        stored, _ = await self._store.insert_alone(
            job, spec, encoded.fields, if_key, rule, self._most_queued(), came
        )
        return stored

    async def _take_back_closed(self) -> None:
        """Own jobs in line of closed queues wait in the store again."""
        await self.give_back(lambda _topic, queue: self.gates.closed(queue))

    async def _take_back(self, why: Callable[[Job], str]) -> None:
        """Own jobs in line for which there is a reason wait in the store again."""
        rules: list[tuple[str, Rule[None]]] = []
        now = self._clock.now()
        for job in tuple(self._lined_up.values()):
            reason = why(job)
            if reason:
                del self._lined_up[job.id]
                self.runs.leave((self._store.store_id, job.id))
                rules.append((job.id, partial(taken_back, job, reason, now)))
        try:
            await self.change(rules)
        except DiskFull:  # nobody else knows that they are no longer in line
            self._tasks.start(self._take_back_later(rules))

    async def _take_back_later(self, rules: Sequence[tuple[str, Rule[None]]]) -> None:
        while True:
            await self._clock.sleep(DISK_FULL_EVERY_S)
            with suppress(DiskFull):
                await self.change(rules)
                return

    def _begin(self, key: tuple[str, str], job: Job, spec: Spec) -> None:
        self._lined_up.pop(job.id, None)
        self._live.add(job.id)
        work = Work(key[0], job.id, job.attempt, job.failures, spec, job.properties)
        self.runs.begin(work, partial(self._hear_one, job.id), partial(self._ended, key, job))

    def _ended(self, key: tuple[str, str], job: Job, outcome: Outcome) -> None:
        self.runs.leave(key)
        self._bus.publish(SlotFree())
        taken_off = self._taken_off.pop((job.id, job.attempt), "")
        outcome = returned(outcome, job, taken_off, handing_back=self._handing_back)
        self._recording.keep(Arrived(job.id, self._own_id, job.attempt, outcome))

    def _recorded(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self._live.discard(job_id)
            self.runs.recorded((self._store.store_id, job_id))
        self._bus.publish(RunEnded())

    def _hear_one(self, job_id: str, news: News) -> None:
        self.hear(job_id, [(news.wall, news.kind, news.text)])

    def _changed(self, answers: Iterable[_Noted | None]) -> None:
        """Publish what changed in one commit: soon, after the jobs that were new in one before."""
        facts = [fact for answer in answers if answer for fact in answer[1]]
        if facts:
            asyncio.get_running_loop().call_soon(self._publish, facts)

    def _publish(self, facts: Sequence[_Fact]) -> None:
        if not self._closed:
            self._bus.publish_all(chain.from_iterable(map(_told, facts)))


def _told(fact: _Fact) -> tuple[_Fact | JobQueued, ...]:
    """Return ``fact``, and what follows of it."""
    if isinstance(fact, JobChanged) and fact.job.state is State.QUEUED:
        return fact, JobQueued(fact.job)
    return (fact,)


def _noting(rule: Rule[Any], wall: float, job: Job) -> Step[tuple[Any, tuple[_Fact, ...]]]:
    """Put ``rule`` to ``job``, stamp what it keeps for people, and note what changed."""
    step = rule(job)
    keep = step.keep
    if keep is None:
        return Step((step.answer, ()), letter=step.letter)
    if keep.finished and not keep.finished_wall:
        keep = keep.but(finished_wall=wall)
    changed: tuple[_Fact, ...] = ()
    if keep.state is not job.state:
        changed = (JobChanged(keep, job.state, step.attempt, wall),)
    elif keep.stopping and not job.stopping:
        changed = (JobStopping(keep, wall),)
    elif keep != job:
        changed = (JobAltered(keep, wall),)
    return Step((step.answer, changed), keep, step.attempt, step.outcome, step.placing)
