"""
Makes jobs when it is time.

What fires is decided by the calendar, by the wall clock. A firing becomes a job with a key of its
own (schedule and moment), so that one that is tried again after a crash is the same job.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NoReturn, Protocol

from offload.calendar import Due, due, zone_of
from offload.clock import Clock
from offload.errors import Conflict, Malformed, OffloadError, Refused, StoreFault
from offload.events import Bus
from offload.payload import Encoded, decode, shown
from offload.peers.topology import Appeared, Gone, Restarted, TopologyView, Updated
from offload.scheduler.accord import Accord, Handler, Links
from offload.scheduler.book import CLOCK_TRUSTED_S, Book, Entry, Unreadable
from offload.scheduler.records import Condition, Mark, Schedule, Scope, make, times_of
from offload.work.jobs import UNREADABLE, Options

log = logging.getLogger(__name__)
LOOK_S: Final = 5.0  # for so long a jump of the wall clock may go unseen
LATE_S: Final = 5.0  # what is later was missed
TAKEN_OVER_S: Final = 10.0  # beyond the lease: what a change of leader may take
SLEPT_S: Final = 2.0
RETRY_S: Final = 5.0
SHOWN: Final = 5
_Task = tuple[Entry, Due]


class Add(Protocol):
    """How a job is added."""

    def __call__(self, topic: str, encoded: Encoded, options: Options, /) -> Awaitable[object]:
        """Store a job; raise ``OffloadError``."""
        ...


class Scheduler:
    """
    The schedules of one instance, and its part in those of the whole topology.

    Args:
        book: The schedules, already open.
        add: Makes the jobs.
        lease_s: For so long a silent leader leads.
    """

    def __init__(
        self,
        *,
        book: Book,
        links: Links,
        bus: Bus,
        clock: Clock,
        own_id: str,
        view: Callable[[], TopologyView],
        add: Add,
        lease_s: float,
    ) -> None:
        self._book = book
        self._clock = clock
        self._own_id = own_id
        self._view = view
        self._add_job = add
        self._shared_late_s = lease_s + TAKEN_OVER_S
        self._wake = asyncio.Event()
        self._accord = Accord(
            book=book,
            links=links,
            bus=bus,
            clock=clock,
            own_id=own_id,
            view=view,
            changed=self._wake.set,
        )
        bus.listen((Appeared, Updated, Gone, Restarted), lambda _fact: self._wake.set())

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the frames that belong here, for the transport."""
        return self._accord.handlers()

    # --- for people ------------------------------------------------------------------------

    async def plan(
        self,
        topic: str,
        encoded: Encoded,
        when: Mapping[str, Any],
        options: Options,
        *,
        zone: str = "",
        misfire: str = "once",
        scope: str = "instance",
    ) -> dict[str, Any]:
        """
        Add a schedule, or find that it is there already; return what ``all`` says of it.

        Args:
            topic: Of the jobs.
            encoded: Their arguments.
            when: One kind of times, such as ``{"daily": "10:05"}``.
            options: What is wished for them.
            zone: Time zone of the times; "": the machine's.
            misfire: ``skip``, ``once`` or ``all``: what becomes of firings that were missed.
            scope: ``instance`` or ``topology``: who fires.

        Raises:
            UsageError, InvalidTopic, Refused: If it cannot be, or its only moment has passed.
        """
        schedule = make(
            topic,
            encoded,
            times_of(when, zone),
            misfire=misfire,
            scope=scope,
            options=options,
            now=self._clock.wall(),
        )
        if self._book.is_over(schedule):
            raise Refused(f"{schedule.times}: has passed already")
        entry = await self._book.add(schedule)
        self._changed(entry)
        return self._described(entry)

    async def all(self) -> list[dict[str, Any]]:
        """Return all schedules, the next to fire first, those that cannot be read at the end."""
        entries = sorted(
            self._book.there(), key=lambda e: (e.next_at or float("inf"), e.times.value)
        )
        # The next firings of thousands take seconds, in which the others would call us silent.
        found = await asyncio.to_thread(lambda: [self._described(entry) for entry in entries])
        return found + [_unread(broken) for broken in self._book.unreadable()]

    def describe(self, prefix: str) -> dict[str, Any]:
        """Return all about the schedule whose id starts so."""
        found = self._book.find(prefix)
        return _unread(found) if isinstance(found, Unreadable) else self._described(found)

    async def suspend(self, prefix: str) -> dict[str, Any]:
        """Let a schedule fire no more until it is resumed; that holds over a restart."""
        return await self._turn(prefix, Condition.SUSPENDED)

    async def resume(self, prefix: str) -> dict[str, Any]:
        """Let a suspended schedule fire from now on."""
        return await self._turn(prefix, Condition.ACTIVE)

    async def remove(self, prefix: str) -> None:
        """
        Remove the schedule whose id starts so, also one that cannot be read.

        Raises:
            ScheduleNotFound: If there is none.
            Refused: If it stands in the configuration, from where it would come back.
        """
        entry = self._book.find(prefix)
        if isinstance(entry, Unreadable):
            await self._book.forget(entry)
            return
        if entry.declared:
            raise Refused(
                f"schedule {entry.schedule.id} stands in the configuration; remove it there,"
                " or suspend it"
            )
        await self._book.remove(entry)
        self._changed(entry)

    async def declare(self, schedules: Sequence[Schedule]) -> None:
        """Follow a changed configuration, which declares these."""
        gone, there = await self._book.declare(schedules)
        for entry in (*gone, *there):
            self._changed(entry)

    async def _turn(self, prefix: str, condition: Condition) -> dict[str, Any]:
        entry = self._book.find(prefix)
        if isinstance(entry, Unreadable):
            why = f"cannot be read: {entry.reason}; it can only be removed"
            raise Refused(f"schedule {entry.id} {why}")
        if entry.schedule.condition is not condition:
            changed = entry.schedule.changed(condition, self._clock.wall())
            await self._book.change(entry, changed)
            self._changed(entry)
        return self._described(entry)

    def _changed(self, entry: Entry) -> None:
        if entry.shared:
            self._accord.tell(entry)
        self._wake.set()

    def _described(self, entry: Entry) -> dict[str, Any]:
        schedule, zone = entry.schedule, zone_of(entry.times.zone)
        active = schedule.condition is Condition.ACTIVE
        start = max(entry.start, self._clock.wall())
        upcoming = entry.times.upcoming(start, SHOWN) if active else []
        by = self._accord.leader() if entry.shared else self._own_id
        instance = self._view().get(by)
        return {
            "id": schedule.id,
            "topic": schedule.topic,
            "arguments": _arguments(schedule),
            "options": schedule.wishes,
            "when": str(schedule.times),
            "zone": entry.times.zone,
            "misfire": schedule.misfire.value,
            "scope": schedule.scope.value,
            "state": schedule.condition.value,
            "declared": entry.declared,
            "fires": by,
            "fires_name": instance.name if instance else by[:8],
            "last": _iso(entry.mark.fired, UTC) if entry.mark.fired else None,
            "next": [_iso(moment, zone) for moment in upcoming],
            "trouble": entry.trouble,
        }

    # --- firing ----------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Fire what is due until cancelled."""
        while True:
            self._wake.clear()
            wait_s = await self._round()
            until = self._clock.now() + wait_s
            await self._rest(wait_s)
            if self._clock.now() > until + SLEPT_S:
                self._accord.hold()

    async def _rest(self, wait_s: float) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep(wait_s))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait([sleeper, waker], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    async def _round(self) -> float:
        """Fire what is due, each schedule once at most; return the seconds until the next look."""
        self._accord.tick()
        now, steady = self._clock.wall(), self._clock.now()
        own: list[_Task] = []
        shared: list[_Task] = []
        waits = [LOOK_S]
        for entry in self._book.all():
            await self._tidy(entry, now)
            task = self._due(entry, now)
            if task is None and self._is_over(entry):
                await self._end(entry)
            elif task is None:
                waits.append(_until(entry, now))
            elif entry.retry_at > steady:
                waits.append(entry.retry_at - steady)
            elif entry.shared and not entry.owed:
                waits.append(self._accord.ready_in_s())
                shared.append((entry, task))
            else:
                own.append((entry, task))
        if self._accord.ready_in_s():
            shared = []
        async with asyncio.TaskGroup() as group:
            for entry, its in own:
                group.create_task(self._fire(entry, its))
            if shared:
                group.create_task(self._fire_shared(shared))
        return 0.0 if own or shared else max(0.0, min(waits))

    async def _tidy(self, entry: Entry, now: float) -> None:
        """Put right what a wrong clock has left; forget what was removed long ago."""
        try:
            if entry.start > now + CLOCK_TRUSTED_S:
                await self._book.mend(entry)
            elif entry.outdated(now):
                await self._book.forget(entry)
        except OffloadError as error:
            _later(entry, error, self._clock.now())

    def _due(self, entry: Entry, now: float) -> Due | None:
        """Say what this instance is to do about the schedule now, or None."""
        if entry.owed:
            return Due(entry.owed, fires=True)
        mark, leads = entry.mark, self._accord.leads
        if mark.asked and (mark.by == self._own_id or (leads and not self._view().get(mark.by))):
            return Due(mark.fired, fires=True)  # begun, here or by one that is gone
        if entry.next_at is None or entry.next_at > now or (entry.shared and not leads):
            return None
        late_s = self._shared_late_s if entry.shared else LATE_S
        return due(entry.times, entry.schedule.misfire, entry.start, now, late_s)

    async def _fire(self, entry: Entry, task: Due) -> None:
        """Make the job, then note it; after a crash in between it is the same job."""
        try:
            if task.fires:
                await self._make(entry, task.at)
        except OffloadError as error:
            _later(entry, error, self._clock.now())
        else:
            await self._note(entry, entry.mark if entry.owed else Mark(task.at, self._own_id))

    async def _fire_shared(self, tasks: Sequence[_Task]) -> None:
        """Ask the others, tell them that it will be, then make the jobs that nobody else makes."""
        asked: list[_Task] = []
        for entry, its in tasks:
            noted = await self._note(entry, self._asking(its))
            if noted and its.fires:
                asked.append((entry, its))
            elif noted:
                self._accord.tell(entry, mark_only=True)
        agreed = await self._accord.agreed(map(_firing, asked))
        ours = [task for task in asked if _firing(task) in agreed and self._has(task)]
        agreed = await self._accord.agreed(map(_firing, ours), sure=True)
        decided: list[_Task] = []
        for entry, its in filter(self._has, asked):
            owed = its.at if _firing((entry, its)) in agreed else 0.0
            if await self._note(entry, Mark(its.at, self._own_id), owed) and owed:
                decided.append((entry, its))
        async with asyncio.TaskGroup() as group:
            for entry, its in decided:
                group.create_task(self._fire(entry, its))

    def _asking(self, its: Due) -> Mark:
        return Mark(its.at, self._own_id, asked=its.fires)

    def _has(self, task: _Task) -> bool:
        """Say whether the firing is still this instance's: nobody was heard of who has it."""
        entry, its = task
        return entry.mark == self._asking(its)

    async def _note(self, entry: Entry, mark: Mark, owed: float = 0.0) -> bool:
        """Note how far a schedule has come; False: that is to be tried again."""
        try:
            await self._book.mark(entry, mark, owed=owed)
        except OffloadError as error:
            _later(entry, error, self._clock.now())
            return False
        return True

    async def _make(self, entry: Entry, at: float) -> None:
        """Add the job; raise only what another try may help against."""
        schedule = entry.schedule
        key = f"schedule/{schedule.id}/{_iso(at, UTC)}"
        try:
            await self._add_job(
                schedule.topic, schedule.encoded, replace(schedule.options, key=key)
            )
            entry.trouble = ""
            log.info("schedule %s (%s) has fired", schedule.id, schedule.times)
        except Conflict:  # it was made before a crash, and a file has changed since
            log.debug("schedule %s: there is a job of %s already", schedule.id, _iso(at, UTC))
        except OffloadError as error:
            if error.retryable or isinstance(error, StoreFault):
                raise
            entry.trouble = str(error)
            log.warning("schedule %s made no job: %s", schedule.id, error)

    def _is_over(self, entry: Entry) -> bool:
        """Say whether it will never fire again, and it is for this instance to remove it."""
        ended = entry.next_at is None and entry.schedule.condition is Condition.ACTIVE
        return ended and not entry.mark.asked and (self._accord.leads or not entry.shared)

    async def _end(self, entry: Entry) -> None:
        try:
            await self._book.remove(entry)
        except OffloadError as error:
            _later(entry, error, self._clock.now())
        else:
            if entry.shared:
                self._accord.tell(entry)


def _unread(broken: Unreadable) -> dict[str, Any]:
    """Return what is known of a schedule that cannot be read, in the shape of the others."""
    words = ("when", "zone", "misfire", "scope", "fires", "fires_name")
    return {
        "id": broken.id,
        "topic": broken.topic,
        "arguments": {},
        "options": {},
        **dict.fromkeys(words, ""),
        "state": UNREADABLE,
        "declared": broken.declared,
        "last": None,
        "next": [],
        "trouble": f"cannot be read: {broken.reason}",
    }


def _arguments(schedule: Schedule) -> dict[str, Any]:
    """
    Return the jobs' arguments as JSON can show them.

    What others may have sent is not unpacked here: of it, only what jobs are found by.
    """
    if schedule.scope is Scope.TOPOLOGY:
        return dict(schedule.fields)
    encoded = schedule.encoded
    try:
        return {name: shown(value) for name, value in decode(encoded.data, encoded.files).items()}
    except Malformed as error:
        return {"unreadable": str(error)}


def _until(entry: Entry, now: float) -> float:
    """Return the seconds until it is due; if it is already, another is to fire."""
    return LOOK_S if entry.next_at is None or entry.next_at <= now else entry.next_at - now


def _firing(task: _Task) -> tuple[str, float]:
    entry, its = task
    return entry.schedule.id, its.at


def _later(entry: Entry, error: OffloadError, now: float) -> None:
    """Put off what could not be done now; raise what will never be."""
    if not error.retryable:
        raise error
    entry.trouble, entry.retry_at = str(error), now + RETRY_S
    log.warning("schedule %s waits: %s", entry.schedule.id, error)


def _iso(moment: float, zone: tzinfo) -> str:
    exact = "milliseconds" if moment % 1 else "seconds"
    return datetime.fromtimestamp(moment, zone).isoformat(timespec=exact)
