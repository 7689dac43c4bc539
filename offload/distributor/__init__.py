"""
Takes each queued job to its place, here or at a peer; brings outcomes home; takes jobs back.

``matching`` finds the places for what is ``ahead``, ``outgoing`` follows own jobs at peers,
``incoming`` keeps the jobs of others, ``wire`` reads and writes what they say to one another.
"""

import asyncio
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

from offload.blobs import Blobs
from offload.clock import Clock
from offload.distributor.admission import Admission
from offload.distributor.ahead import Ahead
from offload.distributor.allowed import Allowed
from offload.distributor.bounds import Bounds, Gate
from offload.distributor.doors import Doors
from offload.distributor.incoming import Incoming
from offload.distributor.limits import Limits
from offload.distributor.matching import Matching
from offload.distributor.outgoing import Outgoing
from offload.distributor.refusals import Refusals
from offload.distributor.slots import Slots, closed_of
from offload.distributor.stragglers import Stragglers
from offload.distributor.stranded import JobsStranded, Stranded
from offload.distributor.whereabouts import Whereabouts
from offload.distributor.wire import Network
from offload.errors import DiskFull
from offload.events import Bus
from offload.peers.topology import Appeared, Fact, Gone, LoadChanged, TopologyView, Updated
from offload.peers.transport import LinkUp
from offload.placement import Policy, Ranked, rank
from offload.tasks import Tasks
from offload.work.jobs import Delivery, Demands, Held, Job, RetryRule, State, read_demands
from offload.work.manager import (
    GateMoved,
    JobChanged,
    JobQueued,
    JobRemoved,
    Manager,
    RunEnded,
    SlotFree,
)
from offload.work.store import Store

__all__ = ["Allowed", "Bounds", "Distributor", "Doors", "JobsStranded", "Network", "closed_of"]
log = logging.getLogger(__name__)
Handler = Callable[[str, list[dict[str, Any]]], Awaitable[None] | None]
TICK_S: Final = 0.25
LOOK_AGAIN_S: Final = 5.0
MANY: Final = 64
GATHER_S: Final = 0.005
HAND_BACK_S: Final = 10.0
HURRIED_S: Final = 2.0
HOME_EVERY_S: Final = 0.02


class Distributor:
    """The hand-over of jobs between this instance and the others."""

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
        view: Callable[[], TopologyView],
        linked: Callable[[str], bool],
        doors: Doors,
        policy_of: Callable[[str], Policy],
        demands_of: Callable[[str], Demands],
        bounds: Callable[[], Bounds],
        free_bytes: Callable[[], int],
        retry_of: Callable[[str], RetryRule],
        allowed: Allowed,
    ) -> None:
        self._manager = manager
        self._store = store
        self._clock = clock
        self._bus = bus
        self._doors = doors
        self._demands_of = demands_of
        self._tasks = Tasks()
        self._hurry = asyncio.Event()
        self._wake = asyncio.Event()
        self._next_look = 0.0
        self._alarm = False
        self._gate = Gate(bounds, free_bytes, self._held_and_owed, blobs.used)
        self._admission = Admission(manager, blobs, doors, allowed, self._gate, lambda: view().own)
        shared: dict[str, Any] = {
            "manager": manager,
            "store": store,
            "blobs": blobs,
            "network": network,
            "bus": bus,
            "clock": clock,
            "lease_s": lease_s,
        }
        self._refusals = Refusals()
        self._outgoing = Outgoing(
            **shared,
            lost_after_s=lambda: bounds().lost_after_s,
            own_id=own_id,
            retry_of=retry_of,
            refused=self._refused,
            taken=self._refusals.taken,
            landed=self._wake.set,
        )
        self._limits = Limits(manager=manager, store=store, clock=clock, bus=bus)
        self._incoming = Incoming(
            **shared,
            queue_name=manager.runs.queue_name,
            refusal=self._admission.refusal,
            closed=doors.closed_to_others,
            own_id=own_id,
            bounds=bounds,
            peer_linked=linked,
        )
        self._ahead = Ahead(store, bus)
        self._gate.tick(clock.now())
        self._whereabouts = Whereabouts()
        self._slots = Slots(
            manager, self._incoming, lambda: view().own, self._admission.shut, self._gate.shelf
        )
        self._stranded = Stranded(store, bus, self._policy, clock.now())
        self._matching = Matching(
            manager=manager,
            store=store,
            ahead=self._ahead,
            outgoing=self._outgoing,
            incoming=self._incoming,
            clock=clock,
            view=view,
            linked=linked,
            doors=doors,
            barred=allowed.barred,
            policy_of=policy_of,
            slots=self._slots,
            stranded=self._stranded,
            whereabouts=self._whereabouts,
            refusals=self._refusals,
        )
        manager.at_once = self._matching.at_once
        self._stragglers = Stragglers(manager, store, self._matching, network, clock, bus, own_id)
        bus.listen(JobQueued, self._queued)
        bus.listen((SlotFree, JobRemoved), self._look)
        bus.listen(JobChanged, self._moved_up)
        bus.listen(GateMoved, self._gate_moved)
        bus.listen(Fact, self._topology_changed)
        bus.listen(LinkUp, self._linked)

    def handlers(self) -> Mapping[str, Handler]:
        """Return what to do with the protocol's frames, by kind."""
        both: dict[str, Handler] = {**self._outgoing.handlers(), **self._incoming.handlers()}
        return {kind: partial(_as_far_as_there_is_room, handler) for kind, handler in both.items()}

    def load_for(self, peer: str) -> dict[str, Any]:
        """Return what the beat to ``peer`` says of our places."""
        return self._slots.load_for(peer)

    async def recover(self) -> None:
        """At start, before anything else: see what the last boot left (DESIGN §5, rule 3)."""
        await self._manager.leftovers.clear_away()
        await self._manager.recover()
        await self._outgoing.recover()
        await self._incoming.recover()
        await self._matching.recover()
        await self._stragglers.recover()

    async def run(self) -> NoReturn:
        """Match, and say again what was not heard, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._match())
                while True:
                    await self._clock.sleep(TICK_S)
                    now = self._clock.now()
                    self._gate.tick(now)
                    with suppress(DiskFull):  # all of it is tried again at the next tick
                        await self._limits.tick(now)
                        await self._outgoing.tick(now)
                        await self._incoming.tick(now)
                        await self._stragglers.tick(now)
                    if now >= self._next_look:
                        self._wake.set()
        finally:
            await self._tasks.close()
            await self._outgoing.close()
            await self._incoming.close()

    async def stop(self, job_id: str) -> bool:
        """Stop a job; True once it is certain that no outcome of it will be applied."""
        return await self._outgoing.stop(job_id)

    async def drain(self, timeout_s: float) -> None:
        """
        Take no new work, let what runs end within ``timeout_s``, hand back the rest.

        An origin that is linked has a while to fetch the outcomes it is owed: what it hears of
        after our goodbye it would have given to another.
        """
        self._matching.draining = self._admission.draining = True
        await self._within(timeout_s, self._idle())
        await self._incoming.hand_back("handed back: the instance was shut down")
        await self._manager.hand_back()
        await self._within(HAND_BACK_S, self._settled(), hurried_s=HURRIED_S)

    def hurry(self) -> None:
        """Let a drain hand back at once what still runs."""
        self._hurry.set()
        self._manager.runs.hurry()  # what takes its time to stop would be taken for a crash

    async def hand_back(self, reason: str, own: bool) -> None:
        """
        Give back, at no cost to the jobs, what runs here and may run twice; ``own`` jobs too.

        What has begun and is never to start twice goes on to its end.
        """
        await self._incoming.hand_back_running(reason)
        if own:
            await self._manager.take_off(reason)

    async def explain(
        self, topic: str, job: Job | None = None
    ) -> tuple[Policy, Demands, list[Ranked]]:
        """Return what ``topic`` (or that job) asks for, and who could run it, best first."""
        delivery = job.delivery if job else Delivery.AT_LEAST_ONCE
        places = self._matching.places(topic, self._clock.now(), delivery=delivery)
        policy = self._matching.policy(job) if job else self._matching.policy_of(topic)
        demands = self._demands_of(topic)
        if job is not None:
            demands = read_demands(job.demands)
            spec, failed = await self._store.spec(job.id), await self._matching.failed([job])
            self._matching.suit(job, spec, places.candidates, failed, self._clock.now())
        return policy, demands, rank(policy, places.candidates, demands)

    def paced(self, job: Job) -> bool:
        """Say whether it is the rate of its queue that ``job`` waits for."""
        return self._matching.paced(job, self._clock.now())

    def closed(self) -> str:
        """Say why nothing of others starts here now, whatever its topic; "" if it may."""
        return self._admission.closed()

    def stranded(self) -> list[JobsStranded]:
        """Return of which jobs nobody can take any, and why."""
        return self._stranded.all()

    def outbox(self) -> list[Held]:
        """Return what waits for its origin's acknowledgement."""
        return self._incoming.outbox()

    def held(self) -> list[Held]:
        """Return the jobs of others that are here and not done."""
        return self._incoming.held()

    # --- inside ----------------------------------------------------------------------------

    async def _within(
        self, timeout_s: float, end: Coroutine[Any, Any, None], hurried_s: float = 0.0
    ) -> None:
        """Wait for ``end`` so long, or for ``hurried_s`` from when there is a hurry."""
        awaited, hurry = asyncio.create_task(end), asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait([awaited, hurry], timeout=timeout_s, return_when=FIRST_COMPLETED)
            if hurry.done():
                await asyncio.wait([awaited], timeout=hurried_s)
        finally:
            awaited.cancel()
            hurry.cancel()

    async def _settled(self) -> None:
        """Return when nothing runs here and linked origins have fetched what they are owed."""
        await self._idle()
        while self._incoming.owes:
            await self._clock.sleep(HOME_EVERY_S)

    async def _idle(self) -> None:
        """Return when nothing runs here."""
        idle = asyncio.Event()

        def look(_: RunEnded | None = None) -> None:
            if not self._manager.busy and not self._incoming.busy:
                idle.set()

        stop = self._bus.listen(RunEnded, look)
        look()
        try:
            await idle.wait()
        finally:
            stop()

    async def _match(self) -> NoReturn:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._matching.round():
                    if len(self._outgoing) > MANY:  # let places gather: they are lined up anyway
                        await self._clock.sleep(GATHER_S)
            except DiskFull:
                log.warning("disk full: jobs wait for room")
            self._next_look = await self._next_time(self._clock.now())
            if self._next_look < self._clock.now() + TICK_S and not self._alarm:
                self._alarm = True
                self._tasks.start(self._ring(self._next_look))

    async def _ring(self, at: float) -> None:
        """Look again at a moment that comes before the next tick."""
        await self._clock.sleep(max(0.0, at - self._clock.now()))
        self._alarm = False
        self._wake.set()

    async def _next_time(self, now: float) -> float:
        """Return when it is time to look again, if nothing happens before."""
        if not await self._matching.waiting():
            return now + LOOK_AGAIN_S
        chance_at = self._matching.next_chance_at(now)
        times = [now + LOOK_AGAIN_S, await self._ahead.next_at(now)]
        return min(times if chance_at is None else [*times, chance_at])

    def _look(self, _: object = None) -> None:
        self._wake.set()

    def _queued(self, queued: JobQueued) -> None:
        self._stranded.note(queued.job)
        self._wake.set()

    def _policy(self, job: Job) -> Policy:
        return self._matching.policy(job)

    def _moved_up(self, changed: JobChanged) -> None:
        job = changed.job  # the one behind it in its lane, or in the queue, may start
        if job.finished and (job.lane or changed.was is State.QUEUED):
            self._wake.set()

    def _gate_moved(self, _: GateMoved) -> None:
        self._tasks.start(self._give_back())
        self._wake.set()

    async def _give_back(self) -> None:
        """What has not begun, and may not begin now, goes back: to its origin, or into line."""
        while True:
            with suppress(DiskFull):
                await self._incoming.hand_back_closed(self._doors.closed_to_others)
                await self._manager.give_back(self._doors.closed)
                return
            await self._clock.sleep(TICK_S)

    def _refused(self, peer: str, job: Job, reason: str) -> None:
        log.info("%s refuses a job of topic %s: %s", peer, job.topic, reason)
        kind = job.topic, job.delivery is Delivery.EXCLUSIVE
        self._refusals.refused(peer, kind, reason, self._clock.now())

    def _held_and_owed(self) -> tuple[int, int]:
        return self._incoming.counts()

    def _topology_changed(self, fact: Fact) -> None:
        if isinstance(fact, Gone) and fact.confirmed:
            self._tasks.start(self._outgoing.gone(fact))
        self._stranded.doubtful = True
        if isinstance(fact, Appeared | Updated):
            self._refusals.forget(fact.id)
        if isinstance(fact, Appeared | Updated | LoadChanged):
            self._wake.set()

    def _linked(self, link: LinkUp) -> None:
        self._incoming.linked(link.peer, link.hello.store_id)
        life = link.hello.store_id, link.hello.boot
        self._tasks.start(_unless_full(self._outgoing.linked(link.peer, life)))
        self._wake.set()


def _as_far_as_there_is_room(
    handler: Handler, peer: str, batch: list[dict[str, Any]]
) -> Awaitable[None] | None:
    """Handle frames; what the full disk keeps from being written down is as good as not heard."""
    working = handler(peer, batch)
    return None if working is None else _unless_full(working)


async def _unless_full(working: Awaitable[None]) -> None:
    """Await what is tried again by itself: every message is sent until it is answered."""
    with suppress(DiskFull):
        await working
