"""The way of another's job here: inputs fetched, a place found, run, its outcome written down."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from offload.blobs import Blobs
from offload.clock import Clock
from offload.distributor import wire
from offload.distributor.fetching import fetch_all
from offload.distributor.incoming.shelf import Out, Seat, Shelf
from offload.distributor.incoming.tale import Tale
from offload.distributor.wire import Key, Network
from offload.errors import BlobMismatch, BlobMissing, DiskFull, PeerUnreachable
from offload.events import Bus
from offload.leases import worker
from offload.tasks import Tasks
from offload.work.executors import News
from offload.work.jobs import Delivery, Held, HeldState, Outcome, Result
from offload.work.manager import Manager, RunEnded, SlotFree, Work
from offload.work.store import HeldStep, Store

log = logging.getLogger(__name__)
T = TypeVar("T")
FETCH_AGAIN_S: Final = 1.0
DISK_FULL_EVERY_S: Final = 5.0
GATHER_S: Final = 0.02  # while others are in line, for so long short ones are written down together
EARLY_S: Final = 2 * GATHER_S
EARLY_LIMIT: Final = 64
SHORT_S: Final = 0.2
LEASE_OVER: Final = "its lease was over before it began"
HANDED_BACK: Final = "handed back: the instance was shut down"


class Course:
    """Takes each seat of ``shelf`` to the outbox."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        manager: Manager,
        store: Store,
        blobs: Blobs,
        network: Network,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._shelf = shelf
        self._manager = manager
        self._store = store
        self._blobs = blobs
        self._network = network
        self._bus = bus
        self._clock = clock
        self._handing_back = self._closed = False
        self._at_work: dict[Key, list[Callable[[], None]]] = {}  # and what follows when it is over
        self._gathering: dict[str, asyncio.Task[None]] = {}  # by queue
        self._tasks = Tasks()

    def line_up(self, key: Key, seat: Seat) -> None:
        """Fetch its inputs and wait for a place, unless that is under way."""
        if not seat.entered:
            seat.entered = True
            self._tasks.start(self._fetch_and_enter(key, seat))

    def renew(self, key: Key, seat: Seat) -> None:
        """Tell the process of exclusive work that runs of its new lease: it ends with it."""
        if seat.running and seat.held.delivery is Delivery.EXCLUSIVE:
            self._manager.runs.renew(key[1], seat.running, self._shelf.terms.until(key))

    def let_go(self, key: Key, *, at_once: bool = False, hurried: bool = False) -> None:
        """Forget the seat; whatever still runs of it is stopped, and leads to nothing."""
        seat = self._shelf.remove(key)
        if seat is None:
            return
        if key not in self._at_work:
            if seat.entered and not seat.running:
                self._leave(key)
        elif seat.running:
            self._manager.runs.stop(key[1], seat.running, at_once=at_once, hurried=hurried)

    def waits(self, key: Key) -> bool:
        """Say whether a job was written down early as STARTED, and waits for its turn."""
        seat = self._shelf.seats.get(key)
        return seat is not None and seat.early is not None and not seat.running

    def when_over(self, key: Key, then: Callable[[], None]) -> None:
        """Call ``then`` when nothing of ``key`` runs here: now, or when what runs has ended."""
        following = self._at_work.get(key)
        if following is None:
            then()
        else:
            following.append(then)

    async def hand_back(self, reason: str) -> None:
        """Drain: what is not done goes back to its origin, at no cost to the job."""
        self._handing_back = True
        for key, seat in tuple(self._shelf.seats.items()):
            if seat.running:
                self._manager.runs.stop(key[1], seat.running)
            else:
                with suppress(DiskFull):  # what stays here is taken up by the next boot
                    await self.give_back(key, reason)

    def take_off(self, key: Key, seat: Seat, reason: str) -> None:
        """End what runs of a seat; if that ends it, the job goes back at no cost."""
        seat.taken_off = reason
        self._manager.runs.stop(key[1], seat.running)

    async def close(self) -> None:
        """End what runs in the background."""
        self._closed = True
        await self._tasks.close()

    # --- inside ----------------------------------------------------------------------------

    async def _fetch_and_enter(self, key: Key, seat: Seat) -> None:
        """Bring the inputs here, then wait in line for a place."""
        never = self._manager.runs.stock.never(seat.spec.needs)
        if never:  # it was taken before what there is was declared anew
            await self._insist(key, seat, partial(self.give_back, key, never))
            return
        missing = seat.spec.inputs()
        for sha256, _ in missing:
            self._blobs.pin(sha256)
        reason = ""
        try:
            while self._shelf.seats.get(key) is seat and not reason:
                try:
                    await fetch_all(self._network, self._blobs, seat.held.origin, missing)
                    break
                except (PeerUnreachable, BlobMismatch) as error:
                    log.info("inputs of job %s are not here yet: %s", key[1], error)
                    await self._clock.sleep(FETCH_AGAIN_S)
                except DiskFull:  # that is no fault of the job: it goes elsewhere
                    full = partial(self.give_back, key, "its disk is full")
                    await self._insist(key, seat, full)
                except BlobMissing as error:
                    reason = f"its input files could not be brought here: {error}"
        finally:
            for sha256, _ in missing:
                self._blobs.unpin(sha256)
        if self._shelf.seats.get(key) is seat:
            self.when_over(key, partial(self._enter, key, seat, reason))

    def _enter(self, key: Key, seat: Seat, reason: str) -> None:
        if self._shelf.seats.get(key) is seat:
            begin, owner = partial(self._begin, key, seat, reason), seat.held.origin
            self._manager.runs.enter(key, seat.spec.topic, owner, begin, seat.spec.needs)
            if not seat.running:
                self._gather(seat)

    def _begin(self, key: Key, seat: Seat, reason: str) -> None:
        if seat.early is None or not seat.early.is_set() or reason:
            self._tasks.start(self._run(key, seat, reason))
        elif self._begun(key, seat):
            self._call(key, seat)
        else:
            asyncio.get_running_loop().call_soon(self._leave, key)

    async def _run(self, key: Key, seat: Seat, reason: str) -> None:
        started = False
        try:
            started = await self._start(key, seat)
        finally:
            if not started:
                self._leave(key)
        if started and reason:
            self._at_work[key] = []
            self._ended(key, seat, Outcome(Result.FAILED, reason=reason))
        elif started:
            self._call(key, seat)

    def _call(self, key: Key, seat: Seat) -> None:
        self._at_work[key] = []
        news, ended = partial(self._send_news, key, seat), partial(self._ended, key, seat)
        self._manager.runs.begin(self._work(key, seat), news, ended)

    def _leave(self, key: Key) -> None:
        self._manager.runs.leave(key)
        self._bus.publish(SlotFree())

    def _ended(self, key: Key, seat: Seat, outcome: Outcome) -> None:
        self._leave(key)
        for then in self._at_work.pop(key, ()):
            then()
        if not self._closed:
            self._tasks.start(self._write_down(key, seat, outcome))

    async def _write_down(self, key: Key, seat: Seat, outcome: Outcome) -> None:
        if seat.held.delivery is not Delivery.AT_MOST_ONCE and self._coming(seat):
            await asyncio.shield(self._gather(seat))
        await self._conclude(key, seat, outcome)
        self._manager.runs.recorded(key)
        self._bus.publish(RunEnded())

    async def _start(self, key: Key, seat: Seat) -> bool:
        """Write down that it is STARTED, before the consumer is called; False: it may not run."""
        if seat.early is not None:
            await seat.early.wait()
            if seat.early is not None:
                return self._begun(key, seat)
        if self._shelf.seats.get(key) is not seat:
            return False
        if not self._may_start(key, seat):
            seat.entered = False  # lined up again when its origin says ok
            return False
        attempt = seat.held.attempt
        try:
            [started] = await self._store.change_held([(key, partial(self._started, attempt))])
        except DiskFull:
            seat.entered = False
            return False
        if self._shelf.seats.get(key) is not seat:
            return False
        if started is not None and not self._may_start(key, seat):  # while that was written down
            why = HANDED_BACK if self._handing_back else LEASE_OVER
            await self._insist(key, seat, partial(self.give_back, key, why, over=True))
            return False
        if started is None:
            seat.entered = False  # for the higher attempt under which it was offered meanwhile
            if seat.held.attempt == attempt:
                del self._shelf.seats[key]
            return False
        seat.held, seat.running, seat.started_at = started, attempt, self._clock.now()
        return True

    # --- short ones, many at a time -----------------------------------------------------------

    def _coming(self, seat: Seat) -> list[Key]:
        """Return who comes next where ``seat`` is, if what is in line there is short."""
        run_s = self._manager.runs.mean_s(seat.spec.topic)
        short = run_s is not None and run_s <= SHORT_S
        return self._manager.runs.coming(seat.queue, EARLY_LIMIT) if short else []

    def _gather(self, seat: Seat) -> asyncio.Task[None]:
        """Return what ends when it is time to write down together what has gathered."""
        task = self._gathering.get(seat.queue)
        if task is None or task.done():
            task = self._gathering[seat.queue] = self._tasks.start(self._wait(seat))
        return task

    async def _wait(self, seat: Seat) -> None:
        await self._clock.sleep(GATHER_S)
        self._tasks.start(self._write_early(seat))

    async def _write_early(self, seat: Seat) -> None:
        """
        Write down that those who come next are STARTED, so that no place waits for a disk.

        Who is not called after all goes back, or on, as one that has not begun. After a crash it
        counts as begun: so a job is written down early in its first attempt only.
        """
        early = self._next(seat)
        if not early:
            return
        for _, known in early:
            known.early = asyncio.Event()
        kept: list[Held | None] = [None] * len(early)
        try:
            kept = await self._store.change_held(
                [(key, partial(self._started, known.held.attempt)) for key, known in early]
            )
        except DiskFull:
            log.debug("disk full: who comes next is not written down early")
        finally:
            for (_, known), started in zip(early, kept, strict=True):
                if known.early is not None:
                    known.early.set()
                if started is None:
                    known.early = None

    def _next(self, seat: Seat) -> list[tuple[Key, Seat]]:
        """Return those of others' jobs in its line that will begin soon, and may be early."""
        runs, begins_in_s, found = self._manager.runs, 0.0, list[tuple[Key, Seat]]()
        for key in self._coming(seat):
            known = self._shelf.seats.get(key)
            if begins_in_s > EARLY_S:
                break
            if known is not None:
                run_s = runs.mean_s(known.spec.topic) or 0.0
                begins_in_s += run_s / max(1, runs.places_in(seat.queue))
                if run_s <= SHORT_S and self._may_be_early(known):
                    found.append((key, known))
        return found

    def _may_be_early(self, seat: Seat) -> bool:
        first = seat.held.attempt == 1 and seat.held.delivery is Delivery.AT_LEAST_ONCE
        return first and seat.early is None and not (seat.leaving or self._handing_back)

    def _begun(self, key: Key, seat: Seat) -> bool:
        """The turn of one that was written down as STARTED has come; False: it may not run."""
        if self._shelf.seats.get(key) is not seat:
            return False
        if not self._may_start(key, seat):
            seat.entered = False
            return False
        now, boot = self._clock.now(), self._store.boot
        seat.held = replace(seat.held, state=HeldState.STARTED, boot=boot)
        seat.running, seat.started_at = seat.held.attempt, now
        return True

    def _may_start(self, key: Key, seat: Seat) -> bool:
        lasting = seat.held.delivery is not Delivery.EXCLUSIVE
        return not (self._handing_back or seat.leaving) and (
            lasting or self._shelf.terms.holds(key, self._clock.now())
        )

    def _started(self, attempt: int, held: Held | None) -> HeldStep[Held | None]:
        kept = worker.start(held, attempt, self._store.boot, self._clock.now())
        return HeldStep(kept, keep=kept)

    def _work(self, key: Key, seat: Seat) -> Work:
        held, until = seat.held, None
        if held.delivery is Delivery.EXCLUSIVE:
            until = self._shelf.terms.until(key)
        return Work(*key, seat.running, held.retry_count, seat.spec, held.properties, until)

    def _send_news(self, key: Key, seat: Seat, news: News) -> None:
        if seat.tale is None:
            seat.tale = Tale()
        seat.tale.say((news.wall, news.kind, news.text))
        self._shelf.tell(key, seat)

    async def _conclude(self, key: Key, seat: Seat, outcome: Outcome) -> None:
        taken_off = seat.taken_off or (HANDED_BACK if self._handing_back else "")
        if taken_off and outcome.result is Result.STOPPED:
            if seat.held.delivery is not Delivery.AT_MOST_ONCE:
                await self._insist(key, seat, partial(self.give_back, key, taken_off, over=True))
                if self._shelf.seats.get(key) is seat:
                    self._shelf.remove(key)
                return
            # It ran, and must not run again: a refusal would free it.
            outcome = outcome._replace(result=Result.CRASHED, reason=taken_off)
        done = await self._insist(key, seat, partial(self._done, key, outcome))
        if self._shelf.seats.get(key) is seat:
            self._shelf.remove(key)
        if done is not None:
            self._shelf.outbox[key] = Out(done, tale=seat.tale)
            self._shelf.push(key, self._shelf.outbox[key], self._clock.now())

    async def _insist(
        self, key: Key, seat: Seat, write_down: Callable[[], Awaitable[T]]
    ) -> T | None:
        """
        Write down what became of a seat; with a full disk, as soon as there is room again.

        Nothing is written once there is another: what is kept under its key is that one's.
        """
        while self._shelf.seats.get(key, seat) is seat:
            try:
                return await write_down()
            except DiskFull:
                log.warning("disk full: what became of job %s waits for room", key[1])
                await self._clock.sleep(DISK_FULL_EVERY_S)
        return None

    async def _done(self, key: Key, outcome: Outcome) -> Held | None:
        now = self._clock.now()

        def rule(held: Held | None) -> HeldStep[Held | None]:
            kept = worker.done(held, self._store.boot, outcome, now)
            return HeldStep(kept, keep=kept)

        [done] = await self._store.change_held([(key, rule)])
        return done

    async def give_back(self, key: Key, reason: str, *, over: bool = False) -> None:
        """Return a job that has not begun, or is ``over``, to its origin, at no cost to the job."""
        now, seat = self._clock.now(), self._shelf.seats.get(key)
        early = self.waits(key)

        def rule(held: Held | None) -> HeldStep[Held | None]:
            kept = worker.handed_back(held, reason, now, over=over or early)
            return HeldStep(kept, keep=kept)

        if seat is not None:
            seat.leaving = early
        try:
            [back] = await self._store.change_held([(key, rule)])
        finally:
            if seat is not None:
                seat.leaving = False
        if back is not None:  # else it began, or ended, meanwhile
            self.let_go(key)
            about = wire.about(key, back.attempt, reason=reason)
            self._network.send(back.origin, "refused", about)
