"""Rows of schedules: what they mean is known to those who put them here."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from offload.errors import DiskFull
from offload.work.store.ledger import Ledger

_ROW_BYTES: Final = 1_024  # roughly what a row adds to the log beside its record


@dataclass(frozen=True, slots=True)
class KeptSchedule:
    """
    A schedule as it is kept.

    Attributes:
        id: Its name.
        record: What it is, packed.
        declared: It stands in this instance's configuration.
        fired: Up to this moment (wall seconds) its firings are settled.
        fired_by: Instance id of the one who did that last.
        asked: But for that one, which others are still asked about.
        owed: The moment whose job is still to be made, or 0.
    """

    id: str
    record: bytes
    declared: bool = False
    fired: float = 0.0
    fired_by: str = ""
    asked: bool = False
    owed: float = 0.0


def put_schedule(ledger: Ledger, kept: KeptSchedule) -> None:
    """Keep a schedule, in place of the one with its id; raise ``DiskFull`` if it is new."""
    values = (
        kept.id,
        kept.record,
        int(kept.declared),
        kept.fired,
        kept.fired_by,
        int(kept.asked),
        kept.owed,
    )
    if ledger.full:
        found = ledger.cursor.execute("SELECT 1 FROM schedules WHERE id = ?", (kept.id,)).fetchone()
        if found is None:
            raise DiskFull
    ledger.cursor.execute("INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    ledger.written_bytes += len(kept.record) + _ROW_BYTES


def mark_schedule(
    ledger: Ledger, schedule_id: str, fired: float, fired_by: str, asked: bool, owed: float
) -> None:
    """Keep up to when its firings are settled; nothing if it is not there."""
    ledger.cursor.execute(
        "UPDATE schedules SET fired = ?, fired_by = ?, asked = ?, owed = ? WHERE id = ?",
        (fired, fired_by, int(asked), owed, schedule_id),
    )
    ledger.written_bytes += _ROW_BYTES


def remove_schedule(ledger: Ledger, schedule_id: str) -> None:
    """Remove a schedule for good."""
    ledger.cursor.execute("DELETE FROM schedules WHERE id = ?", (schedule_id,))
    ledger.written_bytes += _ROW_BYTES


def all_schedules(connection: sqlite3.Connection) -> list[KeptSchedule]:
    """Return all schedules, in the order of their ids."""
    found = connection.execute(
        "SELECT id, record, declared, fired, fired_by, asked, owed FROM schedules ORDER BY id"
    )
    return [
        KeptSchedule(name, record, bool(declared), fired, fired_by, bool(asked), owed)
        for name, record, declared, fired, fired_by, asked, owed in found.fetchall()
    ]
