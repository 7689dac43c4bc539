"""
Jobs of others at this instance: taken or refused, run, kept until their origin has the outcome.

What is kept is in the store (HAVE, STARTED, DONE, TOMB); the ``shelf`` is the memory of it, the
``course`` takes a job from its seat there to the outbox.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from offload.blobs import Blobs
from offload.clock import Clock
from offload.distributor import wire
from offload.distributor.bounds import Bounds
from offload.distributor.incoming.course import Course
from offload.distributor.incoming.letters import Letters
from offload.distributor.incoming.shelf import PUSH_AGAIN_S, Out, Seat, Shelf
from offload.distributor.quotas import Quotas
from offload.distributor.wire import Key, Network, Offer
from offload.errors import DiskFull
from offload.events import Bus
from offload.leases import worker
from offload.leases.origin import Verdict
from offload.leases.worker import Reply
from offload.tasks import Tasks
from offload.work.jobs import Delivery, Held, HeldState, Spec
from offload.work.manager import Manager
from offload.work.store import HeldStep, Store

ACK_S: Final = 0.05  # for so long acknowledgements are gathered while there are …
MANY: Final = 8  # … jobs of others to run
HOLDINGS_PER_LEASE: Final = 5  # one may be lost, and a cable be out for half a lease


class Incoming:
    """The worker's half of the protocol."""

    def __init__(
        self,
        *,
        manager: Manager,
        store: Store,
        blobs: Blobs,
        network: Network,
        bus: Bus,
        clock: Clock,
        lease_s: float,
        queue_name: Callable[[str], str],
        refusal: Callable[[str, Offer, int], str],
        bounds: Callable[[], Bounds],
        closed: Callable[[str, str], str],
        own_id: str,
        peer_linked: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._network = network
        self._clock = clock
        self._queue_name = queue_name
        self._refusal = refusal
        self._closed = closed
        self._linked = peer_linked
        self._opened_at = clock.now()
        self._shelf = Shelf(network, boot=store.boot, opened_at=self._opened_at)
        self._quotas = Quotas(bounds, self._shelf.present)
        self._letters = Letters(
            self._shelf, store, clock, own_id, lambda: bounds().outbox_s, peer_linked
        )
        self._course = Course(
            self._shelf,
            manager=manager,
            store=store,
            blobs=blobs,
            network=network,
            bus=bus,
            clock=clock,
        )
        self._lease_s = lease_s
        self._holding_at = 0.0
        self._arriving = 0  # offers that are being answered
        self._greeting: Counter[str] = Counter()  # links that are up, and were told nothing yet
        self._acks: defaultdict[str, list[tuple[Key, int]]] = defaultdict(list)  # by origin
        self._tasks = Tasks()

    def handlers(self) -> dict[str, Any]:
        """Return what to do with the frames of origins."""
        return {
            "offer": self._on_offer,
            "answer": self._on_answer,
            "ack": self._on_ack,
            "cancel": self._on_cancel,
        }

    def seats(self) -> Counter[tuple[str, str]]:
        """Return how many jobs each origin has here that are not done, by (origin, queue)."""
        return self._shelf.counts()

    def waiting(self, queue: str) -> int:
        """Return how many seats of ``queue`` are not lined up for a place yet."""
        return sum(s.queue == queue and not s.entered for s in self._shelf.seats.values())

    def counts(self) -> tuple[int, int]:
        """Return how many jobs of others are not done here, and how many outcomes wait."""
        return len(self._shelf.seats), len(self._shelf.outbox)

    def needs(self, counts: Callable[[Key], bool]) -> dict[tuple[str, str], float]:
        """Return what those jobs of others take that ``counts``, by (origin, resource)."""
        amounts: dict[tuple[str, str], float] = defaultdict(float)
        for key, seat in self._shelf.seats.items():
            for name, amount in seat.spec.needs.items() if counts(key) else ():
                amounts[seat.held.origin, name] += amount
        return amounts

    @property
    def busy(self) -> bool:
        """Whether a job of another runs here, or its outcome is still to be recorded."""
        return any(seat.running for seat in self._shelf.seats.values())

    @property
    def owes(self) -> bool:
        """Whether an origin that is linked has not acknowledged an outcome yet."""
        return any(self._linked(out.held.origin) for out in self._shelf.outbox.values())

    def outbox(self) -> list[Held]:
        """Return what waits to be acknowledged."""
        return [out.held for out in self._shelf.outbox.values()]

    def held(self) -> list[Held]:
        """Return what is here and not done."""
        return [seat.held for seat in self._shelf.seats.values()]

    async def recover(self) -> None:
        """At start: take up what is kept; nothing runs until its origin says ``ok`` (rule 3)."""
        for held in await self._store.held([HeldState.HAVE, HeldState.STARTED, HeldState.DONE]):
            key = (held.store_id, held.job_id)
            if held.state is HeldState.DONE:
                self._shelf.outbox[key] = Out(held)
            elif held.state is HeldState.STARTED:
                self._shelf.died[key] = held
            elif (spec := await self._store.held_spec(key)) is not None:
                queue = self._queue_name(spec.topic)
                self._shelf.seats[key] = Seat(
                    held, spec, self._lease_of(spec), queue, allowed=False, since=self._opened_at
                )

    async def tick(self, now: float) -> None:
        """Send again what was not acknowledged, say what is held, end what has no lease."""
        for key, out in self._shelf.outbox.items():
            if out.again_at <= now:
                self._shelf.push(key, out, now)
        if now >= self._holding_at:
            self._holding_at = now + self._holding_every_s()
            for origin in {held.origin for _, held in self._shelf.all_held()}:
                self._say_holding(origin, now)
        else:
            self._shelf.say_started(now)
        for key, seat in self._shelf.seats.items():
            self._shelf.tell(key, seat)
        await self._end_lapsed(now)
        await self._letters.tick(now)

    def linked(self, peer: str, store_id: str) -> None:
        """A link is up: tell this origin all that is held of it, and bring it its outcomes."""
        self._greeting[peer] += 1
        self._tasks.start(self._greet(peer, store_id))

    async def _greet(self, peer: str, store_id: str) -> None:
        try:
            with suppress(DiskFull):  # what cannot be buried now is so at another time
                await self._letters.welcome(peer, store_id)
        finally:
            self._greeting[peer] -= 1
        now = self._clock.now()
        self._shelf.say_holding(peer, now, always=True)
        self._shelf.tell_again(peer)
        for key, out in self._shelf.outbox.items():
            if out.held.origin == peer:
                out.pause_s = PUSH_AGAIN_S
                self._shelf.push(key, out, now)

    async def hand_back(self, reason: str) -> None:
        """Drain: what is not done goes back to its origin, at no cost to the job."""
        await self._course.hand_back(reason)

    async def hand_back_closed(self, closed: Callable[[str, str], str]) -> None:
        """What has not begun, and for whose topic and queue ``closed`` has a reason, goes back."""
        for key, seat in tuple(self._shelf.seats.items()):
            reason = closed(seat.spec.topic, seat.queue)
            if reason and not seat.running:
                await self._course.give_back(key, reason)

    async def hand_back_running(self, reason: str) -> None:
        """What runs and may run twice is ended, and goes back at no cost."""
        for key, seat in tuple(self._shelf.seats.items()):
            if seat.running and seat.held.delivery is not Delivery.AT_MOST_ONCE:
                self._course.take_off(key, seat, reason)

    async def close(self) -> None:
        """End what runs in the background."""
        await self._tasks.close()
        await self._course.close()

    # --- what origins say ------------------------------------------------------------------

    async def _on_offer(self, peer: str, batch: list[dict[str, Any]]) -> None:
        now = self._clock.now()
        offers = wire.sound(self._network, peer, batch, wire.read_offer)
        try:
            kept = await self._answers(peer, offers, now, "")
        except DiskFull:  # to refuse is possible still, with what is reserved
            kept = await self._answers(peer, offers, now, "its disk is full")
        exclusive = False
        for offer, (held, reply, reason) in zip(offers, kept, strict=True):
            about = wire.about(offer.key, offer.attempt)
            if reply is Reply.REFUSED:
                self._shelf.forget_past(offer.key)
                self._network.send(peer, "refused", {**about, "reason": reason})
            elif reply is Reply.OUTCOME and held is not None:
                self._network.send(peer, "taken", about)
                self._shelf.push(
                    offer.key, self._shelf.outbox.setdefault(offer.key, Out(held)), now, held
                )
            elif reply is Reply.TAKEN and held is not None:
                self._network.send(peer, "taken", about)
                self._admit(offer, held, now)
                exclusive = exclusive or held.delivery is Delivery.EXCLUSIVE
        if exclusive:  # only the answer to HOLDING gives it time (rule 4)
            self._say_holding(peer, now)

    async def _on_answer(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for store_id, verdicts, sent_at, heard in wire.sound(
            self._network, peer, batch, wire.read_answer
        ):
            for job_id, verdict in verdicts.items():
                if job_id in heard or verdict is Verdict.OK:
                    self._shelf.heard((store_id, job_id), heard.get(job_id, 0), sent_at)
            ended: list[tuple[Key, int, Verdict]] = []
            for job_id, verdict in verdicts.items():
                key = (store_id, job_id)
                if sent_at < self._shelf.since(key):
                    continue
                if verdict is Verdict.OK:
                    await self._granted(key, peer, min(sent_at, self._clock.now()))
                elif attempt := self._shelf.attempt(key):
                    ended.append((key, attempt, verdict))
            await self._answered(peer, ended)

    async def _on_ack(self, peer: str, batch: list[dict[str, Any]]) -> None:
        messages = wire.sound(self._network, peer, batch, wire.read_about)
        known = [(key, attempt) for key, attempt in messages if key in self._shelf.outbox]
        if len(known) < len(messages) or len(self._shelf.seats) < MANY:
            await self._acknowledged(peer, messages)  # of what memory does not know, the disk may
        else:  # there is no hurry: what gets lost is told once more
            if not self._acks:
                self._tasks.start(self._clear_acks())
            self._acks[peer] += known

    async def _clear_acks(self) -> None:
        await self._clock.sleep(ACK_S)
        acks, self._acks = self._acks, defaultdict(list)
        for peer, messages in acks.items():
            with suppress(DiskFull):
                await self._acknowledged(peer, messages)

    async def _acknowledged(self, peer: str, messages: list[tuple[Key, int]]) -> None:
        now = self._clock.now()

        def rule(attempt: int, held: Held | None) -> HeldStep[None]:
            kept = worker.acknowledged(held, attempt, now) if _is_of(held, peer) else None
            return HeldStep(None, keep=kept)

        await self._store.change_held([(k, partial(rule, n)) for k, n in messages])
        home = []
        for key, attempt in messages:
            out = self._shelf.outbox.get(key)
            if out is not None and _is_of(out.held, peer) and out.held.attempt <= attempt:
                home.append(self._shelf.outbox.pop(key))
        await self._letters.acknowledged(home)

    async def _on_cancel(self, peer: str, batch: list[dict[str, Any]]) -> None:
        now = self._clock.now()

        def rule(key: Key, attempt: int, held: Held | None) -> HeldStep[Reply]:
            if held is not None and not _is_of(held, peer):
                return HeldStep(Reply.NOTHING)
            request = Held(*key, peer, HeldState.TOMB, attempt, at=now)
            kept, reply = worker.cancel(held, request, now)
            return HeldStep(reply, keep=kept)

        messages = wire.sound(self._network, peer, batch, wire.read_cancel)
        changes = [(key, partial(rule, key, attempt)) for key, attempt, _ in messages]
        for (key, attempt, hurried), reply in zip(
            messages, await self._store.change_held(changes), strict=True
        ):
            if reply is Reply.CANCELLED:
                self._cancelled(peer, key, attempt, hurried=hurried)

    # --- inside ----------------------------------------------------------------------------

    async def _answers(
        self, peer: str, offers: list[Offer], now: float, refusal: str
    ) -> list[tuple[Held | None, Reply, str]]:
        """Write down one answer to each offer, and return them."""
        rules = []
        with self._quotas.arriving(peer, now) as one_more:
            for number, offer in enumerate(offers, self._arriving):
                why = refusal or self._refusal(peer, offer, number) or one_more(offer.spec)
                rules.append((offer.key, partial(self._offered, peer, offer, now, why)))
            self._arriving += len(offers)
            try:
                return await self._store.change_held(rules)
            finally:
                self._arriving -= len(offers)

    def _offered(
        self, peer: str, offer: Offer, now: float, refusal: str, held: Held | None
    ) -> HeldStep[tuple[Held | None, Reply, str]]:
        if held is not None and not _is_of(held, peer):
            return HeldStep((None, Reply.NOTHING, ""))
        spec = offer.spec
        wanted = Held(
            *(*offer.key, peer, HeldState.HAVE, offer.attempt, spec.topic, spec.delivery),
            at=now,
            retry_count=offer.retry_count,
            properties=offer.properties,
        )
        kept, reply = worker.offered(held, wanted, refusal, self._store.boot)
        now_held = kept or held
        reason = now_held.refused if now_held else ""
        return HeldStep((now_held, reply, reason), keep=kept, spec=spec if kept is wanted else None)

    def _admit(self, offer: Offer, held: Held, now: float) -> None:
        self._shelf.forget_past(offer.key)
        seat = self._shelf.seats.get(offer.key)
        if seat is None:
            queue = self._queue_name(offer.spec.topic)
            allowed = held.delivery is not Delivery.EXCLUSIVE
            seat = Seat(held, offer.spec, self._lease_of(offer.spec), queue, allowed, since=now)
            self._shelf.seats[offer.key] = seat
        elif seat.held.attempt < held.attempt:
            seat.held, seat.since = held, now
            seat.allowed = seat.allowed and held.delivery is not Delivery.EXCLUSIVE
        self._holding_at = min(self._holding_at, now + seat.lease_s / HOLDINGS_PER_LEASE)
        if held.delivery is not Delivery.EXCLUSIVE and seat.allowed:
            self._shelf.terms.grant(offer.key, now, seat.lease_s)
            self._course.line_up(offer.key, seat)

    async def _granted(self, key: Key, peer: str, sent_at: float) -> None:
        seat = self._shelf.seats.get(key)
        if seat is not None and seat.held.origin == peer:
            if not seat.running and (reason := self._closed(seat.spec.topic, seat.queue)):
                await self._course.give_back(key, reason)
                return
            seat.allowed = True
            self._shelf.terms.grant(key, sent_at, seat.lease_s)
            self._course.line_up(key, seat)
            self._course.renew(key, seat)

    async def _answered(self, peer: str, ended: list[tuple[Key, int, Verdict]]) -> None:
        """Let go of these attempts, and of no higher one that is just being written down."""
        now = self._clock.now()

        def rule(
            attempt: int, verdict: Verdict, waits: bool, held: Held | None
        ) -> HeldStep[tuple[Held | None, Reply]]:
            if held is None or not _is_of(held, peer):
                return HeldStep((None, Reply.NOTHING))
            boot = self._store.boot
            kept, reply = worker.answered(held, attempt, verdict, boot, now, waits=waits)
            return HeldStep((kept, reply), keep=kept)

        changes = [
            (key, partial(rule, attempt, verdict, self._course.waits(key)))
            for key, attempt, verdict in ended
        ]
        for (key, _, _), (tomb, reply) in zip(
            ended, await self._store.change_held(changes), strict=True
        ):
            if reply is Reply.CANCELLED and tomb is not None:
                self._cancelled(peer, key, tomb.attempt)
            elif tomb is not None:
                self._course.let_go(key)

    def _cancelled(self, peer: str, key: Key, attempt: int, *, hurried: bool = False) -> None:
        """Let go of the job, and say so when nothing of it runs any more."""
        self._course.let_go(key, hurried=hurried)
        about = wire.about(key, attempt)
        self._course.when_over(key, partial(_send, self._network, peer, "cancelled", about))

    def _say_holding(self, origin: str, now: float) -> None:
        """Tell ``origin`` what is held of it, unless that is about to be told in full."""
        if not self._greeting[origin]:
            self._shelf.say_holding(origin, now)

    def _lease_of(self, spec: Spec) -> float:
        """Return the lease of a job: its origin says it, so that both mean the same."""
        return spec.lease_s or self._lease_s

    def _holding_every_s(self) -> float:
        shortest_s = min((seat.lease_s for seat in self._shelf.seats.values()), default=math.inf)
        return min(shortest_s, self._lease_s) / HOLDINGS_PER_LEASE

    async def _end_lapsed(self, now: float) -> None:
        """Exclusive work stops when its lease is over by our own clock."""
        for key in self._shelf.terms.over(now):
            seat = self._shelf.seats.get(key)  # each may end while another is written down
            if seat is None or not seat.running or seat.held.delivery is not Delivery.EXCLUSIVE:
                continue

            def rule(held: Held | None, attempt: int = seat.held.attempt) -> HeldStep[None]:
                return HeldStep(None, keep=worker.lapsed(held, attempt, now))

            self._course.let_go(key, at_once=True)
            await self._store.change_held([(key, rule)])


def _send(network: Network, peer: str, kind: str, fields: dict[str, Any]) -> None:
    network.send(peer, kind, fields)


def _is_of(held: Held | None, peer: str) -> bool:
    return held is not None and held.origin == peer
