"""
Own jobs under way at peers: offered, believed in while their lease holds, brought home.

A flight is only a memory of what the store says (who was given which attempt); it is made when
the assignment is on disk, and dropped by the ``JobChanged`` that ends it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from offload.blobs import Blobs
from offload.clock import Clock
from offload.distributor import wire
from offload.distributor.fetching import fetch_all
from offload.distributor.flights import NOBODY, OFFER_AGAIN_S, Flight, Flights, Life
from offload.distributor.rulings import Rulings
from offload.distributor.wire import Holding, Network
from offload.errors import BlobMismatch, BlobMissing, DiskFull, PeerUnreachable
from offload.events import Bus
from offload.leases import WatchedTerms, origin
from offload.leases.origin import Verdict
from offload.peers.topology import Gone
from offload.tasks import Tasks
from offload.work.jobs import (
    UNDER_WAY,
    FileEntry,
    Job,
    RetryRule,
    Spec,
    came,
    came_late,
)
from offload.work.manager import Arrived, JobChanged, JobStopping, Manager
from offload.work.store import Rule, Step, Store

log = logging.getLogger(__name__)
OFFER_AGAIN_MOST_S: Final = 10.0


class Outgoing:
    """The origin's half of the protocol."""

    def __init__(
        self,
        *,
        manager: Manager,
        store: Store,
        blobs: Blobs,
        network: Network,
        bus: Bus,
        clock: Clock,
        own_id: str,
        lease_s: float,
        retry_of: Callable[[str], RetryRule],
        refused: Callable[[str, Job, str], None],
        taken: Callable[[str, tuple[str, bool]], None],
        landed: Callable[[], None],
        lost_after_s: Callable[[], float],
    ) -> None:
        self._manager = manager
        self._store = store
        self._blobs = blobs
        self._network = network
        self._clock = clock
        self._own_id = own_id
        self._rulings = Rulings(own_id, retry_of, lost_after_s, clock.wall)
        self._tell_refused = refused
        self._tell_taken = taken
        self._tell_landed = landed
        self._lease_s = lease_s
        self._watch = WatchedTerms()
        self._flights = Flights()
        self._coming: set[tuple[str, int]] = set()
        self._lives: dict[str, Life] = {}
        self._gone: dict[str, Gone] = {}  # who is confirmed gone, and how
        self._left_by: dict[str, Gone] = {}  # of these, whose jobs are still to be moved
        self._tasks = Tasks()
        bus.listen(JobChanged, self._changed)
        bus.listen(JobStopping, self._stopping)

    def handlers(self) -> dict[str, Any]:
        """Return what to do with the frames of workers."""
        return {
            "taken": self._on_taken,
            "refused": self._on_refused,
            "holding": self._on_holding,
            "outcome": self._on_outcome,
            "cancelled": self._on_cancelled,
            "news": self._on_news,
        }

    def outstanding(self, worker: str, queue: str) -> int:
        """Return how many of ours are under way in that queue of ``worker``."""
        return self._flights.outstanding(worker, queue)

    def needed(self, worker: str) -> Mapping[str, float]:
        """Return what our jobs under way at ``worker`` take of its resources."""
        return self._flights.needed(worker)

    def __len__(self) -> int:
        return len(self._flights)

    async def recover(self) -> None:
        """
        At start: end what ran here, and give what is under way elsewhere a full lease and grace.

        DESIGN §5, rule 3.
        """
        now = self._clock.now()
        jobs = await self._store.assigned()
        restarted = partial(self._rulings.restarted, now)
        here = [(job.id, restarted) for job in jobs if job.worker == self._own_id]
        await self._manager.change(here)
        away = [job for job in jobs if job.worker != self._own_id]
        for job in away:
            self._take_off(job, self._lease_s, "", now)
            self._flights[job.id].told = True  # or so we assume: its HOLDING will tell
        await self._learn(away)

    def launch(self, job: Job, spec: Spec, queue: str) -> None:
        """Offer a job whose assignment to a peer has been committed."""
        now = self._clock.now()
        self._take_off(job, spec.lease_s or self._lease_s, queue, now)
        self._offer(job, spec, now)
        if job.worker in self._gone:  # while the assignment was committed
            self._tasks.start(self.gone(self._gone[job.worker]))

    async def stop(self, job_id: str) -> bool:
        """
        Stop a job; True once it is certain that no outcome of it will be applied.

        False: it has ended already, or its output files are being put in place.
        """
        now = self._clock.now()

        def rule(job: Job) -> Step[Job | None]:
            kept = origin.stop(job, now)
            return Step(kept, keep=kept)

        [kept] = await self._manager.change([(job_id, rule)])
        return kept is not None

    def _stopping(self, fact: JobStopping) -> None:
        """Tell its worker, whoever has asked for its end."""
        job = fact.job
        if job.worker == self._own_id:
            self._manager.runs.stop(job.id, job.attempt, hurried=job.overdue)
        elif (flight := self._flights.get(job.id)) is not None:
            flight.stopping, flight.hurried = True, job.overdue
            flight.pause_s = OFFER_AGAIN_S
            self._say_cancel(job.id, flight, self._clock.now())

    async def tick(self, now: float) -> None:
        """Say again what was not answered; end the leases that are over."""
        waiting = [
            (i, f)
            for i, f in self._flights.items()
            if f.again_at <= now and (f.stopping or not f.told)
        ]
        unheard = [i for i, f in waiting if not f.stopping]
        for job_id, flight in waiting:
            if flight.stopping:
                self._say_cancel(job_id, flight, now)
        if unheard:
            await self._offer_again(unheard, now)
        await self._move_from_the_gone(now)
        over = self._watch.over(now)
        if over:
            await self._manager.change([(i, self._overdue(i, n, now)) for i, n in over])

    async def linked(self, peer: str, life: Life) -> None:
        """A link is up: what this peer has not answered is said again at once."""
        self._lives[peer] = life
        self._gone.pop(peer, None)
        self._left_by.pop(peer, None)
        for flight in self._flights.values():
            if flight.worker == peer:
                flight.again_at, flight.pause_s = 0.0, OFFER_AGAIN_S
        await self.tick(self._clock.now())

    async def gone(self, fact: Gone) -> None:
        """A peer is confirmed gone: what may move, moves at once (rule 6)."""
        self._gone[fact.id] = self._left_by[fact.id] = fact
        with suppress(DiskFull):  # it moves at the first tick at which there is room
            await self._move_from_the_gone(self._clock.now())

    async def close(self) -> None:
        """End what runs in the background."""
        await self._tasks.close()

    # --- what workers say ------------------------------------------------------------------

    def _on_taken(self, peer: str, batch: list[dict[str, Any]]) -> None:
        now = self._clock.now()
        for (_, job_id), attempt in wire.sound(self._network, peer, batch, wire.read_about):
            flight = self._flights.get(job_id)
            if flight and not flight.told and (flight.worker, flight.attempt) == (peer, attempt):
                self._tell_taken(peer, flight.kind)
            self._heard(job_id, peer, attempt, now)

    async def _on_refused(self, peer: str, batch: list[dict[str, Any]]) -> None:
        now = self._clock.now()
        rules = []
        for (store_id, job_id), attempt, reason in wire.sound(
            self._network, peer, batch, wire.read_refused
        ):
            if store_id == self._store.store_id:
                rules.append((job_id, partial(self._rulings.refused, peer, attempt, reason, now)))
        for answer in await self._manager.change(rules):
            if answer is not None:
                self._tell_refused(peer, *answer)

    async def _on_holding(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for message in wire.sound(self._network, peer, batch, wire.read_holding):
            verdicts = await self._judged(peer, message)
            answer = {"store": message.store_id, "jobs": verdicts, "sent_at": message.sent_at}
            if heard := self._flights.heard(peer, verdicts):
                await self._manager.heard()  # the worker forgets what is said to be heard
                answer["heard"] = heard
            self._network.send(peer, "answer", answer)

    async def _on_outcome(self, peer: str, batch: list[dict[str, Any]]) -> None:
        ready = []
        for (store_id, job_id), attempt, outcome in wire.sound(
            self._network, peer, batch, wire.read_outcome
        ):
            if store_id != self._store.store_id or await self._is_ahead(job_id, attempt):
                continue  # not ours to judge, so not acknowledged: the worker keeps it
            arrived = Arrived(job_id, peer, attempt, outcome)
            if not outcome.blobs():
                ready.append(arrived)
            elif (job_id, attempt) not in self._coming:
                self._coming.add((job_id, attempt))
                self._tasks.start(self._bring_home(arrived))
        if ready:
            await self._manager.record(ready)
            self._acknowledge(ready)

    async def _on_cancelled(self, peer: str, batch: list[dict[str, Any]]) -> None:
        now = self._clock.now()

        def rule(attempt: int, job: Job) -> Step[None]:
            return Step(None, keep=origin.cancelled(job, peer, attempt, now))

        messages = wire.sound(self._network, peer, batch, wire.read_about)
        await self._manager.change(
            [(key[1], partial(rule, attempt)) for key, attempt in messages if self._ours(key)]
        )

    def _on_news(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for key, attempt, first, items, oldest in wire.sound(
            self._network, peer, batch, wire.read_news
        ):
            flight = self._flights.get(key[1])
            if flight and self._ours(key) and (flight.worker, flight.attempt) == (peer, attempt):
                fresh = flight.fresh(first, items, oldest)
                number = flight.heard + 1 - len(fresh) if first else 0
                self._manager.hear(key[1], fresh, attempt, number)

    # --- inside ----------------------------------------------------------------------------

    async def _move_from_the_gone(self, now: float) -> None:
        left = dict(self._left_by)
        there = [(i, f.worker) for i, f in self._flights.items() if f.worker in left]
        if there:
            rules = [(i, partial(self._rulings.left, left[peer], now)) for i, peer in there]
            await self._manager.change(rules)
        for peer in left:
            self._left_by.pop(peer, None)

    async def _is_ahead(self, job_id: str, attempt: int) -> bool:
        """Say whether the attempt is of our lost future, and not adopted (yet) by a HOLDING."""
        flight = self._flights.get(job_id)
        if flight is not None and attempt <= flight.attempt:
            return False
        job = await self._store.job(job_id)
        return job is not None and not job.finished and attempt > job.attempt

    def _ours(self, key: wire.Key) -> bool:
        return key[0] == self._store.store_id

    def _take_off(self, job: Job, lease_s: float, queue: str, now: float) -> None:
        self._land(job.id)
        self._flights.take_off(job, queue, lease_s)
        self._watch.renew(job.id, job.attempt, now, lease_s)

    def _land(self, job_id: str) -> None:
        if self._flights.land(job_id):
            self._watch.forget(job_id)

    def _changed(self, changed: JobChanged) -> None:
        """Drop the flight of a job that is no longer under way as we remember it."""
        job = changed.job
        flight = self._flights.get(job.id)
        if flight and (job.state not in UNDER_WAY or job.attempt != flight.attempt):
            self._land(job.id)
            self._tell_landed()

    def _heard(self, job_id: str, peer: str, attempt: int, now: float) -> None:
        flight = self._flights.get(job_id)
        if flight and (flight.worker, flight.attempt) == (peer, attempt):
            flight.told, flight.life = True, self._lives.get(peer, NOBODY)
            flight.silent_since = None
            self._watch.renew(job_id, attempt, now, flight.lease_s)

    def _offer(self, job: Job, spec: Spec, now: float) -> None:
        flight = self._flights[job.id]
        flight.again_at = now + flight.pause_s
        flight.pause_s = min(2 * flight.pause_s, OFFER_AGAIN_MOST_S)
        self._network.send(job.worker, "offer", wire.offer(self._store.store_id, job, spec))

    async def _offer_again(self, job_ids: Sequence[str], now: float) -> None:
        for job_id in job_ids:
            job, spec = await self._store.job(job_id), await self._store.spec(job_id)
            flight = self._flights.get(job_id)
            current = (
                flight and job and (job.worker, job.attempt) == (flight.worker, flight.attempt)
            )
            if job and spec and current and job.state in UNDER_WAY:
                self._offer(job, spec, now)

    def _say_cancel(self, job_id: str, flight: Flight, now: float) -> None:
        flight.again_at = now + flight.pause_s
        key = (self._store.store_id, job_id)
        hurry = {"hurried": True} if flight.hurried else {}
        self._network.send(flight.worker, "cancel", wire.about(key, flight.attempt, **hurry))

    def _acknowledge(self, arrived: Iterable[Arrived]) -> None:
        for each in arrived:
            key = (self._store.store_id, each.job_id)
            self._network.send(each.sender, "ack", wire.about(key, each.attempt))

    async def _bring_home(self, arrived: Arrived) -> None:
        """Fetch what the outcome names, then record it, then acknowledge; the worker asks again."""
        pinned: tuple[FileEntry, ...] = ()
        try:
            job = await self._store.job(arrived.job_id)
            counts = came(job, arrived.sender, arrived.attempt, arrived.outcome)
            if counts and job is not None:  # what is too large ends the job, and stays away
                counts = not self._manager.too_large(job.topic, arrived.outcome)
            if counts or came_late(job, arrived.sender, arrived.attempt):
                pinned = arrived.outcome.blobs()
                await self._fetch(arrived.sender, pinned)
            await self._manager.record([arrived])
            self._acknowledge([arrived])
        except (PeerUnreachable, BlobMismatch, BlobMissing, DiskFull) as error:
            log.info("the outcome of job %s is not home yet: %s", arrived.job_id, error)
        finally:
            for entry in pinned:
                self._blobs.unpin(entry.sha256)
            self._coming.discard((arrived.job_id, arrived.attempt))

    async def _fetch(self, peer: str, entries: Iterable[FileEntry]) -> None:
        entries = tuple(entries)
        for entry in entries:
            self._blobs.pin(entry.sha256)
        wanted = [(entry.sha256, entry.size) for entry in entries]
        await fetch_all(self._network, self._blobs, peer, wanted)

    async def _judged(self, peer: str, message: Holding) -> dict[str, str]:
        """Put every line of a HOLDING to its job; act on what follows; return the verdicts."""
        ours = message.store_id == self._store.store_id
        if message.full and (ours or not message.lines):
            await self._miss(peer, {line.job_id for line in message.lines})
        if not ours:
            return {line.job_id: Verdict.UNKNOWN.value for line in message.lines}
        now, wall = self._clock.now(), self._clock.wall()
        for line in message.lines:  # at once: no lease may end between the verdict and its answer
            self._heard(line.job_id, peer, line.attempt, now)
        rules = [
            (line.job_id, partial(self._rulings.held, peer, line, now, wall))
            for line in message.lines
        ]
        answers = await self._manager.change(rules)
        verdicts: dict[str, str] = {}
        adopted: list[Job] = []
        for line, answer in zip(message.lines, answers, strict=True):
            verdict, job = answer if answer is not None else (Verdict.UNKNOWN, None)
            verdicts[line.job_id] = verdict.value
            if verdict is Verdict.OK and job is not None and line.job_id not in self._flights:
                self._take_off(job, self._lease_s, "", now)
                self._heard(line.job_id, peer, line.attempt, now)
                adopted.append(job)
        await self._learn(adopted)
        return verdicts

    async def _learn(self, jobs: Sequence[Job]) -> None:
        """Wait as long for jobs as they say, and hear on where their logs end: no row says that."""
        if not jobs:
            return
        ids = [job.id for job in jobs]
        heard, specs = await self._store.heard(ids), await self._store.specs(ids)
        for job in jobs:
            if job.id in heard and job.id in self._flights:
                self._flights[job.id].hears_on(*heard[job.id])
            flight, spec = self._flights.get(job.id), specs.get(job.id)
            if spec and spec.lease_s and flight and flight.attempt == job.attempt:
                flight.lease_s = spec.lease_s
                self._heard(job.id, job.worker, job.attempt, self._clock.now())

    async def _miss(self, peer: str, held: set[str]) -> None:
        """What the worker took in a former life, and now does not hold, it has lost."""
        life = self._lives.get(peer, NOBODY)
        lost = [
            i
            for i, f in self._flights.items()
            if f.worker == peer and f.told and f.life != life and i not in held
        ]
        now = self._clock.now()
        await self._manager.change([(i, partial(self._rulings.forgotten, peer, now)) for i in lost])

    def _overdue(self, job_id: str, attempt: int, now: float) -> Rule[None]:
        """Return the rule for a job whose lease is over."""
        flight = self._flights[job_id]
        if flight.silent_since is None:
            flight.silent_since = now
        return partial(self._rulings.lapsed, attempt, now - flight.silent_since, now)
