"""
The rows as they are in the open transaction: looked up once, changed in memory, written in one go.

Only the writer thread uses a ``Ledger``, and it has the only writing connection, so what was read
or written once stays true until a roll-back. An operation that fails before it calls ``keep``,
``add`` or the like has left nothing behind: no savepoints are needed.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from offload.errors import Malformed
from offload.work.jobs import FINAL, Attempt, Held, HeldState, Job, Outcome, Spec, State
from offload.work.store import rows
from offload.work.store.statements import Statements
from offload.work.store.steps import Key

CACHED_JOBS: Final = 8_192
CACHED_VALUE_BYTES: Final = 4_096  # an outcome with a larger value is read again when asked for
NEWS_LIMIT: Final = 1_000  # lines per job; the oldest go
NEWS_SLACK: Final = 100  # more than that are cut at a time
NEWS_TEXT_LIMIT: Final = 24_000  # a partial result is never longer

_BY_KEY: Final = rows.select(rows.JOB_FIELDS, "jobs") + ' WHERE "key" = ? AND "key" != \'\''
_NEWEST: Final = " ORDER BY seq DESC LIMIT 1"
_LIVE: Final = "state IN ('queued', 'assigned', 'active')"
_IN_LANE: Final = f"SELECT 1 FROM jobs WHERE lane = ? AND lane != '' AND {_LIVE} LIMIT 1"  # noqa: S608
_FRONT: Final = (
    f"SELECT 1 FROM jobs WHERE lane = ? AND lane != '' AND behind = 0 AND {_LIVE} LIMIT 1"  # noqa: S608
)
_NEXT_IN_LANE: Final = (
    f"SELECT seq, id FROM jobs WHERE lane = ? AND lane != '' AND behind = 1 AND {_LIVE}"  # noqa: S608
    " ORDER BY seq LIMIT 1"
)


class Unwritable(Exception):
    """Some operation of the group wants a value that can't be written; its cause says why."""


@dataclass(slots=True)
class _Pending:
    """What the open transaction is still to write."""

    new: dict[str, Job] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)  # of the new ones
    changed: dict[str, tuple[Job, Job]] = field(default_factory=dict)  # as it was, as it is now
    specs: list[rows.Row] = field(default_factory=list)
    fields: list[rows.Row] = field(default_factory=list)
    outcomes: dict[int, rows.Row] = field(default_factory=dict)
    attempts: list[rows.Row] = field(default_factory=list)
    placing: dict[int, rows.Row | None] = field(default_factory=dict)
    news: list[rows.Row] = field(default_factory=list)
    cuts: dict[int, int] = field(default_factory=dict)  # seq -> last line that goes
    lanes: set[str] = field(default_factory=set)  # in which a job has ended
    held: dict[Key, Held] = field(default_factory=dict)
    held_specs: dict[Key, rows.Row] = field(default_factory=dict)
    tombs: set[Key] = field(default_factory=set)


class Ledger:
    """
    The tables, from within the writer's transaction.

    Attributes:
        full: There is no room for new work.
        careful: The operation is tried alone, after it failed: it is to look twice.
        counts: Jobs by state, as committed.
        written_bytes: Roughly what was written since the writer last set it to 0.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.cursor = connection.cursor()
        self.full = False
        self.careful = False
        self.written_bytes = 0
        self._text = Statements()
        self._pending = _Pending()
        self._jobs: dict[str, Job] = {}
        self._held: dict[Key, Held] = {}
        self._last_news: dict[int, tuple[int, str]] = {}  # number and kind
        self._lanes: dict[str, None] = {}  # in which some job has not ended, as far as known
        self._tally: Counter[State] = Counter()
        for text, count in self.cursor.execute("SELECT state, count(*) FROM jobs GROUP BY state"):
            state = rows.read_state(text)
            if state is not None:
                self._tally[state] = count
        self._last_seq: int = self.cursor.execute(
            "SELECT coalesce(max(seq), 0) FROM jobs"
        ).fetchone()[0]
        self.counts: dict[State, int] = dict(self._tally)
        self._kept_seq = self._last_seq

    # --- look up ---------------------------------------------------------------------------

    def jobs(self, job_ids: Collection[str]) -> dict[str, Job]:
        """Return those of the jobs that are there and can be read."""
        known = self._jobs
        missing = [(job_id,) for job_id in job_ids if job_id not in known]
        if missing:
            for row in self._text.find_jobs.run(self.cursor, missing):
                try:
                    job = rows.read_job(row)
                except Malformed:  # the reading side tells of it
                    continue
                known[job.id] = job
        return {job_id: known[job_id] for job_id in job_ids if job_id in known}

    def at_hand(self, job_id: str) -> Job | None:
        """Return the job if it was used lately; every job that is not yet written is at hand."""
        return self._jobs.get(job_id)

    def held(self, keys: Collection[Key]) -> dict[Key, Held]:
        """Return those of the rows of others' jobs that are there."""
        known = self._held
        missing = [key for key in keys if key not in known]
        if missing:
            for row in self._text.find_held.run(self.cursor, missing):
                held = rows.read_held_or_tomb(row)
                known[held.store_id, held.job_id] = held
        return {key: known[key] for key in keys if key in known}

    def job_with_key(self, key: str) -> Job | None:
        """Return the job that was added under ``key``."""
        if key in self._pending.keys:
            self.flush()
        row = self.cursor.execute(_BY_KEY + _NEWEST, (key,)).fetchone()
        return None if row is None else rows.read_job(row)

    def live_job_with_key(self, key: str) -> Job | None:
        """Return the job that was added under ``key``, and has not ended nor is to be stopped."""
        self.flush()
        still = f" AND stopping = 0 AND {_LIVE}"
        row = self.cursor.execute(_BY_KEY + still + _NEWEST, (key,)).fetchone()
        return None if row is None else rows.read_job(row)

    @property
    def queued(self) -> int:
        """Return how many jobs wait, with what the open transaction has changed."""
        return self._tally[State.QUEUED]

    def spec(self, seq: int) -> Spec:
        """Return the spec of a job that is there."""
        self.flush()
        row = self.cursor.execute(
            "SELECT envelope, payload FROM specs WHERE seq = ?", (seq,)
        ).fetchone()
        if row is None:
            raise Malformed(f"job {seq} has no spec")
        return rows.read_spec(*row)

    # --- change ----------------------------------------------------------------------------

    def add(self, job: Job, spec_row: rows.Row, found: Mapping[str, str | int | float]) -> Job:
        """Add a job at the end of the order, and return it with its place."""
        seq = self._last_seq + 1
        job = job.but(seq=seq)
        if job.lane:
            job = self._lined_up(job)
        field_rows = rows.field_rows(seq, found)  # may refuse: before anything is changed
        pending = self._pending
        pending.new[job.id] = job
        if job.key:
            pending.keys.add(job.key)
        pending.specs.append((seq, *spec_row))
        pending.fields += field_rows
        self._last_seq = seq
        self._jobs[job.id] = job
        self._tally[job.state] += 1
        return job

    def keep(self, before: Job, job: Job) -> None:
        """Keep ``job`` in place of ``before``."""
        if job.lane and before.state in FINAL and job.state not in FINAL:
            job = self._lined_up(job._replace(behind=False))
        pending = self._pending
        if job.id in pending.new:
            pending.new[job.id] = job
        else:
            pending.changed[job.id] = pending.changed.get(job.id, (before, before))[0], job
        self._jobs[job.id] = job
        if before.state is not job.state:
            self._tally[before.state] -= 1
            self._tally[job.state] += 1
        if before.placing and not job.placing:
            pending.placing[job.seq] = None
        if job.lane and (job.state in FINAL or before.state in FINAL):
            pending.lanes.add(job.lane)
            self._lanes.pop(job.lane, None)

    def record(self, seq: int, attempt: Attempt) -> None:
        """Add a line to the job's history of attempts."""
        self._pending.attempts.append(rows.attempt_row(seq, attempt))

    def keep_outcome(self, seq: int, outcome: Outcome, packed: bytes) -> None:
        """Keep what came of the job."""
        value_blob = None if outcome.value_blob is None else outcome.value_blob.sha256
        self._pending.outcomes[seq] = (seq, packed, value_blob)

    def keep_placing(self, seq: int, attempt: int, plan: bytes) -> None:
        """Keep the plan by which its output files are put in place."""
        self._pending.placing[seq] = (seq, attempt, plan)

    def keep_held(self, held: Held, spec_row: rows.Row | None) -> None:
        """Keep a row of another's job; with a TOMB its spec goes."""
        key = (held.store_id, held.job_id)
        self._held[key] = self._pending.held[key] = held
        if held.state is HeldState.TOMB:
            self._pending.tombs.add(key)
            self._pending.held_specs.pop(key, None)
        elif spec_row is not None:
            self._pending.tombs.discard(key)
            self._pending.held_specs[key] = (*key, *spec_row)

    def add_news(self, seq: int, lines: Sequence[rows.NewsLine], limit: int = NEWS_LIMIT) -> None:
        """
        Add lines to what the job has told; the oldest go when there are more than ``limit``.

        Progress takes the place of progress right before it: else it would push out all lines.
        """
        if limit == 0:
            return
        known = self._last_news.get(seq)
        if known is None:
            self.flush()
            known = self.cursor.execute(
                "SELECT number, kind FROM news WHERE seq = ? ORDER BY number DESC LIMIT 1", (seq,)
            ).fetchone()
        last, kind = known or (0, "")
        after = last
        for line in lines:
            after += not line.kind == kind == "progress"
            kind = line.kind
            row = (seq, after, *line._replace(text=line.text[:NEWS_TEXT_LIMIT]))
            self._pending.news.append(row)
        self._last_news[seq] = after, kind
        slack = max(1, min(NEWS_SLACK, limit // 10))
        if after > limit and after // slack != last // slack:
            self._pending.cuts[seq] = after - limit

    def remove(self, seqs: Sequence[int]) -> None:
        """Remove jobs for good, readable or not."""
        self.flush()
        keys = [(seq,) for seq in seqs]
        lanes = set()
        for job_id, text, lane in self._text.find_removed.run(self.cursor, keys):
            lanes.add(lane)
            self._jobs.pop(job_id, None)
            state = rows.read_state(text)
            if state is not None:
                self._tally[state] -= 1
        for statement in self._text.remove:
            statement.run(self.cursor, keys)
        self._advance(lanes - {""})
        for seq in seqs:
            self._last_news.pop(seq, None)

    def remove_held(self, keys: Sequence[Key]) -> None:
        """Remove rows of others' jobs for good."""
        self.flush()
        self._text.drop_held.run(self.cursor, keys)
        self._text.drop_specs.run(self.cursor, keys)
        for key in keys:
            self._held.pop(key, None)

    # --- the transaction -------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is pending; raise ``Unwritable`` if a value of it can't be written."""
        pending, self._pending = self._pending, _Pending()
        try:
            self._write_jobs(pending)
            self._write_held(pending)
        except (TypeError, ValueError, OverflowError) as error:
            raise Unwritable from error

    def committed(self) -> None:
        """Note that all that was written is on the disk."""
        self.counts = dict(self._tally)
        self._kept_seq = self._last_seq
        for cache in (self._jobs, self._held, self._last_news, self._lanes):
            _shorten(cache)

    def rolled_back(self) -> None:
        """Forget all that was not committed."""
        self._pending = _Pending()
        self._jobs.clear()
        self._held.clear()
        self._last_news.clear()
        self._lanes.clear()
        self._tally = Counter(self.counts)
        self._last_seq = self._kept_seq

    def line_up_anew(self, place_of: Callable[[str, str], tuple[str, str]]) -> int:
        """Put what has not ended into the queues and lanes of changed rules; return how many."""
        self.flush()
        changed: list[tuple[str, str, int]] = []
        lanes: set[str] = set()
        found = self.cursor.execute(
            f"SELECT seq, topic, order_by, queue, lane FROM jobs WHERE {_LIVE}"  # noqa: S608
        )
        for seq, topic, order_by, queue, lane in found:
            place = place_of(topic, order_by)
            if place != (queue, lane):
                changed.append((*place, seq))
                lanes.update((lane, place[1]))
        if not changed:
            return 0
        self.cursor.executemany("UPDATE jobs SET queue = ?, lane = ? WHERE seq = ?", changed)
        for lane in lanes:
            self._settle(lane)
        self._jobs.clear()
        self._lanes.clear()
        return len(changed)

    def _settle(self, lane: str) -> None:
        """Let one job of a lane be in front: who is under way, was begun, or came first."""
        if not lane:
            self.cursor.execute(f"UPDATE jobs SET behind = 0 WHERE {_LIVE} AND lane = ''")  # noqa: S608
            return
        in_lane = f"lane = ? AND lane != '' AND {_LIVE}"
        first = self.cursor.execute(
            f"SELECT seq, state FROM jobs WHERE {in_lane}"  # noqa: S608
            " ORDER BY state = 'queued', attempt = 0, seq LIMIT 1",
            (lane,),
        ).fetchone()
        if first is None:
            return
        seq, state = first
        front = seq if state == State.QUEUED else 0
        self.cursor.execute(
            f"UPDATE jobs SET behind = (state = 'queued' AND seq != ?) WHERE {in_lane}",  # noqa: S608
            (front, lane),
        )

    def _lined_up(self, job: Job) -> Job:
        """Return a new job at the end of its lane."""
        if job.lane not in self._lanes:
            self.flush()
            found = self.cursor.execute(_IN_LANE, (job.lane,)).fetchone()
            self._lanes[job.lane] = None
            return job._replace(behind=job.behind or found is not None)
        return job._replace(behind=True)

    def _advance(self, lanes: Collection[str]) -> None:
        """Let the next one of each lane to the front, unless somebody is there."""
        for lane in lanes:
            self._lanes.pop(lane, None)
            if self.cursor.execute(_FRONT, (lane,)).fetchone() is None:
                following = self.cursor.execute(_NEXT_IN_LANE, (lane,)).fetchone()
                if following is not None:
                    seq, job_id = following
                    self.cursor.execute("UPDATE jobs SET behind = 0 WHERE seq = ?", (seq,))
                    self._jobs.pop(job_id, None)

    def _write_jobs(self, pending: _Pending) -> None:
        text, cursor = self._text, self.cursor
        if pending.new:
            text.new.run(cursor, pending.new.values())
            text.specs.run(cursor, pending.specs)
            text.fields.run(cursor, pending.fields)
        text.changed.run(cursor, pending.changed.values())
        for job in (*pending.new.values(), *(job for _, job in pending.changed.values())):
            if job.state in FINAL:
                self._jobs.pop(job.id, None)  # hardly anybody asks for it again
        self._advance(pending.lanes)
        text.outcomes.run(cursor, list(pending.outcomes.values()))
        text.attempts.run(cursor, pending.attempts)
        if pending.placing:
            text.placing.run(cursor, [row for row in pending.placing.values() if row is not None])
            gone = [(seq,) for seq, row in pending.placing.items() if row is None]
            cursor.executemany("DELETE FROM placing WHERE seq = ?", gone)
        if pending.news:
            text.news.run(cursor, pending.news)
            cuts = list(pending.cuts.items())
            cursor.executemany("DELETE FROM news WHERE seq = ? AND number <= ?", cuts)
        self.written_bytes += _weight(pending)

    def _write_held(self, pending: _Pending) -> None:
        if not pending.held:
            return
        text, cursor = self._text, self.cursor
        text.held.run(cursor, [rows.held_row(held) for held in pending.held.values()])
        text.held_specs.run(cursor, list(pending.held_specs.values()))
        text.drop_specs.run(cursor, list(pending.tombs))
        for key, held in pending.held.items():
            if held.state is HeldState.TOMB or _large(held):
                self._held.pop(key, None)


def _weight(pending: _Pending) -> int:
    """Return roughly how many bytes the log has grown by."""
    large = sum(len(row[1]) + len(row[2] or b"") for row in pending.specs)
    large += sum(len(row[1]) for row in pending.outcomes.values())
    large += sum(len(row[4]) for row in pending.news)
    large += sum(len(row[3] or b"") for row in pending.held_specs.values())
    large += sum(len(held.outcome.value) for held in pending.held.values() if held.outcome)
    short = len(pending.new) + len(pending.changed) + len(pending.attempts) + len(pending.held)
    return large + 1_024 * short


def _large(held: Held) -> bool:
    return held.outcome is not None and len(held.outcome.value) > CACHED_VALUE_BYTES


def _shorten(cache: dict[Any, Any]) -> None:
    """Drop the older half of a cache that has grown too large."""
    if len(cache) > CACHED_JOBS:
        for key in list(cache)[: len(cache) // 2]:
            del cache[key]
