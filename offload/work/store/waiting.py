"""The questions about what waits: how much, since when, and whose time is over."""

import sqlite3
from dataclasses import dataclass
from typing import Final

_WAITS: Final = (
    "jobs INDEXED BY jobs_ready WHERE state = 'queued' AND not_before <= 0 AND behind = 0",
    "jobs INDEXED BY jobs_waiting WHERE state = 'queued' AND not_before > 0 AND behind = 0",
    "jobs INDEXED BY jobs_behind WHERE state = 'queued' AND behind = 1",
)
_EXPIRING: Final = (
    "jobs INDEXED BY jobs_expiring WHERE expires_at > 0 AND started_at = 0"
    " AND state IN ('queued', 'assigned') AND stopping = 0"
)
_DEADLINE: Final = (
    "jobs INDEXED BY jobs_deadline WHERE deadline_at > 0"
    " AND state IN ('queued', 'assigned', 'active') AND stopping = 0 AND placing = 0"
)
# Each half walks along an index that holds nothing but its key and the topic.
BACKLOG: Final = (
    "SELECT topic, sum(number), min(first) FROM ("  # noqa: S608 - names of our own
    + " UNION ALL ".join(
        f"SELECT topic, count(*) AS number, min(seq) AS first FROM {where} GROUP BY topic"  # noqa: S608
        for where in _WAITS
    )
    + ") GROUP BY topic"
)
WAITING: Final = (
    "SELECT seq, id FROM jobs INDEXED BY jobs_state"
    " WHERE state = 'queued' AND seq > ? AND topic = ? ORDER BY seq LIMIT ?"
)
OVERDUE: Final = (
    f"SELECT id FROM {_EXPIRING} AND expires_at <= :now"  # noqa: S608
    f" UNION SELECT id FROM {_DEADLINE} AND deadline_at <= :now LIMIT :limit"
)
NEXT_EXPIRY: Final = f"SELECT expires_at FROM {_EXPIRING} ORDER BY expires_at LIMIT 1"  # noqa: S608
NEXT_DEADLINE: Final = f"SELECT deadline_at FROM {_DEADLINE} ORDER BY deadline_at LIMIT 1"  # noqa: S608
TIMED: Final = (
    "SELECT id FROM jobs INDEXED BY jobs_run_at WHERE run_at > 0 AND state = 'queued'"
    " AND attempt = 0"
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits of one topic: how many jobs, and the one that was added first."""

    topic: str
    count: int
    job_id: str
    created_wall: float


def backlog(connection: sqlite3.Connection) -> list[Backlog]:
    """Return what waits, topic by topic."""
    lines = []
    for topic, count, seq in connection.execute(BACKLOG).fetchall():
        job_id, wall = connection.execute(
            "SELECT id, created_wall FROM jobs WHERE seq = ?", (seq,)
        ).fetchone()
        lines.append(Backlog(topic, count, job_id, wall))
    return lines


def waiting(
    connection: sqlite3.Connection, topic: str, after_seq: int, limit: int
) -> list[tuple[int, str]]:
    """Return ``(seq, id)`` of the jobs of ``topic`` that wait, the oldest first, page by page."""
    return connection.execute(WAITING, (after_seq, topic, limit)).fetchall()


def overdue(connection: sqlite3.Connection, now: float, limit: int) -> list[str]:
    """Return the ids of jobs whose time is over, and that nobody stops yet."""
    return [i for (i,) in connection.execute(OVERDUE, {"now": now, "limit": limit})]


def next_limit_at(connection: sqlite3.Connection) -> float | None:
    """Return when the next job's time is over."""
    found = [connection.execute(text).fetchone() for text in (NEXT_EXPIRY, NEXT_DEADLINE)]
    return min((row[0] for row in found if row is not None), default=None)


def timed(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of jobs that wait for a time of the wall clock."""
    return [i for (i,) in connection.execute(TIMED)]
