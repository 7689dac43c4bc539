"""
The writer thread's work: all that waits becomes one transaction, one fsync, one round of answers.

An operation that fails, fails alone. A full disk is a state: new work is refused, and the reserve
lets what is under way be finished. Any other trouble of the file is the end of writing.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from offload.errors import DiskFull, Malformed, StoreFault
from offload.work.jobs import State
from offload.work.store.desk import Answer
from offload.work.store.ledger import Ledger, Unwritable
from offload.work.store.reserve import Reserve
from offload.work.store.schema import is_fault, is_full

log = logging.getLogger(__name__)
Operation: TypeAlias = Callable[[Ledger], Any]
CHECKPOINT_BYTES: Final = 8 * 2**20  # written since the last one
IDLE_S: Final = 1.0
RECOVER_EVERY_S: Final = 1.0
LOG_LIMIT_PAGES: Final = 16_384
BUSY_TRIES: Final = 12  # of ``schema.BUSY_TIMEOUT_MS`` each


class Writer:
    """
    What the writing desk's thread works with.

    Attributes:
        fault: Why nothing is written any more, or None.
        commits: How many transactions were committed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        reserve: Reserve | None,
        on_fault: Callable[[StoreFault], None],
    ) -> None:
        self.fault: StoreFault | None = None
        self.commits = 0
        self._connection = connection
        self._reserve = reserve  # None: in memory
        self._on_fault = on_fault
        self._ledger = Ledger(connection)
        self._served_at = self._looked_at = time.monotonic()
        if reserve is not None:
            self._ledger.full = not reserve.make()

    @property
    def full(self) -> bool:
        """Whether there is no room for new work."""
        return self._ledger.full

    @property
    def counts(self) -> Mapping[State, int]:
        """Jobs by state, as committed."""
        return self._ledger.counts

    def serve(self, calls: Sequence[Operation]) -> list[Answer]:
        """Do and commit what is asked; each answer is true on the disk when it is returned."""
        self._look_for_room()
        answers = self._group(calls)
        if self._ledger.written_bytes >= CHECKPOINT_BYTES:
            self._checkpoint()
        self._served_at = time.monotonic()
        return answers

    def rest(self) -> float | None:
        """Bring the log into the file when nothing was asked for a while."""
        self._look_for_room()
        if self._ledger.full:
            return RECOVER_EVERY_S
        if self.fault is not None or not self._ledger.written_bytes:
            return None
        left_s = self._served_at + IDLE_S - time.monotonic()
        if left_s > 0:
            return left_s
        self._checkpoint()
        return None

    def fail(self, error: sqlite3.Error) -> None:
        """Write nothing any more; any thread may find that this is to be."""
        if self.fault is None:
            self.fault = StoreFault(str(error))
            log.error("%s; nothing is written any more", self.fault)
            self._on_fault(self.fault)

    def close(self) -> None:
        """Bring the log into the file and close it."""
        self._checkpoint("TRUNCATE")
        self._connection.close()

    # --- one group -------------------------------------------------------------------------

    def _group(self, calls: Sequence[Operation]) -> list[Answer]:
        if self.fault is not None:
            return [(None, StoreFault(self.fault.reason)) for _ in calls]
        try:
            return self._commit(calls)
        except Unwritable as error:
            return self._in_parts(calls, str(error.__cause__))
        except sqlite3.Error as error:
            if is_fault(error):
                self._end(error)
                return self._group(calls)
            if is_full(error):
                return self._without_room(calls)
            return self._in_parts(calls, str(error))

    def _commit(self, calls: Sequence[Operation]) -> list[Answer]:
        ledger = self._ledger
        answers: list[Answer] = []
        self._begin()
        for call in calls:
            try:
                answers.append((call(ledger), None))
            except (sqlite3.Error, Unwritable):
                raise
            except Exception as error:  # goes to the one who asked
                answers.append((None, error))
        ledger.flush()
        self._connection.execute("COMMIT")
        ledger.committed()
        self.commits += 1
        return answers

    def _begin(self) -> None:
        for _ in range(BUSY_TRIES):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                log.warning("another program is writing to the store; waiting for it")
        self._connection.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._ledger.rolled_back()

    def _in_parts(self, calls: Sequence[Operation], reason: str) -> list[Answer]:
        """Find the one that cannot be written: it fails alone."""
        self._roll_back()
        if len(calls) > 1:
            half = len(calls) // 2
            return self._group(calls[:half]) + self._group(calls[half:])
        if self._ledger.careful:
            return [(None, Malformed(f"it cannot be stored: {reason}"))]
        self._ledger.careful = True
        try:
            return self._group(calls)
        finally:
            self._ledger.careful = False

    # --- trouble ---------------------------------------------------------------------------

    def _end(self, error: sqlite3.Error) -> None:
        self.fail(error)
        with suppress(sqlite3.Error):
            self._roll_back()

    def _without_room(self, calls: Sequence[Operation]) -> list[Answer]:
        self._roll_back()
        if self._ledger.full or self._reserve is None:
            return [(None, DiskFull()) for _ in calls]
        log.warning("the disk is full: no new work until there is room")
        self._ledger.full = True
        self._looked_at = time.monotonic()
        self._reserve.drop()
        self._checkpoint()  # what is in the file already makes room in the log
        return self._group(calls)

    def _look_for_room(self) -> None:
        if not self._ledger.full or self._reserve is None:
            return
        now = time.monotonic()
        if now - self._looked_at >= RECOVER_EVERY_S:
            self._looked_at = now
            if self._reserve.make():
                log.info("there is room on the disk again")
                self._ledger.full = False

    # --- the log ---------------------------------------------------------------------------

    def _checkpoint(self, kind: str = "PASSIVE") -> None:
        """Copy the log into the file, as far as readers let us; look at what comes of it."""
        if self._reserve is None or self.fault is not None:
            return
        self._ledger.written_bytes = 0
        try:
            _, pages, done = self._connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
            if kind == "PASSIVE" and pages > LOG_LIMIT_PAGES:
                self._checkpoint("RESTART")  # waits for readers, so that the log can begin anew
            log.debug("checkpoint: %d of %d pages", done, pages)
        except sqlite3.Error as error:
            if is_full(error):
                log.debug("checkpoint: %s", error)
            else:
                self._end(error)
