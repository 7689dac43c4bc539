"""
Jobs of others at this instance: taken or refused, run, kept until their origin has the outcome.

What is kept is in the store (HAVE, STARTED, DONE, TOMB); a ``Seat`` is the memory of one that is
not done, an ``Out`` that of one whose outcome waits to be acknowledged.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from offload.blobs import Blobs
from offload.clock import Clock
from offload.distributor import wire
from offload.distributor.wire import Key, Line, Network, Offer
from offload.errors import BlobMismatch, BlobMissing, DiskFull, PeerUnreachable
from offload.events import Bus
from offload.leases import GrantedTerms, worker
from offload.leases.origin import Verdict
from offload.leases.worker import Reply
from offload.tasks import Tasks
from offload.work.executors import News
from offload.work.jobs import Delivery, Held, HeldState, Outcome, Result, Spec
from offload.work.manager import Manager, RunEnded, SlotFree, Work
from offload.work.store import HeldStep, Store

log = logging.getLogger(__name__)
HOLDINGS_PER_LEASE: Final = 5  # one may be lost, and a cable be out for half a lease
LINES_PER_FRAME: Final = 5000
STARTED_AFTER_S: Final = 0.2
PUSH_AGAIN_S: Final = 1.0
PUSH_AGAIN_MOST_S: Final = 30.0
FETCH_AGAIN_S: Final = 1.0


@dataclass(slots=True)
class Seat:
    """A job of another that is here and not done."""

    held: Held
    spec: Spec
    retry_count: int
    queue: str
    allowed: bool  # the origin has said, in this boot, that it is ours to run
    since: float  # when this attempt was taken; an answer to a question before it is about another
    entered: bool = False
    running: int = 0  # the attempt number under which it was started; 0: it was not
    started_at: float = 0.0
    reported: bool = False


@dataclass(slots=True)
class Out:
    """An outcome in the outbox."""

    held: Held
    again_at: float = 0.0
    pause_s: float = PUSH_AGAIN_S


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
        refusal: Callable[[str, Offer], str],
    ) -> None:
        self._manager = manager
        self._store = store
        self._blobs = blobs
        self._network = network
        self._bus = bus
        self._clock = clock
        self._queue_name = queue_name
        self._refusal = refusal
        self._terms: GrantedTerms[Key] = GrantedTerms(lease_s)
        self._seats: dict[Key, Seat] = {}
        self._outbox: dict[Key, Out] = {}
        self._died: dict[Key, Held] = {}
        self._handing_back = False
        self._opened_at = clock.now()
        self._holding_every_s = lease_s / HOLDINGS_PER_LEASE
        self._holding_at = 0.0
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
        return Counter((seat.held.origin, seat.queue) for seat in self._seats.values())

    def waiting(self, queue: str) -> int:
        """Return how many seats of ``queue`` are not lined up for a place yet."""
        return sum(s.queue == queue and not s.entered for s in self._seats.values())

    @property
    def busy(self) -> bool:
        """Whether a job of another runs here, or its outcome is still to be recorded."""
        return any(seat.running for seat in self._seats.values())

    def outbox(self) -> list[Held]:
        """Return what waits to be acknowledged."""
        return [out.held for out in self._outbox.values()]

    def held(self) -> list[Held]:
        """Return what is here and not done."""
        return [seat.held for seat in self._seats.values()]

    async def recover(self) -> None:
        """At start: take up what is kept; nothing runs until its origin says ``ok`` (rule 3)."""
        for held in await self._store.held([HeldState.HAVE, HeldState.STARTED, HeldState.DONE]):
            key = (held.store_id, held.job_id)
            if held.state is HeldState.DONE:
                self._outbox[key] = Out(held)
            elif held.state is HeldState.STARTED:
                self._died[key] = held
            elif (spec := await self._store.held_spec(key)) is not None:
                queue = self._queue_name(spec.topic)
                self._seats[key] = Seat(held, spec, 0, queue, allowed=False, since=self._opened_at)

    async def tick(self, now: float) -> None:
        """Send again what was not acknowledged, say what is held, end what has no lease."""
        for key, out in self._outbox.items():
            if out.again_at <= now:
                self._push(key, out, now)
        if now >= self._holding_at:
            self._holding_at = now + self._holding_every_s
            for origin in {held.origin for _, held in self._all_held()}:
                self._say_holding(origin, now)
        else:
            self._say_started(now)
        await self._end_lapsed(now)

    def linked(self, peer: str) -> None:
        """A link is up: tell this origin all that is held of it, and bring it its outcomes."""
        now = self._clock.now()
        self._say_holding(peer, now, always=True)
        for key, out in self._outbox.items():
            if out.held.origin == peer:
                out.pause_s = PUSH_AGAIN_S
                self._push(key, out, now)

    async def hand_back(self, reason: str) -> None:
        """Drain: what is not done goes back to its origin, at no cost to the job."""
        self._handing_back = True
        for key, seat in tuple(self._seats.items()):
            if seat.running:
                self._manager.runs.stop(key[1], seat.running)
            else:
                await self._give_back(key, reason)

    async def close(self) -> None:
        """End what runs in the background."""
        await self._tasks.close()

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
                self._forget_past(offer.key)
                self._network.send(peer, "refused", {**about, "reason": reason})
            elif reply is Reply.OUTCOME and held is not None:
                self._network.send(peer, "taken", about)
                self._push(offer.key, self._outbox.setdefault(offer.key, Out(held)), now, held)
            elif reply is Reply.TAKEN and held is not None:
                self._network.send(peer, "taken", about)
                self._admit(offer, held, now)
                exclusive = exclusive or held.delivery is Delivery.EXCLUSIVE
        if exclusive:  # only the answer to HOLDING gives it time (rule 4)
            self._say_holding(peer, now)

    async def _on_answer(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for store_id, verdicts, sent_at in wire.sound(self._network, peer, batch, wire.read_answer):
            ended: list[tuple[Key, Verdict]] = []
            for job_id, verdict in verdicts.items():
                key = (store_id, job_id)
                if sent_at < self._since(key):
                    continue
                if verdict is Verdict.OK:
                    self._granted(key, peer, min(sent_at, self._clock.now()))
                elif key in self._seats or key in self._died:
                    ended.append((key, verdict))
            await self._answered(peer, ended)

    async def _on_ack(self, peer: str, batch: list[dict[str, Any]]) -> None:
        now = self._clock.now()

        def rule(attempt: int, held: Held | None) -> HeldStep[None]:
            kept = worker.acknowledged(held, attempt, now) if _is_of(held, peer) else None
            return HeldStep(None, keep=kept)

        messages = wire.sound(self._network, peer, batch, wire.read_about)
        await self._store.change_held([(k, partial(rule, n)) for k, n in messages])
        for key, attempt in messages:
            out = self._outbox.get(key)
            if out is not None and _is_of(out.held, peer) and out.held.attempt <= attempt:
                del self._outbox[key]

    async def _on_cancel(self, peer: str, batch: list[dict[str, Any]]) -> None:
        now = self._clock.now()

        def rule(key: Key, attempt: int, held: Held | None) -> HeldStep[Reply]:
            if held is not None and not _is_of(held, peer):
                return HeldStep(Reply.NOTHING)
            request = Held(*key, peer, HeldState.TOMB, attempt, at=now)
            kept, reply = worker.cancel(held, request, now)
            return HeldStep(reply, keep=kept)

        messages = wire.sound(self._network, peer, batch, wire.read_about)
        changes = [(key, partial(rule, key, attempt)) for key, attempt in messages]
        for (key, attempt), reply in zip(
            messages, await self._store.change_held(changes), strict=True
        ):
            if reply is Reply.CANCELLED:
                self._let_go(key)
                self._network.send(peer, "cancelled", wire.about(key, attempt))

    # --- from the seat to the outbox -------------------------------------------------------

    async def _answers(
        self, peer: str, offers: list[Offer], now: float, refusal: str
    ) -> list[tuple[Held | None, Reply, str]]:
        """Write down one answer to each offer, and return them."""
        return await self._store.change_held(
            [(o.key, partial(self._offered, peer, o, now, refusal)) for o in offers]
        )

    def _offered(
        self, peer: str, offer: Offer, now: float, refusal: str, held: Held | None
    ) -> HeldStep[tuple[Held | None, Reply, str]]:
        if held is not None and not _is_of(held, peer):
            return HeldStep((None, Reply.NOTHING, ""))
        spec = offer.spec
        wanted = Held(
            *offer.key, peer, HeldState.HAVE, offer.attempt, spec.topic, spec.delivery, at=now
        )
        refusal = refusal or self._refusal(peer, offer)
        kept, reply = worker.offered(held, wanted, refusal, self._store.boot)
        now_held = kept or held
        reason = now_held.refused if now_held else ""
        return HeldStep((now_held, reply, reason), keep=kept, spec=spec if kept is wanted else None)

    def _since(self, key: Key) -> float:
        seat = self._seats.get(key)
        return self._opened_at if seat is None else seat.since

    def _admit(self, offer: Offer, held: Held, now: float) -> None:
        self._forget_past(offer.key)
        seat = self._seats.get(offer.key)
        if seat is None:
            queue = self._queue_name(offer.spec.topic)
            allowed = held.delivery is not Delivery.EXCLUSIVE
            seat = Seat(held, offer.spec, offer.retry_count, queue, allowed, since=now)
            self._seats[offer.key] = seat
        elif seat.held.attempt < held.attempt:
            seat.held, seat.since = held, now
        if seat.allowed:
            self._terms.grant(offer.key, now)
            self._line_up(offer.key, seat)

    def _forget_past(self, key: Key) -> None:
        """A higher attempt was decided on: its origin waits no longer for what came before."""
        self._died.pop(key, None)
        self._outbox.pop(key, None)

    def _granted(self, key: Key, peer: str, sent_at: float) -> None:
        seat = self._seats.get(key)
        if seat is not None and seat.held.origin == peer:
            seat.allowed = True
            self._terms.grant(key, sent_at)
            self._line_up(key, seat)

    def _line_up(self, key: Key, seat: Seat) -> None:
        if not seat.entered:
            seat.entered = True
            self._tasks.start(self._fetch_and_enter(key, seat))

    async def _fetch_and_enter(self, key: Key, seat: Seat) -> None:
        """Bring the inputs here, then wait in line for a place."""
        missing = _inputs(seat.spec)
        for sha256, _ in missing:
            self._blobs.pin(sha256)
        reason = ""
        try:
            while self._seats.get(key) is seat and not reason:
                try:
                    await self._fetch(seat.held.origin, missing)
                    break
                except (PeerUnreachable, BlobMismatch) as error:
                    log.info("inputs of job %s are not here yet: %s", key[1], error)
                    await self._clock.sleep(FETCH_AGAIN_S)
                except (BlobMissing, DiskFull) as error:
                    reason = f"its input files could not be brought here: {error}"
        finally:
            for sha256, _ in missing:
                self._blobs.unpin(sha256)
        if self._seats.get(key) is seat:
            begin = partial(self._begin, key, seat, reason)
            self._manager.runs.enter(key, seat.spec.topic, seat.held.origin, begin)

    async def _fetch(self, peer: str, wanted: Iterable[tuple[str, int]]) -> None:
        for sha256, size in wanted:
            if not self._blobs.has(sha256):
                await self._network.fetch(peer, sha256, size)

    def _begin(self, key: Key, seat: Seat, reason: str) -> None:
        self._tasks.start(self._run(key, seat, reason))

    async def _run(self, key: Key, seat: Seat, reason: str) -> None:
        outcome = None
        try:
            if await self._start(key, seat):
                outcome = await self._outcome(key, seat, reason)
        finally:
            queue = self._manager.runs.leave(key, seat.spec.topic)
            self._bus.publish(SlotFree(queue))
        if outcome is not None:
            await self._conclude(key, seat, outcome)
            self._bus.publish(RunEnded(key[1]))

    async def _start(self, key: Key, seat: Seat) -> bool:
        """Write down that it is STARTED, before the consumer is called; False: it may not run."""
        if self._seats.get(key) is not seat:
            return False
        if not self._may_start(key, seat):
            seat.entered = False  # lined up again when its origin says ok
            return False
        attempt = seat.held.attempt
        [started] = await self._store.change_held([(key, partial(self._started, attempt))])
        if self._seats.get(key) is not seat:
            return False
        if started is None:
            del self._seats[key]
            return False
        seat.held, seat.running, seat.started_at = started, attempt, self._clock.now()
        return True

    def _may_start(self, key: Key, seat: Seat) -> bool:
        lasting = seat.held.delivery is not Delivery.EXCLUSIVE
        return not self._handing_back and (lasting or self._terms.holds(key, self._clock.now()))

    def _started(self, attempt: int, held: Held | None) -> HeldStep[Held | None]:
        kept = worker.start(held, attempt, self._store.boot, self._clock.now())
        return HeldStep(kept, keep=kept)

    async def _outcome(self, key: Key, seat: Seat, reason: str) -> Outcome:
        if reason:
            return Outcome(Result.FAILED, reason=reason)
        work = Work(key[0], key[1], seat.running, seat.retry_count, seat.spec)
        return await self._manager.runs.perform(work, partial(self._send_news, key, seat))

    def _send_news(self, key: Key, seat: Seat, news: News) -> None:
        items = [[news.wall, news.kind, news.text]]
        about = wire.about(key, seat.held.attempt, items=items)
        self._network.send(seat.held.origin, "news", about)

    async def _conclude(self, key: Key, seat: Seat, outcome: Outcome) -> None:
        if self._handing_back and outcome.result is Result.STOPPED:
            await self._give_back(key, "handed back: the instance was shut down")
            return
        now = self._clock.now()

        def rule(held: Held | None) -> HeldStep[Held | None]:
            kept = worker.done(held, self._store.boot, outcome, now)
            return HeldStep(kept, keep=kept)

        [done] = await self._store.change_held([(key, rule)])
        if self._seats.get(key) is seat:
            self._let_go(key)
        if done is not None:
            self._outbox[key] = Out(done)
            self._push(key, self._outbox[key], now)

    async def _give_back(self, key: Key, reason: str) -> None:
        now = self._clock.now()

        def rule(held: Held | None) -> HeldStep[Held | None]:
            kept = worker.handed_back(held, reason, now)
            return HeldStep(kept, keep=kept)

        [back] = await self._store.change_held([(key, rule)])
        self._let_go(key)
        if back is not None:
            about = wire.about(key, back.attempt, reason=reason)
            self._network.send(back.origin, "refused", about)

    def _let_go(self, key: Key, *, at_once: bool = False) -> None:
        """Forget the seat; whatever still runs of it is stopped, and leads to nothing."""
        seat = self._seats.pop(key, None)
        self._died.pop(key, None)
        self._outbox.pop(key, None)
        self._terms.forget(key)
        if seat is None:
            return
        if seat.running:
            self._manager.runs.stop(key[1], seat.running, at_once=at_once)
        elif seat.entered:
            self._bus.publish(SlotFree(self._manager.runs.leave(key, seat.spec.topic)))

    # --- saying ----------------------------------------------------------------------------

    def _push(self, key: Key, out: Out, now: float, held: Held | None = None) -> None:
        out.held = held or out.held
        out.again_at = now + out.pause_s
        out.pause_s = min(2 * out.pause_s, PUSH_AGAIN_MOST_S)
        outcome = out.held.outcome
        if outcome is not None:
            about = wire.about(key, out.held.attempt, outcome=outcome.to_wire())
            self._network.send(out.held.origin, "outcome", about)

    def _say_holding(self, origin: str, now: float, *, always: bool = False) -> None:
        """Tell ``origin`` all that is held of it, store by store; ``always``: even if nothing."""
        by_store: dict[str, list[Line]] = defaultdict(list)
        for key, held in self._all_held():
            if held.origin == origin:
                by_store[key[0]].append(Line(key[1], *worker.phase(held, self._store.boot)))
        for seat in self._seats.values():
            seat.reported = seat.reported or (seat.held.origin == origin and seat.running > 0)
        for store_id, lines in by_store.items():
            for some in _chunks(lines):
                full = len(some) == len(lines)
                fields = wire.holding(store_id, some, now, full=full)
                self._network.send(origin, "holding", fields)
        if always and not by_store:
            self._network.send(origin, "holding", wire.holding("", [], now, full=True))

    def _all_held(self) -> Iterable[tuple[Key, Held]]:
        for key, seat in self._seats.items():
            yield key, seat.held
        for key, out in self._outbox.items():
            yield key, out.held
        yield from self._died.items()

    def _say_started(self, now: float) -> None:
        """Tell origins of what has run for a moment: short jobs are not worth a frame."""
        news: dict[tuple[str, str], list[Line]] = defaultdict(list)
        for key, seat in self._seats.items():
            if seat.running and not seat.reported and now - seat.started_at > STARTED_AFTER_S:
                seat.reported = True
                line = Line(key[1], *worker.phase(seat.held, self._store.boot))
                news[seat.held.origin, key[0]].append(line)
        for (origin, store_id), lines in news.items():
            fields = wire.holding(store_id, lines, now, full=False)
            self._network.send(origin, "holding", fields)

    async def _answered(self, peer: str, ended: list[tuple[Key, Verdict]]) -> None:
        now = self._clock.now()

        def rule(verdict: Verdict, held: Held | None) -> HeldStep[tuple[Held | None, Reply]]:
            if held is None or not _is_of(held, peer):
                return HeldStep((None, Reply.NOTHING))
            kept, reply = worker.answered(held, held.attempt, verdict, self._store.boot, now)
            return HeldStep((kept, reply), keep=kept)

        changes = [(key, partial(rule, verdict)) for key, verdict in ended]
        for (key, _), (tomb, reply) in zip(
            ended, await self._store.change_held(changes), strict=True
        ):
            if tomb is not None:
                self._let_go(key)
            if reply is Reply.CANCELLED and tomb is not None:
                self._network.send(peer, "cancelled", wire.about(key, tomb.attempt))

    async def _end_lapsed(self, now: float) -> None:
        """Exclusive work stops when its lease is over by our own clock."""
        over = [
            key
            for key in self._terms.over(now)
            if key in self._seats and self._seats[key].held.delivery is Delivery.EXCLUSIVE
        ]
        for key in over:
            seat = self._seats[key]
            if not seat.running:
                continue

            def rule(held: Held | None, attempt: int = seat.held.attempt) -> HeldStep[None]:
                return HeldStep(None, keep=worker.lapsed(held, attempt, now))

            self._let_go(key, at_once=True)
            await self._store.change_held([(key, rule)])


def _is_of(held: Held | None, peer: str) -> bool:
    return held is not None and held.origin == peer


def _chunks(lines: list[Line]) -> Iterator[list[Line]]:
    """Yield ``lines`` in parts that fit into a message."""
    for start in range(0, len(lines), LINES_PER_FRAME):
        yield lines[start : start + LINES_PER_FRAME]


def _inputs(spec: Spec) -> list[tuple[str, int]]:
    files = [(entry.sha256, entry.size) for entry in spec.files]
    return files if spec.payload is not None else [*files, (spec.payload_sha256, spec.payload_size)]
