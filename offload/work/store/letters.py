"""Rows of dead letters: outcomes that nobody takes, kept until a person or a quota removes them."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from offload.errors import Malformed
from offload.work.jobs import DeadLetter, Held, HeldState
from offload.work.store import rows
from offload.work.store.ledger import Ledger
from offload.work.store.steps import Key

_FIELDS: Final = (
    *("number", "store_id", "job_id", "attempt", "origin", "sender"),
    *("topic", "reason", "kept_wall", "outcome"),
)
_LETTERS: Final = rows.select(_FIELDS, "dead_letters")
# Of what is told twice one is enough.
_ADD: Final = (
    f"INSERT OR IGNORE INTO dead_letters ({rows.columns(_FIELDS[1:])})"  # noqa: S608 - names of our own
    f" VALUES ({', '.join('?' * (len(_FIELDS) - 1))})"
)


@dataclass(frozen=True, slots=True)
class UnreadableLetter:
    """A dead letter whose outcome this version cannot read, and why (``trouble``); see C012."""

    number: int
    store_id: str
    job_id: str
    attempt: int
    origin: str
    sender: str
    topic: str
    reason: str
    kept_wall: float
    trouble: str


def add_letter(ledger: Ledger, letter: DeadLetter) -> None:
    """Keep a letter; nothing happens if it is there."""
    packed = rows.pack_outcome(letter.outcome)
    values = [getattr(letter, name) for name in _FIELDS[1:-1]]
    ledger.cursor.execute(_ADD, [*values, packed])
    ledger.written_bytes += len(packed) + 1_024


def bury(
    ledger: Ledger,
    keys: Sequence[Key],
    own_id: str,
    reason: str,
    tomb: Callable[[Held], Held],
    wall: float,
) -> list[Key]:
    """Make letters of those outcomes that still wait in the outbox; return which."""
    found = ledger.held(keys)
    buried = []
    for key in keys:
        held = found.get(key)
        if held is None or held.state is not HeldState.DONE or held.outcome is None:
            continue
        add_letter(
            ledger,
            DeadLetter(
                *(0, *key, held.attempt, held.origin, own_id),
                *(held.topic, reason, wall, held.outcome),
            ),
        )
        ledger.keep_held(tomb(held), None)
        buried.append(key)
    return buried


def remove_letters(ledger: Ledger, numbers: Collection[int]) -> int:
    """Remove letters for good; return how many went."""
    gone = 0
    for number in numbers:
        gone += ledger.cursor.execute(
            "DELETE FROM dead_letters WHERE number = ?", (number,)
        ).rowcount
    return gone


def trim_letters(ledger: Ledger, most: int) -> int:
    """Remove the oldest letters beyond ``most``; return how many went."""
    return ledger.cursor.execute(
        "DELETE FROM dead_letters WHERE number NOT IN"
        " (SELECT number FROM dead_letters ORDER BY number DESC LIMIT ?)",
        (most,),
    ).rowcount


def letters(connection: sqlite3.Connection, numbers: Collection[int] | None) -> list[DeadLetter]:
    """Return the letters with these numbers, or all, the newest first; unreadable ones not."""
    found = _read_all(connection, numbers)
    return [letter for letter in found if isinstance(letter, DeadLetter)]


def unreadable_letters(
    connection: sqlite3.Connection, numbers: Collection[int] | None
) -> list[UnreadableLetter]:
    """Return those of them that cannot be read: another version may do so."""
    found = _read_all(connection, numbers)
    return [letter for letter in found if isinstance(letter, UnreadableLetter)]


def _read_all(
    connection: sqlite3.Connection, numbers: Collection[int] | None
) -> list[DeadLetter | UnreadableLetter]:
    if numbers is None:
        found = connection.execute(f"{_LETTERS} ORDER BY number DESC").fetchall()
    else:
        lookup = f"{_LETTERS} WHERE number = ?"
        found = [row for n in numbers for row in connection.execute(lookup, (n,)).fetchall()]
    return [_read(row) for row in found]


def _read(row: rows.Row) -> DeadLetter | UnreadableLetter:
    known = dict(zip(_FIELDS[:-1], row[:-1], strict=True))
    try:
        return DeadLetter(**known, outcome=rows.read_outcome(row[-1]))
    except Malformed as error:
        return UnreadableLetter(**known, trouble=error.reason)


def count_letters(connection: sqlite3.Connection) -> int:
    """Return how many letters there are."""
    count: int = connection.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
    return count
