"""
The questions that the store answers. Each is one or two statements that an index serves.

A row that this version cannot read is left out, noted once in the log, and kept (CONFORMANCE C012).
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from offload.errors import AmbiguousId, JobNotFound, Malformed
from offload.work.jobs import (
    Attempt,
    DeadLetter,
    Held,
    HeldState,
    Job,
    Outcome,
    Query,
    Spec,
    State,
    is_id,
)
from offload.work.store import bulk, letters, rows, schedules, search, waiting
from offload.work.store.letters import UnreadableLetter
from offload.work.store.steps import Key

T = TypeVar("T")

_JOB: Final = rows.select(rows.JOB_FIELDS, "jobs")
_ID: Final = rows.JOB_FIELDS.index("id")
_HELD: Final = rows.select(rows.HELD_FIELDS, "held")
_ATTEMPT: Final = rows.select(rows.ATTEMPT_FIELDS, "attempts")
# Without the hint SQLite walks through all that is queued.
_READY: Final = (
    "jobs INDEXED BY jobs_ready WHERE state = 'queued' AND not_before <= 0 AND behind = 0"
)
_WAITING: Final = (
    "jobs INDEXED BY jobs_waiting WHERE state = 'queued' AND not_before > 0 AND behind = 0"
)
SMALL_BYTES: Final = 4_096
_TURN: Final = "waits_since - 600.0 * priority"  # as the indexes have it: jobs.AGEING_S

JOB_BY_ID: Final = f"{_JOB} WHERE id = ?"
# A large payload is not read before its job has found a place.
DUE: Final = f"""
    SELECT {rows.columns(rows.JOB_FIELDS)}, iif(small, envelope, NULL), iif(small, payload, NULL)
    FROM jobs LEFT JOIN (
        SELECT seq, envelope, payload, coalesce(length(payload), 0) <= {SMALL_BYTES} AS small
        FROM specs
    ) USING (seq)
    WHERE seq IN (
        SELECT seq FROM (
            SELECT seq, turn FROM (
                SELECT seq, {_TURN} AS turn FROM {_READY} AND topic = :topic
                ORDER BY {_TURN}, seq LIMIT :limit
            )
            UNION ALL
            SELECT seq, {_TURN} FROM {_WAITING} AND topic = :topic AND not_before <= :now
        )
        ORDER BY turn, seq LIMIT :limit
    )
    ORDER BY {_TURN}, seq
"""  # noqa: S608 - put together of the constants above
# From each topic straight to the next one, however many jobs it has.
QUEUED_TOPICS: Final = f"""
    WITH RECURSIVE
    ready (topic) AS (
        SELECT min(topic) FROM {_READY}
        UNION ALL
        SELECT (SELECT min(topic) FROM {_READY} AND topic > ready.topic)
        FROM ready WHERE ready.topic IS NOT NULL
    ),
    waiting (topic) AS (
        SELECT min(topic) FROM {_WAITING}
        UNION ALL
        SELECT (SELECT min(topic) FROM {_WAITING} AND topic > waiting.topic)
        FROM waiting WHERE waiting.topic IS NOT NULL
    )
    SELECT topic FROM ready WHERE topic IS NOT NULL
    UNION
    SELECT topic FROM waiting WHERE topic IS NOT NULL AND EXISTS (
        SELECT 1 FROM {_WAITING} AND jobs.topic = waiting.topic AND not_before <= ?
    )
    ORDER BY topic
"""  # noqa: S608 - put together of the constants above
NEXT_DUE: Final = (
    "SELECT not_before FROM jobs INDEXED BY jobs_next"
    " WHERE state = 'queued' AND not_before > 0 AND behind = 0 AND not_before > ?"
    " ORDER BY not_before LIMIT 1"
)
HEARD: Final = (
    "SELECT id, news.attempt, said FROM jobs JOIN news USING (seq)"
    " WHERE number = (SELECT max(number) FROM news WHERE news.seq = jobs.seq) AND id IN"
)
TRIED: Final = "SELECT id, attempts.worker, result FROM jobs JOIN attempts USING (seq) WHERE id IN"
ASSIGNED: Final = f"{_JOB} WHERE state IN ('assigned', 'active') ORDER BY seq"
_LIVE: Final = "'queued', 'assigned', 'active'"
_KNOWN: Final = ", ".join(f"'{state}'" for state in State)
# What a run, a placing or an acknowledgement still needs, and large values as long as their job.
# In a state that this version does not know a job may be one that another version is to run.
LIVE_SPECS: Final = f"""
    SELECT envelope, payload FROM jobs JOIN specs USING (seq)
    WHERE state IN ({_LIVE}) AND blobs > 0
    UNION ALL
    SELECT envelope, payload FROM jobs INDEXED BY jobs_ended JOIN specs USING (seq)
    WHERE state NOT IN ({_LIVE}) AND state NOT IN ({_KNOWN}) AND blobs > 0
    UNION ALL
    SELECT envelope, payload FROM held JOIN held_specs USING (store_id, job_id)
    WHERE state != 'tomb' AND blobs > 0
"""  # noqa: S608 - put together of the constants above
LIVE_OUTCOMES: Final = """
    SELECT outcome FROM placing CROSS JOIN outcomes USING (seq)
    UNION ALL
    SELECT outcome FROM held WHERE state != 'tomb' AND outcome IS NOT NULL
    UNION ALL
    SELECT outcome FROM dead_letters
"""
LARGE_VALUES: Final = "SELECT value_blob FROM outcomes WHERE value_blob IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Due:
    """
    The first jobs of a topic that wait for nothing but a place.

    Attributes:
        jobs: In the order to run them.
        specs: By id, what those are to run whose payload is small.
        whole: There are no more.
    """

    jobs: list[Job]
    specs: dict[str, Spec]
    whole: bool


class Reads:
    """The questions, on one connection, in one thread."""

    def __init__(
        self, connection: sqlite3.Connection, register: search.Register | None = None
    ) -> None:
        self._connection = connection
        self._unreadable = search.Register() if register is None else register
        self._known = bulk.Lookup("SELECT id FROM jobs WHERE id IN")
        self._heard = bulk.Lookup(HEARD)
        self._tried = bulk.Lookup(TRIED)
        self._specs = bulk.Lookup(
            "SELECT id, envelope, payload FROM jobs LEFT JOIN specs USING (seq) WHERE id IN"
        )

    # --- one job ---------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        """Return the job, or None."""
        found = self._jobs(self._connection.execute(JOB_BY_ID, (job_id,)))
        return found[0] if found else None

    def resolve(self, prefix: str) -> str:
        """Return the one id that starts with ``prefix``."""
        start = prefix.lower()
        if not is_id(start.ljust(26, "0")):
            raise JobNotFound(prefix)
        found = self._connection.execute(
            "SELECT id FROM jobs WHERE id >= ? AND id < ? LIMIT 2", (start, start + "~")
        ).fetchall()
        if not found or not start:
            raise JobNotFound(prefix)
        if len(found) > 1:
            raise AmbiguousId(prefix)
        job_id: str = found[0][0]
        return job_id

    def specs(self, job_ids: Collection[str]) -> dict[str, Spec]:
        """Return the specs of those jobs that are there."""
        found = self._specs.run(self._connection.cursor(), [(job_id,) for job_id in job_ids])
        specs = ((row[0], self._read(row[0], rows.read_spec, *row[1:])) for row in found)
        return {job_id: spec for job_id, spec in specs if spec is not None}

    def known(self, job_ids: Collection[str]) -> set[str]:
        """Return which jobs are there, readable or not."""
        found = self._known.run(self._connection.cursor(), [(job_id,) for job_id in job_ids])
        return {job_id for (job_id,) in found}

    def starts(self, now: float) -> list[tuple[str, str, float]]:
        """Return ``(queue, key, at)`` of the starts that still count, the first one first."""
        return self._connection.execute(
            'SELECT queue, "key", at FROM starts WHERE until > ? ORDER BY at', (now,)
        ).fetchall()

    def held_spec(self, key: Key) -> Spec | None:
        """Return what a job of another is to run."""
        row = self._connection.execute(
            "SELECT envelope, payload FROM held_specs WHERE (store_id, job_id) = (?, ?)", key
        ).fetchone()
        return None if row is None else self._read("/".join(key), rows.read_spec, *row)

    def outcome(self, job_id: str) -> Outcome | None:
        """Return what came of the job."""
        row = self._connection.execute(
            "SELECT outcome FROM jobs JOIN outcomes USING (seq) WHERE id = ?", (job_id,)
        ).fetchone()
        return None if row is None else self._read(job_id, rows.read_outcome, row[0])

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the job's history of attempts, in the order of their ends."""
        found = self._connection.execute(
            f"{_ATTEMPT} JOIN jobs USING (seq) WHERE id = ? ORDER BY attempts.rowid",
            (job_id,),
        )
        read = (self._read(job_id, rows.read_attempt, row) for row in found.fetchall())
        return [attempt for attempt in read if attempt is not None]

    def news(self, job_id: str, after: int) -> list[tuple[int, float, str, str]]:
        """Return ``(number, wall, kind, text)`` of what it told after line ``after``."""
        found: list[tuple[int, float, str, str]] = self._connection.execute(
            "SELECT number, wall, kind, text FROM jobs JOIN news USING (seq)"
            " WHERE id = ? AND number > ? ORDER BY number",
            (job_id, after),
        ).fetchall()
        if found and found[0][0] > after + 1:
            number, wall = found[0][:2]
            gone = number - after - 1
            found.insert(0, (number - 1, wall, "cut", f"… {gone} earlier lines were cut"))
        return found

    def tried(self, job_ids: Collection[str]) -> dict[str, list[tuple[str, str]]]:
        """Return worker and result of the attempts of those jobs that have any."""
        tried: dict[str, list[tuple[str, str]]] = {}
        found = self._tried.run(self._connection.cursor(), [(job_id,) for job_id in job_ids])
        for job_id, worker, result in found:
            tried.setdefault(job_id, []).append((worker, result))
        return tried

    def heard(self, job_ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return attempt and number of what each told last, of those that told from afar."""
        found = self._heard.run(self._connection.cursor(), [(job_id,) for job_id in job_ids])
        return {job_id: (attempt, said) for job_id, attempt, said in found if said}

    # --- many jobs -------------------------------------------------------------------------

    def find(self, query: Query, limit: int, before_seq: int | None) -> list[search.Found]:
        """Return what the query finds, the newest first."""
        with self._moment():
            return search.search(self._connection, self._unreadable, query, limit, before_seq)

    def count(self, query: Query) -> int:
        """Return how many jobs the query finds."""
        with self._moment():
            return search.count(self._connection, self._unreadable, query)

    def live_counts(self) -> list[tuple[str, str, str, int]]:
        """Return ``(queue, topic, state, jobs)`` of all that has not ended."""
        return search.live_counts(self._connection)

    def ended(
        self, state: State, before_at: float, after: tuple[float, int], limit: int
    ) -> list[search.Ended]:
        """Return jobs that ended so before a moment, the oldest first."""
        return search.ended(self._connection, state, before_at, after, limit)

    def queued_topics(self, now: float) -> list[str]:
        """Return the topics that have a job which waits for nothing but a place."""
        return [topic for (topic,) in self._connection.execute(QUEUED_TOPICS, (now,))]

    def due(self, topic: str, now: float, limit: int) -> Due:
        """Return the topic's jobs that wait for nothing but a place, in the order to run them."""
        most = limit + len(self._unreadable)
        values = {"topic": topic, "now": now, "limit": most}
        found = self._connection.execute(DUE, values).fetchall()
        due = Due([], {}, whole=len(found) < most)
        for *row, envelope, payload in found:
            job = self._read(row[_ID], rows.read_job, row)
            if job is None or job.id in self._unreadable or len(due.jobs) == limit:
                continue
            due.jobs.append(job)
            if envelope is not None:
                spec = self._read(job.id, rows.read_spec, envelope, payload)
                if spec is not None:
                    due.specs[job.id] = spec
        return due

    def next_due_at(self, now: float) -> float | None:
        """Return when the next of the jobs that wait for a time is due."""
        row = self._connection.execute(NEXT_DUE, (now,)).fetchone()
        return None if row is None else row[0]

    def assigned(self) -> list[Job]:
        """Return the jobs that some instance has."""
        return self._jobs(self._connection.execute(ASSIGNED))

    def held(self, states: Collection[HeldState]) -> list[Held]:
        """Return the rows of others' jobs in these states."""
        found: list[Held | None] = []
        for state in states:
            kind = "state = 'tomb'" if state is HeldState.TOMB else "state != 'tomb' AND state = ?"
            values = () if state is HeldState.TOMB else (state.value,)
            cursor_rows = self._connection.execute(f"{_HELD} WHERE {kind}", values).fetchall()
            found += [self._read(f"{row[0]}/{row[1]}", rows.read_held, row) for row in cursor_rows]
        return [held for held in found if held is not None]

    def placings(self) -> list[tuple[Job, Outcome | None, bytes]]:
        """Return the jobs whose output files are being put in place, with outcome and plan."""
        found = self._connection.execute(
            f"SELECT {rows.columns(rows.JOB_FIELDS, 'jobs')}, outcome, plan"  # noqa: S608
            " FROM placing JOIN jobs USING (seq) LEFT JOIN outcomes USING (seq) ORDER BY seq"
        ).fetchall()
        answer = []
        for *row, packed, plan in found:
            job_id = row[_ID]
            job = self._read(job_id, rows.read_job, row)
            if job is not None:
                outcome = None if packed is None else self._read(job_id, rows.read_outcome, packed)
                answer.append((job, outcome, plan))
        return answer

    # --- the whole -------------------------------------------------------------------------

    def live_blobs(self) -> set[str]:
        """Return the digests that some row may still need."""
        digests: set[str] = set()
        with self._moment():
            for envelope, payload in self._connection.execute(LIVE_SPECS):
                spec = self._read("", rows.read_spec, envelope, payload)
                digests.update(() if spec is None else rows.spec_blobs(spec))
            for (packed,) in self._connection.execute(LIVE_OUTCOMES):
                outcome = self._read("", rows.read_outcome, packed)
                digests.update(() if outcome is None else (f.sha256 for f in outcome.blobs()))
            digests.update(digest for (digest,) in self._connection.execute(LARGE_VALUES))
        return digests

    def backlog(self) -> list[waiting.Backlog]:
        """Return what waits, topic by topic."""
        return waiting.backlog(self._connection)

    def waiting(self, topic: str, after_seq: int, limit: int) -> list[tuple[int, str]]:
        """Return ``(seq, id)`` of the topic's jobs that wait, the oldest first."""
        return waiting.waiting(self._connection, topic, after_seq, limit)

    def overdue(self, now: float, limit: int) -> list[str]:
        """Return the ids of jobs whose time is over, and that nobody stops yet."""
        return waiting.overdue(self._connection, now, limit)

    def next_limit_at(self) -> float | None:
        """Return when the next job's time is over."""
        return waiting.next_limit_at(self._connection)

    def timed(self) -> list[str]:
        """Return the ids of jobs that wait for a time of the wall clock."""
        return waiting.timed(self._connection)

    def letters(self, numbers: Collection[int] | None) -> list[DeadLetter]:
        """Return the dead letters with these numbers, or all, the newest first."""
        return letters.letters(self._connection, numbers)

    def unreadable_letters(self, numbers: Collection[int] | None) -> list[UnreadableLetter]:
        """Return those of them that cannot be read."""
        return letters.unreadable_letters(self._connection, numbers)

    def count_letters(self) -> int:
        """Return how many dead letters there are."""
        return letters.count_letters(self._connection)

    def schedules(self) -> list[schedules.KeptSchedule]:
        """Return all schedules."""
        return schedules.all_schedules(self._connection)

    def unreadable(self) -> list[str]:
        """Return the ids of the jobs that were found unreadable so far, and are still there."""
        there = "SELECT 1 FROM jobs WHERE id = ?"
        found = self._unreadable.ids()
        return [name for name in found if self._connection.execute(there, (name,)).fetchone()]

    def unreadable_job(self, job_id: str) -> search.Unreadable | None:
        """Return what is known of a job that cannot be read."""
        return search.unreadable(self._connection, self._unreadable, job_id)

    def check(self) -> str:
        """Return ``"ok"``, or what SQLite finds wrong with the file."""
        return "\n".join(row[0] for row in self._connection.execute("PRAGMA integrity_check"))

    # --- parts -----------------------------------------------------------------------------

    def _jobs(self, found: sqlite3.Cursor) -> list[Job]:
        jobs = (self._read(row[_ID], rows.read_job, row) for row in found.fetchall())
        return [job for job in jobs if job is not None]

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """
        Let several statements see the same: what is committed at one moment.

        Else a job that changes its state in between is found in both states, or in none. In memory
        the writer asks, whose transaction is open.
        """
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def _read(self, name: str, read: Callable[..., T], *values: Any) -> T | None:
        try:
            return read(*values)
        except Malformed as error:
            self._unreadable.note(name, error.reason)
            return None


class Reader:
    """What the reading desk's thread works with."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_error: Callable[[sqlite3.Error], Exception],
        register: search.Register | None = None,
    ) -> None:
        self.reads = Reads(connection, register)
        self._connection = connection
        self._on_error = on_error

    def serve(self, calls: Sequence[Callable[[Reads], Any]]) -> list[tuple[Any, Exception | None]]:
        """Answer each question from what is committed."""
        return [self._answer(call) for call in calls]

    def rest(self) -> float | None:
        """Wait without end: there is nothing to do in between."""
        return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _answer(self, call: Callable[[Reads], Any]) -> tuple[Any, Exception | None]:
        try:
            return call(self.reads), None
        except sqlite3.Error as error:
            return None, self._on_error(error)
        except Exception as error:  # goes to the one who asked
            return None, error
