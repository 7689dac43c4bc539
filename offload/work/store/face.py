"""The store as the rooms above see it."""

import sqlite3
from asyncio import Future
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from offload.clock import Mark
from offload.errors import DiskFull, StoreFault
from offload.topics import check_pattern
from offload.work.jobs import Attempt, Held, HeldState, Job, Outcome, Query, Spec, State
from offload.work.store import changes, schedules, schema
from offload.work.store.desk import Desk
from offload.work.store.ledger import Ledger
from offload.work.store.reads import Reader, Reads
from offload.work.store.reserve import Reserve
from offload.work.store.schedules import KeptSchedule
from offload.work.store.search import Ended, Found, Register, Unreadable
from offload.work.store.steps import HeldRule, Key, R, Rule
from offload.work.store.waiting import Backlog
from offload.work.store.writer import Writer

T = TypeVar("T")
P = ParamSpec("P")
PURGE_ROWS: Final = 500  # per transaction, so that others get their turn


class Store:
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
        self._path = path
        self._register = Register()
        self._reader: Desk[Reads] | None = None  # None: in memory, where the writer reads too
        self._finder: Desk[Reads] | None = None  # opened when something is first searched for
        if path is None:
            self._reads = Reads(connection, self._register)
        else:
            self._reader = self._open_reader("store-reader", path)
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

    async def close(self) -> None:
        """Return when all that was asked is on the disk and the file is closed."""
        for reader in (self._finder, self._reader):
            if reader is not None:
                await reader.close()  # first: a reader keeps the log from being emptied
        await self._desk.close()

    # --- writing ---------------------------------------------------------------------------

    async def insert(
        self, job: Job, spec: Spec, fields: Mapping[str, str | int | float] | None = None
    ) -> Job:
        """
        Add a job, and return it with its place in the order.

        A key that stands for the same content (topic, payload, files) returns the job that has it.

        Args:
            job: The job; its ``seq`` is given by the store.
            spec: What is to be run.
            fields: By what it is found: top-level scalars of its payload.

        Raises:
            Conflict: If the key, or the id, stands for other content.
        """
        return await self._write(changes.insert, job, spec, fields or {})

    async def insert_alone(
        self,
        job: Job,
        spec: Spec,
        fields: Mapping[str, str | int | float],
        if_key: str,
        oust: Rule[R],
    ) -> tuple[Job, R | None]:
        """
        Add a job as the only one of its key that lives (``Options.if_key``); raise ``KeyTaken``.

        The rule ``oust`` decides about the one that it replaces, and its answer is returned too.
        """
        return await self._write(changes.insert_alone, job, spec, fields, if_key, oust)

    async def line_up_anew(self, place_of: Callable[[str, str], tuple[str, str]]) -> int:
        """Put what has not ended where ``place_of`` (topic, order_by) says: queue and lane."""
        return await self._write(changes.line_up_anew, place_of)

    async def change(self, steps: Sequence[tuple[str, Rule[R]]]) -> list[R | None]:
        """
        Let rules decide about own jobs, all in one transaction: all is kept, or nothing.

        Returns:
            The rules' answers; None for an id that is not there, or cannot be read.
        """
        return await self._write(changes.change, steps)

    async def change_held(self, steps: Sequence[tuple[Key, HeldRule[R]]]) -> list[R]:
        """Let rules decide about others' jobs, in one transaction: all is kept, or nothing."""
        return await self._write(changes.change_held, steps)

    async def remove(self, job_id: str) -> None:
        """Remove an own job for good, with all that is known of it, also an unreadable one."""
        await self._write(changes.remove, job_id)

    async def live_with_key(self, key: str) -> Job | None:
        """Return the own job of this key that has not ended."""
        return await self._write(changes.live_with_key, key)

    async def remove_held(self, keys: Sequence[Key]) -> None:
        """Remove others' jobs for good."""
        await self._write(changes.remove_held, keys)

    async def add_news(
        self,
        job_id: str,
        lines: Sequence[tuple[float, str, str]],
        limit_of: Callable[[str], int] | None = None,
    ) -> None:
        """
        Add ``(wall, kind, text)`` lines to what a job has told.

        The last 1 000 are kept, or as many as ``limit_of`` says of its topic (in another thread).
        """
        await self._write(changes.add_news, job_id, lines, limit_of)

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

    # --- asking ----------------------------------------------------------------------------

    async def job(self, job_id: str) -> Job | None:
        """Return the job, or None."""
        return await self._ask(Reads.job, job_id)

    async def resolve(self, prefix: str) -> str:
        """
        Return the one id that starts with ``prefix``.

        Raises:
            JobNotFound: If there is none.
            AmbiguousId: If there are several.
        """
        return await self._ask(Reads.resolve, prefix)

    async def spec(self, job_id: str) -> Spec | None:
        """Return what the job is to run; None if it is not there or cannot be read."""
        return (await self._ask(Reads.specs, (job_id,))).get(job_id)

    async def specs(self, job_ids: Collection[str]) -> dict[str, Spec]:
        """Return what the jobs are to run, of those that are there."""
        return await self._ask(Reads.specs, job_ids)

    async def known(self, job_ids: Collection[str]) -> set[str]:
        """Return which of the own jobs are there, readable or not."""
        return await self._ask(Reads.known, job_ids)

    async def starts(self, now: float) -> list[tuple[str, str, float]]:
        """Return ``(queue, key, at)`` of the starts that still count, the first one first."""
        return await self._ask(Reads.starts, now)

    async def held_spec(self, key: Key) -> Spec | None:
        """Return what another's job is to run."""
        return await self._ask(Reads.held_spec, key)

    async def outcome(self, job_id: str) -> Outcome | None:
        """Return what came of the job."""
        return await self._ask(Reads.outcome, job_id)

    async def attempts(self, job_id: str) -> list[Attempt]:
        """Return the job's history of attempts, in the order in which they ended."""
        return await self._ask(Reads.attempts, job_id)

    async def news(self, job_id: str, after: int = 0) -> list[tuple[int, float, str, str]]:
        """
        Return ``(number, wall, kind, text)`` of what the job told after line ``after``.

        Where lines were cut, one of the kind ``cut`` stands in their place.
        """
        return await self._ask(Reads.news, job_id, after)

    async def search(
        self, query: Query, limit: int = 100, before_seq: int | None = None
    ) -> list[Found]:
        """
        Return what the query finds, the newest first, also what cannot be read.

        Args:
            query: Which jobs are meant.
            limit: So many at most.
            before_seq: Only jobs older than the one with this ``seq``: the next page.
        """
        return await self._look(Reads.find, query, limit, before_seq)

    async def find(
        self,
        *,
        states: Collection[State] = (),
        topic: str = "**",
        limit: int = 100,
        before_seq: int | None = None,
    ) -> list[Job]:
        """Return readable jobs in these states (none: in any) and of this pattern, newest first."""
        query = Query(frozenset(states), topic=check_pattern(topic))
        found = await self.search(query, limit, before_seq)
        return [job for job in found if isinstance(job, Job)]

    async def count(self, query: Query) -> int:
        """Return how many jobs the query finds."""
        return await self._look(Reads.count, query)

    async def live_counts(self) -> list[tuple[str, str, str, int]]:
        """Return ``(queue, topic, state, jobs)`` of all that has not ended."""
        return await self._look(Reads.live_counts)

    async def ended(
        self, state: State, before_at: float, after: tuple[float, int], limit: int
    ) -> list[Ended]:
        """
        Return a page of the history, the oldest first.

        Args:
            state: Only jobs that ended in this state.
            before_at: Only those that ended before (steady seconds).
            after: ``(finished_at, seq)`` of the last one of the page before.
            limit: So many at most.
        """
        return await self._look(Reads.ended, state, before_at, after, limit)

    async def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state that has any."""
        return {state: count for state, count in self._writer.counts.items() if count}

    async def queued_topics(self, now: float) -> list[str]:
        """Return the topics that have a job which waits for nothing but a place."""
        return await self._ask(Reads.queued_topics, now)

    async def due(self, topic: str, now: float, limit: int) -> list[Job]:
        """Return the topic's jobs that wait for nothing but a place, in the order to run them."""
        return await self._ask(Reads.due, topic, now, limit)

    async def next_due_at(self, now: float) -> float | None:
        """Return when the next of the jobs that wait for a time is due (steady seconds)."""
        return await self._ask(Reads.next_due_at, now)

    async def assigned(self) -> list[Job]:
        """Return the own jobs that are ASSIGNED or ACTIVE, the oldest first."""
        return await self._ask(Reads.assigned)

    async def held(self, states: Collection[HeldState]) -> list[Held]:
        """Return what is kept of others' jobs in these states."""
        return await self._ask(Reads.held, states)

    async def placings(self) -> list[tuple[Job, Outcome | None, bytes]]:
        """Return the jobs whose output files are being put in place, with outcome and plan."""
        return await self._ask(Reads.placings)

    async def live_blobs(self) -> set[str]:
        """
        Return the digests that something may still need.

        Those are the inputs of live jobs, own and others', the outputs that are not yet in place
        or not yet acknowledged, and the large values of jobs in the history.
        """
        return await self._ask(Reads.live_blobs)

    async def backlog(self) -> list[Backlog]:
        """Return how many jobs wait and since when, topic by topic."""
        return await self._ask(Reads.backlog)

    async def waiting_jobs(
        self, topic: str, limit: int, after_seq: int = 0
    ) -> list[tuple[int, str]]:
        """Return ``(seq, id)`` of the topic's jobs that wait, the oldest first, page by page."""
        return await self._ask(Reads.waiting, topic, after_seq, limit)

    async def overdue(self, now: float, limit: int) -> list[str]:
        """Return the ids of jobs that should have started or ended by now, and are let be."""
        return await self._ask(Reads.overdue, now, limit)

    async def next_limit_at(self) -> float | None:
        """Return when the next job is to have started or ended (steady seconds)."""
        return await self._ask(Reads.next_limit_at)

    async def timed(self) -> list[str]:
        """Return the ids of jobs that wait for a time of the wall clock, and never ran."""
        return await self._ask(Reads.timed)

    async def schedules(self) -> list[KeptSchedule]:
        """Return all schedules."""
        return await self._ask(Reads.schedules)

    async def unreadable(self) -> list[str]:
        """Return the ids of the own jobs that were found unreadable since the start."""
        return await self._ask(Reads.unreadable)

    async def unreadable_job(self, job_id: str) -> Unreadable | None:
        """Return what is known of an own job if it cannot be read, or None."""
        return await self._ask(Reads.unreadable_job, job_id)

    async def check(self) -> str:
        """Return ``"ok"``, or what SQLite finds wrong with the file."""
        return await self._ask(Reads.check)

    # --- the threads -----------------------------------------------------------------------

    def _write(
        self,
        operation: Callable[Concatenate[Ledger, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> "Future[T]":
        return self._desk.ask(lambda ledger: operation(ledger, *args, **kwargs))

    def _ask(
        self, question: Callable[Concatenate[Reads, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> "Future[T]":
        def ask(reads: Reads) -> T:
            return question(reads, *args, **kwargs)

        if self._reader is not None:
            return self._reader.ask(ask)
        return self._desk.ask(partial(_ask_in_writer, self._reads, ask))

    def _look(
        self, question: Callable[Concatenate[Reads, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> "Future[T]":
        """Ask what may take a while: in a thread of its own, so that claiming need not wait."""
        if self._path is None:
            return self._ask(question, *args, **kwargs)
        if self._finder is None:
            self._finder = self._open_reader("store-finder", self._path)
        return self._finder.ask(lambda reads: question(reads, *args, **kwargs))

    def _open_reader(self, name: str, path: Path) -> Desk[Reads]:
        reader = Reader(schema.open_reader(path), self._read_error, self._register)
        return Desk(name, reader)

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


def _ask_in_writer(reads: Reads, ask: Callable[[Reads], Any], ledger: Ledger) -> Any:
    ledger.flush()
    return ask(reads)
