"""The store as the rooms above see it: what may be written. ``asking`` has the questions."""

import sqlite3
from asyncio import Future
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

from offload.clock import Mark
from offload.errors import DiskFull, StoreFault
from offload.work.jobs import DeadLetter, Held, Job, Spec, State
from offload.work.store import changes, letters, schedules, schema
from offload.work.store.asking import Asking
from offload.work.store.desk import Desk
from offload.work.store.ledger import Ledger
from offload.work.store.reserve import Reserve
from offload.work.store.rows import NewsLine
from offload.work.store.schedules import KeptSchedule
from offload.work.store.steps import HeldRule, Key, R, Rule
from offload.work.store.writer import Writer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
PURGE_ROWS: Final = 500  # per transaction, so that others get their turn


class Store(Asking):
    """
    The jobs of one instance, its own and those it holds for others.

    What writes returns after the commit that makes it true, and is done even if the task that
    waits for it is cancelled. Every write may raise ``DiskFull`` (nothing of it was stored; try
    again) or ``StoreFault`` (nothing is written any more).

    Attributes:
        store_id: Random, made with the file; it tells a wiped or restored store from the old one.
        boot: The number of this start.
        mark: The last reading of the clock that was kept before this start.
        notes: What was noted before this start, by name (``keep_note``).
        on_fault: Called on the loop, once, when the store can no longer be trusted.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self.store_id, self.boot, self.mark = schema.start(connection)
        self.notes = schema.notes(connection)
        self.on_fault: Callable[[StoreFault], None] | None = None
        self._told = False
        reserve = None if path is None else Reserve(path.parent)
        self._writer = Writer(connection, reserve, self._faulted)
        super().__init__(connection, path, self._read_error)
        self._desk: Desk[Ledger] = Desk("store-writer", self._writer)

    @classmethod
    def open(cls, folder: Path | None = None, *, memory: bool = False) -> "Store":
        """
        Open the store in ``folder``, made if need be; blocks.

        Args:
            folder: Where ``store.db`` is; None is the same as ``memory``.
            memory: Keep all in memory, for tests.

        Raises:
            StoreFault: If the file is no store, damaged, or of a newer version.
            DiskFull: If there is no room even to count this start.
        """
        if folder is None or memory:
            return cls(schema.open_memory(), None)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / schema.FILE_NAME
        try:
            return cls._open_file(path)
        except DiskFull:
            Reserve(folder).drop()
            return cls._open_file(path)

    @classmethod
    def _open_file(cls, path: Path) -> "Store":
        with schema.told(path):
            connection = schema.open_file(path)
            try:
                return cls(connection, path)
            except BaseException:
                connection.close()
                raise

    @property
    def full(self) -> bool:
        """Whether the disk is full, so that no new work is taken."""
        return self._writer.full

    @property
    def fault(self) -> StoreFault | None:
        """Why the store can no longer be trusted, or None."""
        return self._writer.fault

    @property
    def waiting(self) -> int:
        """How many calls are not answered yet."""
        desks = (self._desk, self._reader, self._finder)
        return sum(desk.waiting for desk in desks if desk is not None)

    @property
    def commits(self) -> int:
        """How many transactions were committed since the start."""
        return self._writer.commits

    async def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state that has any."""
        return {state: count for state, count in self._writer.counts.items() if count}

    async def close(self) -> None:
        """Return when all that was asked is on the disk and the file is closed."""
        await self._close_readers()  # first: a reader keeps the log from being emptied
        await self._desk.close()

    # --- writing ---------------------------------------------------------------------------

    async def insert(
        self,
        job: Job,
        spec: Spec,
        fields: Mapping[str, str | int | float] | None = None,
        most_queued: int = 0,
        told: Callable[[Job], None] | None = None,
    ) -> Job:
        """
        Add a job, and return it with its place in the order.

        A key that stands for the same content (topic, payload, files) returns the job that has it.

        Args:
            job: The job; its ``seq`` is given by the store.
            spec: What is to be run.
            fields: By what it is found: top-level scalars of its payload.
            most_queued: So many may wait; 0: any number.
            told: Hears of it on the loop, before those who wait for the same commit go on, and
                even if who has asked has gone.

        Raises:
            Conflict: If the key, or the id, stands for other content.
            QueueFull: If as many wait as may.
        """
        insert = partial(_written, changes.insert, (job, spec, fields or {}, most_queued))
        return await self._desk.ask(insert, told)

    async def insert_alone(
        self,
        job: Job,
        spec: Spec,
        fields: Mapping[str, str | int | float],
        if_key: str,
        oust: Rule[R],
        most_queued: int = 0,
        told: Callable[[tuple[Job, R | None]], None] | None = None,
    ) -> tuple[Job, R | None]:
        """
        Add a job as the only one of its key that lives (``Options.if_key``).

        The rule ``oust`` decides about the one that it replaces, and its answer is returned too.
        ``told`` is as in ``insert``.

        Raises:
            KeyTaken: If another lives, and is not to be replaced.
            QueueFull: If as many wait as may.
        """
        asked = job, spec, fields, if_key, oust, most_queued
        return await self._desk.ask(partial(_written, changes.insert_alone, asked), told)

    async def line_up_anew(self, place_of: Callable[[str, str], tuple[str, str]]) -> int:
        """Put what has not ended where ``place_of`` (topic, order_by) says: queue and lane."""
        return await self._write(changes.line_up_anew, place_of)

    async def change(
        self,
        steps: Sequence[tuple[str, Rule[R]]],
        told: Callable[[list[R | None]], None] | None = None,
    ) -> list[R | None]:
        """
        Let rules decide about own jobs, all in one transaction: all is kept, or nothing.

        ``told`` hears the answers before those who wait for the same commit go on, and even if
        who has asked has gone.

        Returns:
            The rules' answers; None for an id that is not there, or cannot be read.
        """
        return await self._desk.ask(partial(_written, changes.change, (steps,)), told)

    async def change_alone(
        self,
        steps: Sequence[tuple[str, Rule[R]]],
        told: Callable[[list[R | None]], None] | None = None,
    ) -> list[R | None]:
        """Do the same, unless another job lives that has the key of one: ``KeyTaken``."""
        return await self._desk.ask(partial(_written, changes.change_alone, (steps,)), told)

    async def change_held(self, steps: Sequence[tuple[Key, HeldRule[R]]]) -> list[R]:
        """Let rules decide about others' jobs, in one transaction: all is kept, or nothing."""
        return await self._write(changes.change_held, steps)

    async def remove(self, job_id: str) -> None:
        """Remove an own job for good, with all that is known of it, also an unreadable one."""
        await self._write(changes.remove, job_id)

    async def remove_held(self, keys: Sequence[Key]) -> None:
        """Remove others' jobs for good."""
        await self._write(changes.remove_held, keys)

    async def add_news(
        self,
        job_id: str,
        lines: Sequence[NewsLine],
        limit_of: Callable[[str], int] | None = None,
    ) -> None:
        """
        Add lines to what a job has told.

        The last 1 000 are kept, or as many as ``limit_of`` says of its topic (in another thread).
        """
        await self._write(changes.add_news, job_id, lines, limit_of)

    async def bury(
        self,
        keys: Sequence[Key],
        own_id: str,
        reason: str,
        tomb: Callable[[Held], Held],
        wall: float,
    ) -> list[Key]:
        """Make dead letters of what is still in the outbox; return which (``worker.buried``)."""
        return await self._write(letters.bury, keys, own_id, reason, tomb, wall)

    async def add_letter(self, letter: DeadLetter) -> None:
        """Keep a dead letter, unless it is kept already."""
        await self._write(letters.add_letter, letter)

    async def remove_letters(self, numbers: Collection[int]) -> int:
        """Remove dead letters for good, and return how many went."""
        return await self._write(letters.remove_letters, numbers)

    async def trim_letters(self, most: int) -> int:
        """Remove the oldest dead letters beyond ``most``, and return how many went."""
        return await self._write(letters.trim_letters, most)

    async def put_schedule(self, kept: KeptSchedule) -> None:
        """Keep a schedule, in place of the one with its id."""
        await self._write(schedules.put_schedule, kept)

    async def mark_schedule(
        self, schedule_id: str, fired: float, fired_by: str, *, asked: bool, owed: float
    ) -> None:
        """Keep up to when its firings are settled, and by whom."""
        await self._write(schedules.mark_schedule, schedule_id, fired, fired_by, asked, owed)

    async def remove_schedule(self, schedule_id: str) -> None:
        """Remove a schedule for good."""
        await self._write(schedules.remove_schedule, schedule_id)

    async def keep_note(self, name: str, text: str) -> None:
        """Keep a note for the next start, in place of the one of that name; "" removes it."""
        await self._write(changes.keep_note, name, text)

    async def keep_starts(
        self, starts: Sequence[tuple[str, str, float, float]], now: float
    ) -> None:
        """Keep ``(queue, key, at, until)`` of starts that a rate counts; those that are over go."""
        await self._write(changes.keep_starts, starts, now)

    async def keep_mark(self, mark: Mark) -> None:
        """Keep a reading of the clock for the next start."""
        await self._write(changes.keep_mark, mark)

    async def purge(self, *, tomb_older_than: float) -> int:
        """
        Remove TOMBs kept before a moment (steady seconds), and return how many went.

        Those of at-most-once attempts stay; they go by ``remove_held``.
        """
        gone = 0
        while True:
            some = await self._write(changes.purge, tomb_older_than, PURGE_ROWS)
            gone += some
            if some < PURGE_ROWS:
                return gone

    async def forget(self, seqs: Sequence[int]) -> list[str]:
        """Remove those own jobs for good that have ended, and return the ids of what went."""
        return await self._write(changes.forget, seqs) if seqs else []

    # --- the threads -----------------------------------------------------------------------

    def _write(self, operation: Callable[[Ledger, *Ts], T], *args: *Ts) -> "Future[T]":
        return self._desk.ask(partial(_written, operation, args))

    def _read_error(self, error: sqlite3.Error) -> Exception:
        if not schema.is_fault(error):
            return StoreFault(str(error))
        self._writer.fail(error)
        return StoreFault(str(error))

    def _faulted(self, fault: StoreFault) -> None:
        """Tell of it, from whichever thread found it."""

        def tell() -> None:
            if not self._told and self.on_fault is not None:
                self._told = True
                self.on_fault(fault)

        if not self._desk.call_soon(tell) and self._reader is not None:
            self._reader.call_soon(tell)


def _written(operation: Callable[[Ledger, *Ts], T], args: tuple[*Ts], ledger: Ledger) -> T:
    return operation(ledger, *args)
