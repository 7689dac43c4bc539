"""The schedules that this instance knows: in memory, as they are in the store."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from offload.calendar import Times
from offload.errors import DiskFull, Malformed, ScheduleNotFound, UsageError
from offload.scheduler.records import (
    Condition,
    Mark,
    Schedule,
    Scope,
    again,
    holds_over,
    moment,
    pack,
    topic_of,
    unpack,
)
from offload.work.store import KeptSchedule, Store

log = logging.getLogger(__name__)
SCHEDULES_LIMIT: Final = 10_000
REMOVED_SPARED_S: Final = 30 * 86_400.0
CLOCK_TRUSTED_S: Final = 3 * 3600.0  # what lies further ahead was written by a wrong clock


@dataclass(slots=True)
class Entry:
    """
    One schedule, and how far it has come.

    Attributes:
        times: The schedule's, in a zone that is known.
        declared: It stands in this instance's configuration.
        owed: The moment whose job this instance is still to make, or 0; no other makes it.
        next_at: The first firing that is not settled (wall seconds); None: there is none.
        retry_at: Not before this (steady seconds), since it could not be done.
        trouble: Why the last firing made no job, or "".
    """

    schedule: Schedule
    times: Times
    declared: bool = False
    mark: Mark = field(default_factory=Mark)
    owed: float = 0.0
    next_at: float | None = None
    retry_at: float = 0.0
    trouble: str = ""

    @property
    def shared(self) -> bool:
        """Whether it belongs to the whole topology."""
        return self.schedule.scope is Scope.TOPOLOGY

    @property
    def start(self) -> float:
        """Return the moment after which its firings are not settled."""
        return max(self.schedule.since, self.mark.fired)

    def outdated(self, now: float) -> bool:
        """Say whether it was removed so long ago that nobody need know of it any more."""
        removed = self.schedule.condition is Condition.REMOVED
        return removed and self.schedule.since < now - REMOVED_SPARED_S

    def look(self) -> None:
        """Find the next firing anew, after a change."""
        active = self.schedule.condition is Condition.ACTIVE
        self.next_at = self.times.next_after(self.start) if active else None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A schedule whose row this version cannot read: it never fires, and is never lost (C012)."""

    id: str
    topic: str
    declared: bool
    reason: str


class Book:
    """
    The schedules by their ids, and the rows that cannot be read.

    Args:
        store: Where they are kept.
        wall: The wall clock.
        zone: The time zone of those that name none.
    """

    def __init__(self, store: Store, wall: Callable[[], float], zone: str) -> None:
        self._store = store
        self._wall = wall
        self._zone = zone
        self._entries: dict[str, Entry] = {}
        self._unreadable: dict[str, Unreadable] = {}

    async def open(self, declared: Sequence[Schedule]) -> None:
        """Read what is kept, and bring it in line with what the configuration declares."""
        for kept in await self._store.schedules():
            try:
                schedule = unpack(kept.record)
                mark = Mark(moment(kept.fired), kept.fired_by, kept.asked)
                owed = moment(kept.owed)
            except Malformed as error:
                log.warning("schedule %s is kept, but cannot be read: %s", kept.id, error)
                topic, reason = topic_of(kept.record), error.reason
                self._unreadable[kept.id] = Unreadable(kept.id, topic, kept.declared, reason)
                continue
            entry = self._entry(schedule)
            entry.declared = kept.declared
            entry.mark, entry.owed = mark, owed
            entry.look()
            self._entries[schedule.id] = entry
            if kept.id != schedule.id:  # a former version wrote the same times otherwise
                with suppress(DiskFull):
                    await self.keep(entry)
                    await self._store.remove_schedule(kept.id)
        await self.declare(declared)

    # --- asking ----------------------------------------------------------------------------

    def all(self) -> list[Entry]:
        """Return all entries, also removed ones, in the order of their ids."""
        return [self._entries[name] for name in sorted(self._entries)]

    def get(self, schedule_id: str) -> Entry | None:
        """Return the entry with this id."""
        return self._entries.get(schedule_id)

    def there(self) -> Iterable[Entry]:
        """Return the entries that are not removed."""
        return [e for e in self.all() if e.schedule.condition is not Condition.REMOVED]

    def unreadable(self) -> list[Unreadable]:
        """Return those that are kept and cannot be read, in the order of their ids."""
        return [self._unreadable[name] for name in sorted(self._unreadable)]

    def find(self, prefix: str) -> Entry | Unreadable:
        """
        Return the schedule whose id starts so.

        Raises:
            ScheduleNotFound: If there is none.
            UsageError: If there are several.
        """
        whole = self._unreadable.get(prefix)  # whatever is in a damaged id
        if whole is not None:
            return whole
        kept = {e.schedule.id: e for e in self.there()} | self._unreadable
        found = [name for name in kept if prefix and name.startswith(prefix.lower())]
        if not found:
            raise ScheduleNotFound(prefix)
        if len(found) > 1:
            raise UsageError(f"{prefix}: more than one schedule starts so; give more characters")
        return kept[found[0]]

    def is_over(self, schedule: Schedule) -> bool:
        """Say whether it will never fire: its only moment has passed."""
        return self._entry(schedule).times.next_after(self._wall()) is None

    # --- changing --------------------------------------------------------------------------

    async def add(self, schedule: Schedule) -> Entry:
        """Add a schedule, or find that it is there; it is on disk when this returns."""
        entry = self._entries.get(schedule.id)
        if entry is None:
            if len(self._entries) >= SCHEDULES_LIMIT:
                raise UsageError(f"there are {SCHEDULES_LIMIT} schedules; no more can be kept")
            entry = self._entry(schedule)
            await self.keep(entry)
            entry = self._entries.setdefault(schedule.id, entry)
        else:
            await self.change(entry, again(entry.schedule, schedule))
        return entry

    async def declare(self, declared: Sequence[Schedule]) -> tuple[list[Entry], list[Entry]]:
        """Take these for what the configuration declares; return those that went, and these."""
        for schedule in declared:
            await self._declare(schedule)
        names = {schedule.id for schedule in declared}
        gone = [e for e in self.all() if e.declared and e.schedule.id not in names]
        for entry in gone:
            entry.declared = False
            await self.remove(entry)
        return gone, [entry for entry in self.all() if entry.declared]

    async def change(self, entry: Entry, schedule: Schedule) -> None:
        """Keep another version of a schedule."""
        if schedule != entry.schedule:
            await self._store.put_schedule(replace(_kept(entry), record=pack(schedule)))
            entry.schedule = schedule
            entry.look()

    async def remove(self, entry: Entry) -> None:
        """Remove a schedule; one of the whole topology is remembered as removed."""
        if entry.shared:
            await self.change(entry, entry.schedule.changed(Condition.REMOVED, self._wall()))
        else:
            await self.forget(entry)

    async def forget(self, entry: Entry | Unreadable) -> None:
        """Keep nothing of a schedule."""
        if isinstance(entry, Unreadable):
            await self._store.remove_schedule(entry.id)
            self._unreadable.pop(entry.id, None)
        else:
            await self._store.remove_schedule(entry.schedule.id)
            self._entries.pop(entry.schedule.id, None)

    async def mark(self, entry: Entry, mark: Mark, *, owed: float = 0.0) -> None:
        """Note how far a schedule has come; it is on disk when this returns."""
        before = entry.mark, entry.owed
        entry.mark, entry.owed = mark, owed
        entry.look()
        try:
            await self._store.mark_schedule(
                entry.schedule.id, mark.fired, mark.by, asked=mark.asked, owed=owed
            )
        except BaseException:
            if entry.mark == mark:
                entry.mark, entry.owed = before
                entry.look()
            raise

    def merge(self, schedule: Schedule) -> Entry | None:
        """Take in another instance's version, not on disk yet; None: it changes nothing."""
        entry = self._entries.get(schedule.id)
        if entry is None:
            entry = self._entry(schedule)
            if entry.outdated(self._wall()):  # else those who have forgotten it told each other
                return None
            if len(self._entries) >= SCHEDULES_LIMIT:
                log.warning("schedule %s of another instance is one too many", schedule.id)
                return None
            self._entries[schedule.id] = entry
            return entry
        if not holds_over(schedule, entry.schedule):
            return None
        entry.schedule = schedule
        gone = schedule.condition is Condition.REMOVED
        if entry.declared and gone and entry.times.next_after(self._wall()) is not None:
            entry.schedule = schedule.changed(Condition.ACTIVE, self._wall())
        entry.look()
        return entry

    def merge_mark(self, entry: Entry, mark: Mark, own_id: str) -> bool:
        """Take in how far another instance knows it to have come; False: not further than we."""
        if mark.fired > self._wall() + CLOCK_TRUSTED_S:
            return False
        if not entry.mark.gives_way(mark, own_id):
            return False
        entry.mark = mark
        entry.look()
        return True

    def allow(self, entry: Entry, mark: Mark, own_id: str) -> bool:
        """Say whether another may fire, as ``mark`` notes; False: we know of such a firing."""
        beyond = mark.fired > self._wall() + CLOCK_TRUSTED_S  # its clock is wrong, or ours
        same = (entry.mark.fired, entry.mark.by) == (mark.fired, mark.by)
        return beyond or self.merge_mark(entry, mark, own_id) or same

    async def keep(self, entry: Entry) -> None:
        """Bring to disk what was merged, in place of a row that could not be read."""
        await self._store.put_schedule(_kept(entry))
        self._unreadable.pop(entry.schedule.id, None)

    async def mend(self, entry: Entry) -> None:
        """After a wall clock that was far ahead was put right: count from now on."""
        now = self._wall()
        log.warning("schedule %s has come further than the clock; it goes on from now", entry.times)
        entry.schedule = replace(entry.schedule, since=now, version=entry.schedule.version + 1)
        entry.mark = Mark(now, entry.mark.by)
        entry.look()
        await self.keep(entry)

    # --- inside ----------------------------------------------------------------------------

    def _entry(self, schedule: Schedule) -> Entry:
        zone = schedule.times.zone or self._zone
        entry = Entry(schedule, replace(schedule.times, zone=zone))
        entry.look()
        return entry

    async def _declare(self, schedule: Schedule) -> None:
        known = self._entries.get(schedule.id)
        gone = known is None or known.schedule.condition is Condition.REMOVED
        if gone and self.is_over(schedule):
            return
        entry = await self.add(schedule)
        if not entry.declared:
            entry.declared = True
            await self.keep(entry)


def _kept(entry: Entry) -> KeptSchedule:
    return KeptSchedule(
        entry.schedule.id, pack(entry.schedule), entry.declared, *entry.mark, entry.owed
    )
