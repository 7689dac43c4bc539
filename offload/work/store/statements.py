"""The statements by which the ledger looks up and writes rows, prepared once."""

import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from itertools import compress
from operator import is_not, itemgetter
from typing import Final

from offload.work.jobs import Job
from offload.work.store import bulk, rows

CHANGES_KNOWN: Final = 64  # sets of columns, each with a statement

_JOBS: Final = rows.select(rows.JOB_FIELDS, "jobs") + " WHERE id IN"
_HELD: Final = rows.select(rows.HELD_FIELDS, "held") + " WHERE (store_id, job_id) IN"
_SPEC_FIELDS: Final = ("seq", "envelope", "payload", "blobs")
_HELD_KEY: Final = ("store_id", "job_id")
_NO_COLUMN: Final = bytes(len(rows.JOB_FIELDS))
_USUAL: Final = Job(id="", topic="", queue="")
_OWN: Final = (  # columns that jobs have of their own for which nothing special is wished
    *("id", "topic", "queue", "state", "seq", "priority", "attempt", "worker", "given"),
    *("created_wall", "started_wall", "created_at", "started_at", "waits_since"),
)
_OF_JOB: Final = ("jobs", "specs", "fields", "outcomes", "attempts", "placing", "news")


class Statements:
    """All of them, by what they write or look for."""

    def __init__(self) -> None:
        self.new = _Adding()
        self.changed = _Changing()
        self.specs = bulk.insert("specs", _SPEC_FIELDS)
        self.fields = bulk.insert("fields", ("seq", "name", "num", "text"))
        self.outcomes = bulk.upsert(
            "outcomes", ("seq", "outcome", "value_blob"), ["seq"], ("outcome", "value_blob")
        )
        self.attempts = bulk.insert("attempts", ("seq", *rows.ATTEMPT_FIELDS))
        self.placing = bulk.upsert(
            "placing", ("seq", "attempt", "plan"), ["seq"], ("attempt", "plan")
        )
        self.news = bulk.upsert(
            "news", rows.NEWS_FIELDS, rows.NEWS_FIELDS[:2], rows.NEWS_FIELDS[2:]
        )
        self.held = bulk.upsert("held", rows.HELD_FIELDS, _HELD_KEY, rows.HELD_FIELDS[2:])
        self.held_specs = bulk.upsert(
            "held_specs", (*_HELD_KEY, *_SPEC_FIELDS[1:]), _HELD_KEY, _SPEC_FIELDS[1:]
        )
        self.find_jobs = bulk.Lookup(_JOBS)
        self.find_held = bulk.Lookup(_HELD, 2)
        self.find_removed = bulk.Lookup("SELECT id, state, lane FROM jobs WHERE seq IN")
        self.remove = [
            bulk.Lookup(f"DELETE FROM {table} WHERE seq IN")  # noqa: S608 - names of our own
            for table in _OF_JOB
        ]
        self.drop_held = bulk.Lookup("DELETE FROM held WHERE (store_id, job_id) IN", 2)
        self.drop_specs = bulk.Lookup("DELETE FROM held_specs WHERE (store_id, job_id) IN", 2)


class _Adding:
    """
    The statements that add jobs: one for those that are usual but for what is their ``_OWN``.

    The other one writes all columns: a statement for each set of unusual ones would hardly ever
    be used again before it is forgotten.
    """

    def __init__(self) -> None:
        row = dict(zip(rows.JOB_FIELDS, rows.job_row(_USUAL), strict=True))
        rest = {name: value for name, value in row.items() if name not in _OWN}
        self._short = bulk.insert_as("jobs", _OWN, rest)
        self._whole = bulk.insert("jobs", rows.JOB_FIELDS)
        self._own = itemgetter(*map(rows.JOB_FIELDS.index, _OWN))
        self._rest = itemgetter(*map(rows.JOB_FIELDS.index, rest))

    def run(self, cursor: sqlite3.Cursor, jobs: Iterable[Job]) -> None:
        """Add ``jobs``."""
        short, whole, usual = [], [], self._rest(_USUAL)
        for job in jobs:
            row = rows.job_row(job)
            if self._rest(job) == usual:
                short.append(self._own(row))
            else:
                whole.append(row)
        self._short.run(cursor, short)
        self._whole.run(cursor, whole)


class _Changing:
    """The statements that change jobs, one for each set of columns that become others together."""

    def __init__(self) -> None:
        self._setting = lru_cache(CHANGES_KNOWN)(_Setting)

    def run(self, cursor: sqlite3.Cursor, changes: Iterable[tuple[Job, Job]]) -> None:
        """Bring jobs from what they were to what they are."""
        groups: dict[bytes, list[Job]] = {}
        for before, job in changes:
            groups.setdefault(bytes(map(is_not, job, before)), []).append(job)
        groups.pop(_NO_COLUMN, None)
        for columns, jobs in groups.items():
            self._setting(columns).run(cursor, jobs)


class _Setting:
    """The statement that sets these columns of jobs: the rest, and its indexes, stay."""

    def __init__(self, columns: bytes) -> None:
        names = tuple(compress(rows.JOB_FIELDS, columns))
        self._text = bulk.update("jobs", "seq", names)
        self._values = itemgetter(*map(rows.JOB_FIELDS.index, ("seq", *names)))

    def run(self, cursor: sqlite3.Cursor, jobs: Iterable[Job]) -> None:
        """Set them to what they are in ``jobs``."""
        self._text.run(cursor, [self._values(rows.job_row(job)) for job in jobs])
