"""What may be asked of the store; the answers are true of what is committed."""

import sqlite3
from asyncio import Future
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from offload.topics import check_pattern
from offload.work.jobs import Attempt, DeadLetter, Held, HeldState, Job, Outcome, Query, Spec, State
from offload.work.store import schema
from offload.work.store.desk import Desk
from offload.work.store.ledger import Ledger
from offload.work.store.letters import UnreadableLetter
from offload.work.store.reads import Due, Reader, Reads
from offload.work.store.schedules import KeptSchedule
from offload.work.store.search import Ended, Found, Register, Unreadable
from offload.work.store.steps import Key
from offload.work.store.waiting import Backlog

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Asking:
    """
    The questions, and the threads that answer them.

    Args:
        connection: The writing connection.
        path: The file; None: it is all in memory, where the writer reads too.
        on_error: Makes what is raised of an error of SQLite.
    """

    _desk: Desk[Ledger]

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None,
        on_error: Callable[[sqlite3.Error], Exception],
    ) -> None:
        self._path = path
        self._on_error = on_error
        self._register = Register()
        self._reader: Desk[Reads] | None = None
        self._finder: Desk[Reads] | None = None  # opened when something is first searched for
        if path is None:
            self._reads = Reads(connection, self._register)
        else:
            self._reader = self._open_reader("store-reader", path)

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

    async def tried(self, job_ids: Collection[str]) -> dict[str, list[tuple[str, str]]]:
        """Return worker and result of the attempts that have ended, of those jobs that have any."""
        return await self._ask(Reads.tried, job_ids)

    async def heard(self, job_ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """
        Return as what of which attempt a worker said the last line that is kept of each job.

        A job whose last line was said here, or that has none, is not among them.
        """
        return await self._ask(Reads.heard, job_ids)

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

    async def queued_topics(self, now: float) -> list[str]:
        """Return the topics that have a job which waits for nothing but a place."""
        return await self._ask(Reads.queued_topics, now)

    async def due(self, topic: str, now: float, limit: int) -> list[Job]:
        """Return the topic's jobs that wait for nothing but a place, in the order to run them."""
        return (await self.due_with_specs(topic, now, limit)).jobs

    async def due_with_specs(self, topic: str, now: float, limit: int) -> Due:
        """Return the same, with what they are to run."""
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

    async def letters(self, numbers: Collection[int] | None = None) -> list[DeadLetter]:
        """Return the dead letters with these numbers, or all of them, the newest first."""
        return await self._ask(Reads.letters, numbers)

    async def unreadable_letters(
        self, numbers: Collection[int] | None = None
    ) -> list[UnreadableLetter]:
        """Return those of them whose outcome cannot be read; ``letters`` does without."""
        return await self._ask(Reads.unreadable_letters, numbers)

    async def count_letters(self) -> int:
        """Return how many dead letters there are."""
        return await self._ask(Reads.count_letters)

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

    def _ask(self, question: Callable[[Reads, *Ts], T], *args: *Ts) -> "Future[T]":
        if self._reader is not None:
            return self._reader.ask(partial(_answered, question, args))
        return self._desk.ask(partial(_answered_in_writer, self._reads, question, args))

    def _look(self, question: Callable[[Reads, *Ts], T], *args: *Ts) -> "Future[T]":
        """Ask what may take a while: in a thread of its own, so that claiming need not wait."""
        if self._path is None:
            return self._ask(question, *args)
        if self._finder is None:
            self._finder = self._open_reader("store-finder", self._path)
        return self._finder.ask(partial(_answered, question, args))

    def _open_reader(self, name: str, path: Path) -> Desk[Reads]:
        return Desk(name, Reader(schema.open_reader(path), self._on_error, self._register))

    async def _close_readers(self) -> None:
        for reader in (self._finder, self._reader):
            if reader is not None:
                await reader.close()


def _answered(question: Callable[[Reads, *Ts], T], args: tuple[*Ts], reads: Reads) -> T:
    return question(reads, *args)


def _answered_in_writer(
    reads: Reads, question: Callable[[Reads, *Ts], T], args: tuple[*Ts], ledger: Ledger
) -> T:
    ledger.flush()
    return question(reads, *args)
