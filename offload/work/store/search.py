"""
Jobs found by what they are and carry, the newest first, the unreadable ones among them.

Each state is one walk along its index; a payload's scalars are looked up by job.
"""

import heapq
import logging
import math
import sqlite3
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias

from offload.errors import Malformed
from offload.work.jobs import FINAL, Condition, Job, Query, State, is_id
from offload.work.store import rows

log = logging.getLogger(__name__)
LOGGED: Final = 20  # unreadable rows that get a line of the log each
_JOB: Final = rows.select(rows.JOB_FIELDS, "jobs")
_ID, _SEQ, _TOPIC, _QUEUE, _CREATED = map(
    rows.JOB_FIELDS.index, ("id", "seq", "topic", "queue", "created_wall")
)
_LIVE: Final = ", ".join(f"'{state}'" for state in State if state not in FINAL)
LIVE_COUNTS: Final = (
    f"SELECT queue, topic, state, count(*) FROM jobs WHERE state IN ({_LIVE})"  # noqa: S608
    " GROUP BY queue, topic, state"
)
ENDED: Final = f"""
    SELECT seq, topic, finished_at FROM jobs INDEXED BY jobs_ended
    WHERE state NOT IN ({_LIVE}) AND state = ? AND (finished_at, seq) > (?, ?)
    AND finished_at < ? AND placing = 0 ORDER BY finished_at, seq LIMIT ?
"""  # noqa: S608 - put together of the constants above
Values: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A job whose row this version cannot read: never run, never lost (CONFORMANCE C012)."""

    id: str
    seq: int
    topic: str
    queue: str
    reason: str
    created_wall: float


Found: TypeAlias = Job | Unreadable


@dataclass(frozen=True, slots=True)
class Ended:
    """A line of the history, as far as it matters for how long it is kept."""

    seq: int
    topic: str
    state: State
    finished_at: float


class Register:
    """The rows that were found unreadable since the start, and why; used by any thread."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def __contains__(self, name: str) -> bool:
        return name in self._reasons

    def note(self, name: str, reason: str) -> None:
        """Remember one; the first ones are told of, each once, so that the log is not flooded."""
        if name in self._reasons:
            return
        self._reasons[name] = reason
        count = len(self._reasons)
        if count <= LOGGED:
            log.warning("job %s is kept, but cannot be read: %s", name or "?", reason)
        if count == LOGGED:
            log.warning("further ones are not told of: offload jobs --state unreadable")

    def reason(self, name: str) -> str | None:
        """Return why it is unreadable, or None."""
        return self._reasons.get(name)

    def ids(self) -> list[str]:
        """Return the ids of the jobs among them."""
        return sorted(filter(is_id, tuple(self._reasons)))


def search(
    connection: sqlite3.Connection,
    register: Register,
    query: Query,
    limit: int,
    before_seq: int | None,
) -> list[Found]:
    """Return what the query finds, the newest first."""
    walks = [_walk(connection, register, query, state.value, before_seq) for state in query.states]
    if query.unreadable:
        walks.append(_unreadable(connection, register, query, before_seq))
    elif not query.states:
        walks.append(_walk(connection, register, query, None, before_seq))
    try:
        return list(islice(heapq.merge(*walks, key=lambda found: -found.seq), limit))
    finally:
        for walk in walks:
            walk.close()


def count(connection: sqlite3.Connection, register: Register, query: Query) -> int:
    """Return how many jobs the query finds; unreadable rows of a state count as what they say."""
    condition, values = _condition(query)
    total = 0
    if query.states or not query.unreadable:
        if query.states:
            condition += f" AND state IN ({', '.join('?' * len(query.states))})"
            values += tuple(state.value for state in query.states)
        text = f"SELECT count(*) FROM jobs WHERE {condition}"  # noqa: S608 - values are bound
        total = connection.execute(text, values).fetchone()[0]
    if query.unreadable:
        total += sum(1 for _ in _unreadable(connection, register, query, None))
    return total


def unreadable(
    connection: sqlite3.Connection, register: Register, job_id: str
) -> Unreadable | None:
    """Return what is known of a job if its row, or what it is to run, cannot be read."""
    text = f"{_JOB_AND_SPEC} WHERE id = ?"
    row = connection.execute(text, (job_id,)).fetchone()
    found = None if row is None else _checked(register, row)
    return found if isinstance(found, Unreadable) else None


def live_counts(connection: sqlite3.Connection) -> list[tuple[str, str, str, int]]:
    """Return ``(queue, topic, state, jobs)`` of all that has not ended."""
    return connection.execute(LIVE_COUNTS).fetchall()


def ended(
    connection: sqlite3.Connection,
    state: State,
    before_at: float,
    after: tuple[float, int],
    limit: int,
) -> list[Ended]:
    """Return jobs that ended so before a moment (steady seconds), the oldest first."""
    found = connection.execute(ENDED, (state.value, *after, before_at, limit))
    return [Ended(seq, topic, state, finished_at) for seq, topic, finished_at in found.fetchall()]


def pattern_condition(pattern: str) -> tuple[str, Values]:
    """Return the condition by which the topic of a job matches ``pattern``, and its values."""
    if pattern == "**":
        return "1", ()
    if pattern == "*":
        return "topic NOT GLOB '*/*'", ()
    if pattern.endswith("/**"):
        return "topic GLOB ?", (pattern[:-1],)
    if pattern.endswith("/*"):
        return "topic GLOB ? AND topic NOT GLOB ?", (pattern, pattern + "/*")
    return "topic = ?", (pattern,)


# --- parts -------------------------------------------------------------------------------------

_JOB_AND_SPEC: Final = (
    f"SELECT {rows.columns(rows.JOB_FIELDS, 'jobs')}, envelope"  # noqa: S608 - names of our own
    " FROM jobs LEFT JOIN specs USING (seq)"
)


def _condition(query: Query) -> tuple[str, Values]:
    condition, values = pattern_condition(query.topic)
    for column, value in (("worker", query.worker), ("queue", query.queue)):
        if value:
            condition += f" AND {column} = ?"
            values += (value,)
    if query.since > -math.inf:
        condition += " AND created_wall >= ?"
        values += (query.since,)
    if query.until < math.inf:
        condition += " AND created_wall < ?"
        values += (query.until,)
    if query.where:
        tests = [_exists(entry) for entry in query.where]
        condition += f" AND ({(' OR ' if query.any_of else ' AND ').join(t for t, _ in tests)})"
        for _, more in tests:
            values += more
    return condition, values


def _exists(entry: Condition) -> tuple[str, Values]:
    column = "text" if isinstance(entry.value, str) else "num"
    text = (
        "EXISTS (SELECT 1 FROM fields WHERE fields.seq = jobs.seq AND fields.name = ?"  # noqa: S608
        f" AND fields.{column} {entry.operator} ?)"
    )
    return text, (entry.name, entry.value)


def _walk(
    connection: sqlite3.Connection,
    register: Register,
    query: Query,
    state: str | None,
    before_seq: int | None,
) -> Generator[Found, None, None]:
    """Yield what is found in one state, or in any, the unreadable rows then too."""
    condition, values = _condition(query)
    if state is not None:
        condition, values = f"state = ? AND {condition}", (state, *values)
    for row in _rows(connection, _JOB, condition, values, before_seq):
        found = _read(register, row)
        if state is None or isinstance(found, Job):
            yield found


def _unreadable(
    connection: sqlite3.Connection, register: Register, query: Query, before_seq: int | None
) -> Generator[Found, None, None]:
    """Yield the unreadable ones: the only question for which every row is looked at."""
    for row in _rows(connection, _JOB_AND_SPEC, *_condition(query), before_seq):
        found = _checked(register, row)
        if isinstance(found, Unreadable):
            yield found


def _rows(
    connection: sqlite3.Connection,
    select: str,
    condition: str,
    values: Values,
    before_seq: int | None,
) -> Generator[rows.Row, None, None]:
    if before_seq is not None:
        condition, values = f"{condition} AND jobs.seq < ?", (*values, before_seq)
    text = f"{select} WHERE {condition} ORDER BY jobs.seq DESC"
    with closing(connection.execute(text, values)) as cursor:
        yield from cursor


def _read(register: Register, row: rows.Row) -> Found:
    known = register.reason(row[_ID])
    if known is None:
        try:
            return rows.read_job(row)
        except Malformed as error:
            known = error.reason
            register.note(row[_ID], known)
    return Unreadable(row[_ID], row[_SEQ], row[_TOPIC], row[_QUEUE], known, row[_CREATED])


def _checked(register: Register, row: rows.Row) -> Found:
    *control, envelope = row
    found = _read(register, control)
    if isinstance(found, Job):
        try:
            rows.read_spec(envelope, None)
        except Malformed as error:
            register.note(found.id, error.reason)
            return _read(register, control)
    return found
