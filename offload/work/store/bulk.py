"""
Statements that write many rows at a time.

SQLite gives up Python's lock at each step, and a busy event loop takes up to 5 ms to hand it back:
measured, ``executemany`` took 1.5 ms per row beside a busy loop, and 0.08 ms in steps of many rows.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from offload.work.store.rows import Row, columns, flat

SIZES: Final = (256, 64, 16, 8, 4, 2, 1)  # rows per step; x 30 columns < SQLite's 32 766 variables


class Bulk:
    """``head VALUES (…), (…) tail`` for any number of rows of ``width`` values."""

    def __init__(self, head: str, width: int, tail: str = "") -> None:
        row = "(" + ", ".join("?" * width) + ")"
        self._texts = {
            size: f"{head} VALUES " + ", ".join([row] * size) + " " + tail for size in SIZES
        }

    def run(self, cursor: sqlite3.Cursor, rows: Sequence[Row]) -> None:
        """Write ``rows``."""
        at, count = 0, len(rows)
        for size in SIZES:
            while count - at >= size:
                cursor.execute(self._texts[size], flat(rows[at : at + size]))
                at += size


class Lookup:
    """``head (…)``, asked for any number of keys of ``width`` values."""

    _SIZES: Final = (64, 8, 1)

    def __init__(self, head: str, width: int = 1) -> None:
        key = "?" if width == 1 else "(" + ", ".join("?" * width) + ")"
        start, end = ("(", ")") if width == 1 else ("(VALUES ", ")")
        self._texts = {
            size: head + " " + start + ", ".join([key] * size) + end for size in self._SIZES
        }

    def run(self, cursor: sqlite3.Cursor, keys: Sequence[Row]) -> list[Any]:
        """Return the rows found."""
        found: list[Any] = []
        at = 0
        while at < len(keys):
            size = next(size for size in self._SIZES if size <= len(keys) - at or size == 1)
            found += cursor.execute(self._texts[size], flat(keys[at : at + size])).fetchall()
            at += size
        return found


def insert(table: str, names: Sequence[str], tail: str = "") -> Bulk:
    """Return the statement that adds rows to ``table``."""
    return Bulk(f"INSERT INTO {table} ({columns(names)})", len(names), tail)


def insert_as(table: str, names: Sequence[str], usual: Mapping[str, Any]) -> Bulk:
    """Return the statement that adds rows of ``names``, with what is ``usual`` in other columns."""
    places = [*(f"column{at}" for at in range(1, len(names) + 1)), *map(literal, usual.values())]
    head = f"INSERT INTO {table} ({columns((*names, *usual))}) SELECT {', '.join(places)} FROM ("  # noqa: S608 - names and values of our own
    return Bulk(head, len(names), ")")


def literal(value: str | int | float | bytes | None) -> str:
    """Return ``value`` as it is written in a statement."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else repr(value)


def update(table: str, key: str, names: Sequence[str]) -> Bulk:
    """Return the statement that sets ``names`` in rows of ``table``; each begins with its key."""
    changes = ", ".join(f'"{name}" = new.column{at}' for at, name in enumerate(names, 2))
    head = f"UPDATE {table} SET {changes} FROM ("  # noqa: S608 - names of our own
    return Bulk(head, len(names) + 1, f") AS new WHERE {table}.{key} = new.column1")


def upsert(table: str, names: Sequence[str], key: Sequence[str], mutable: Sequence[str]) -> Bulk:
    """Return the statement that adds rows to ``table``, or sets the ``mutable`` columns."""
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in mutable)
    return insert(table, names, f"ON CONFLICT ({columns(key)}) DO UPDATE SET {changes}")
