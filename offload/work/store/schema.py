"""
The tables, how older files are brought up to date, and how a file is opened.

Control columns are apart from what is large and never changes (``specs``), so that a change of
state rewrites a short row. Partial indexes hold only the rows that a question is about.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from offload.clock import Mark
from offload.errors import DiskFull, StoreFault

_TABLES: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        topic TEXT NOT NULL,
        queue TEXT NOT NULL,
        state TEXT NOT NULL,
        priority INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        worker TEXT NOT NULL,
        given BLOB NOT NULL,
        stopping INTEGER NOT NULL,
        placing INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        crashes INTEGER NOT NULL,
        lapses INTEGER NOT NULL,
        not_before REAL NOT NULL,
        delivery TEXT NOT NULL,
        "into" TEXT NOT NULL,
        if_exists TEXT NOT NULL,
        outputs BLOB NOT NULL,
        policy TEXT NOT NULL,
        "key" TEXT NOT NULL,
        retries INTEGER,
        reason TEXT NOT NULL,
        created_wall REAL NOT NULL,
        started_wall REAL NOT NULL,
        finished_wall REAL NOT NULL,
        created_at REAL NOT NULL,
        started_at REAL NOT NULL,
        finished_at REAL NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX jobs_id ON jobs (id)",
    'CREATE UNIQUE INDEX jobs_key ON jobs ("key") WHERE "key" != \'\'',
    "CREATE INDEX jobs_state ON jobs (state, seq)",
    """
    CREATE INDEX jobs_ready ON jobs (topic, priority DESC, seq)
    WHERE state = 'queued' AND not_before <= 0
    """,
    """
    CREATE INDEX jobs_waiting ON jobs (topic, not_before, priority, seq)
    WHERE state = 'queued' AND not_before > 0
    """,
    """
    CREATE INDEX jobs_next ON jobs (not_before)
    WHERE state = 'queued' AND not_before > 0
    """,
    """
    CREATE TABLE specs (
        seq INTEGER PRIMARY KEY,
        envelope BLOB NOT NULL,
        payload BLOB,
        blobs INTEGER NOT NULL -- how many digests it names
    ) STRICT
    """,
    """
    CREATE TABLE fields (
        seq INTEGER NOT NULL,
        name TEXT NOT NULL,
        num REAL,
        text TEXT,
        PRIMARY KEY (seq, name)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE outcomes (
        seq INTEGER PRIMARY KEY,
        outcome BLOB NOT NULL,
        value_blob TEXT -- digest of a value that is too large for the outcome
    ) STRICT
    """,
    "CREATE INDEX outcomes_value_blob ON outcomes (value_blob) WHERE value_blob IS NOT NULL",
    """
    CREATE TABLE attempts (
        seq INTEGER NOT NULL,
        number INTEGER NOT NULL,
        worker TEXT NOT NULL,
        result TEXT NOT NULL,
        reason TEXT NOT NULL,
        ended_wall REAL NOT NULL,
        run_s REAL NOT NULL
    ) STRICT
    """,
    "CREATE INDEX attempts_seq ON attempts (seq)",
    """
    CREATE TABLE placing (
        seq INTEGER PRIMARY KEY,
        attempt INTEGER NOT NULL,
        plan BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE news (
        seq INTEGER NOT NULL,
        number INTEGER NOT NULL,
        wall REAL NOT NULL,
        kind TEXT NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (seq, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE held (
        store_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        origin TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        topic TEXT NOT NULL,
        delivery TEXT NOT NULL,
        boot INTEGER NOT NULL,
        refused TEXT NOT NULL,
        outcome BLOB,
        at REAL NOT NULL,
        UNIQUE (store_id, job_id)
    ) STRICT
    """,
    "CREATE INDEX held_live ON held (state) WHERE state != 'tomb'",
    "CREATE INDEX held_tombs ON held (at) WHERE state = 'tomb'",
    """
    CREATE TABLE held_specs (
        store_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        envelope BLOB NOT NULL,
        payload BLOB,
        blobs INTEGER NOT NULL,
        UNIQUE (store_id, job_id)
    ) STRICT
    """,
    """
    CREATE TABLE dead_letters (
        number INTEGER PRIMARY KEY,
        store_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        sender TEXT NOT NULL,
        reason TEXT NOT NULL,
        kept_wall REAL NOT NULL,
        outcome BLOB NOT NULL
    ) STRICT
    """,
)
_SCHEDULES: Final = (
    """
    CREATE TABLE schedules (
        id TEXT PRIMARY KEY,
        record BLOB NOT NULL,
        declared INTEGER NOT NULL,
        fired REAL NOT NULL,
        fired_by TEXT NOT NULL,
        asked INTEGER NOT NULL,
        owed REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
_PROPERTIES: Final = (
    "ALTER TABLE jobs ADD COLUMN properties TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE held ADD COLUMN retry_count INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE held ADD COLUMN properties TEXT NOT NULL DEFAULT ''",
)
_LIVE: Final = "state IN ('queued', 'assigned', 'active')"
# What is behind in its lane is in no index of those that may start. A step of priority counts as
# much as jobs.AGEING_S of waiting, so the order never changes while they wait.
_ORDER: Final = (
    "ALTER TABLE jobs ADD COLUMN order_by TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN lane TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN behind INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN waits_since REAL NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN expires_at REAL NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN deadline_at REAL NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN run_at REAL NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN overdue INTEGER NOT NULL DEFAULT 0",
    "UPDATE jobs SET waits_since = max(created_at, not_before * (attempt = 0))",
    "DROP INDEX jobs_ready",
    """
    CREATE INDEX jobs_ready ON jobs (topic, (waits_since - 600.0 * priority), seq)
    WHERE state = 'queued' AND not_before <= 0 AND behind = 0
    """,
    "DROP INDEX jobs_waiting",
    """
    CREATE INDEX jobs_waiting ON jobs (topic, not_before, (waits_since - 600.0 * priority), seq)
    WHERE state = 'queued' AND not_before > 0 AND behind = 0
    """,
    "DROP INDEX jobs_next",
    """
    CREATE INDEX jobs_next ON jobs (not_before)
    WHERE state = 'queued' AND not_before > 0 AND behind = 0
    """,
    f"CREATE INDEX jobs_lane ON jobs (lane, behind, seq) WHERE lane != '' AND {_LIVE}",
    "CREATE INDEX jobs_behind ON jobs (topic) WHERE state = 'queued' AND behind = 1",
    """
    CREATE INDEX jobs_expiring ON jobs (expires_at)
    WHERE expires_at > 0 AND started_at = 0 AND state IN ('queued', 'assigned')
    """,
    f"CREATE INDEX jobs_deadline ON jobs (deadline_at) WHERE deadline_at > 0 AND {_LIVE}",
    "CREATE INDEX jobs_run_at ON jobs (run_at) WHERE run_at > 0 AND state = 'queued'",
    "DROP INDEX jobs_key",
    'CREATE INDEX jobs_key ON jobs ("key", seq) WHERE "key" != \'\'',
)
_HISTORY: Final = (
    "ALTER TABLE jobs ADD COLUMN again_of TEXT NOT NULL DEFAULT ''",
    """
    CREATE INDEX jobs_ended ON jobs (state, finished_at)
    WHERE state NOT IN ('queued', 'assigned', 'active')
    """,
)
_STARTS: Final = (
    """
    CREATE TABLE starts ( -- of jobs of queues with a rate
        queue TEXT NOT NULL,
        "key" TEXT NOT NULL,
        at REAL NOT NULL,
        until REAL NOT NULL -- then it counts no more
    ) STRICT
    """,
    "CREATE INDEX starts_until ON starts (until)",
)
_RETRY_DELAY: Final = ("ALTER TABLE jobs ADD COLUMN retry_delay_s REAL",)
_DEMANDS: Final = ("ALTER TABLE jobs ADD COLUMN demands TEXT NOT NULL DEFAULT ''",)
_LETTERS: Final = (
    "ALTER TABLE dead_letters ADD COLUMN origin TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE dead_letters ADD COLUMN topic TEXT NOT NULL DEFAULT ''",
    "CREATE UNIQUE INDEX letters_once ON dead_letters (store_id, job_id, attempt, sender)",
)
_IDEMPOTENT: Final = ("ALTER TABLE jobs ADD COLUMN idempotent INTEGER NOT NULL DEFAULT 0",)
_HEARD: Final = (  # as what of which attempt a worker said it; 0: it was said here
    "ALTER TABLE news ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE news ADD COLUMN said INTEGER NOT NULL DEFAULT 0",
)
# The n-th entry takes a file from version n to n + 1. Published ones are never edited.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    _TABLES,
    _SCHEDULES,
    _PROPERTIES,
    _ORDER,
    _HISTORY,
    _STARTS,
    _RETRY_DELAY,
    _DEMANDS,
    _LETTERS,
    _IDEMPOTENT,
    _HEARD,
)
FILE_NAME: Final = "store.db"
OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables
BUSY_TIMEOUT_MS: Final = 5_000
WAL_KEPT_BYTES: Final = 16 * 2**20

# What SQLite says of one statement or value; after anything else the file is not trusted.
_HARMLESS: Final = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)


def is_full(error: sqlite3.Error) -> bool:
    """Say whether ``error`` means that the disk has no room."""
    code = getattr(error, "sqlite_errorcode", None)
    # The index of the WAL is a file of its own, which reports a full disk as an I/O error.
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def is_fault(error: sqlite3.Error) -> bool:
    """Say whether the file cannot be trusted after ``error`` (I/O, corruption, no database)."""
    code = getattr(error, "sqlite_errorcode", None)  # absent: the module itself refused a value
    return code is not None and not is_full(error) and code & 0xFF not in _HARMLESS


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise what SQLite says of the file at ``path`` as ``DiskFull`` or ``StoreFault``."""
    try:
        yield
    except sqlite3.Error as error:
        if is_full(error):
            raise DiskFull from None
        raise StoreFault(f"{path}: {error}") from None
    except StoreFault as fault:
        raise StoreFault(f"{path}: {fault.reason}") from None


def open_file(path: Path) -> sqlite3.Connection:
    """
    Open the writing connection of the file at ``path``, made and brought up to date if need be.

    Raises:
        StoreFault: If it is of a newer version, or cannot have a write-ahead log.
        sqlite3.Error: If it is no store, damaged, or there is no room.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreFault(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")
    connection = connect(str(path))
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreFault("the file system allows no write-ahead log")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        prepare(connection)
        sync_folder(path.parent)  # the file's own name must survive a power cut too
    except BaseException:
        connection.close()
        raise
    return connection


def open_memory() -> sqlite3.Connection:
    """Open a store that is gone when it is closed."""
    connection = connect(":memory:")
    prepare(connection)
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection for questions only."""
    connection = connect(str(path))
    connection.execute("PRAGMA query_only = ON")
    return connection


def connect(path: str) -> sqlite3.Connection:
    """Open a connection that leaves transactions to us, and may be handed to one other thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # ours look at the result (FIELD-NOTES)
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring the tables up to date, in one transaction; raise ``StoreFault`` if they are newer."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(migrations):
            raise StoreFault(
                f"it was written by a newer offload (version {version}; this one knows"
                f" {len(migrations)})"
            )
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def start(connection: sqlite3.Connection) -> tuple[str, int, Mark | None]:
    """Count one more start; return the store id, the number of this start and the last mark."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        store_id = meta.get("store_id") or secrets.token_hex(16)
        boot = int(meta.get("boot", "0")) + 1
        keep_meta(connection, "store_id", store_id)
        keep_meta(connection, "boot", str(boot))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return store_id, boot, read_mark(meta.get("mark"))


def notes(connection: sqlite3.Connection) -> dict[str, str]:
    """Return what is noted for the next start, by name."""
    found = connection.execute("SELECT name, value FROM meta WHERE name GLOB 'note:*'")
    return {name.removeprefix("note:"): value for name, value in found}


def keep_meta(target: sqlite3.Connection | sqlite3.Cursor, name: str, value: str) -> None:
    """Write one fact about the store itself."""
    target.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def mark_text(mark: Mark) -> str:
    """Return ``mark`` as it is kept."""
    return json.dumps([mark.machine_boot, mark.ticks_s, mark.steady_s])


def read_mark(text: str | None) -> Mark | None:
    """Read ``mark_text`` back; raise ``StoreFault`` if it is anything else."""
    if text is None:
        return None
    try:
        machine_boot, ticks, steady = json.loads(text)
        return Mark(str(machine_boot), float(ticks), float(steady))
    except (TypeError, ValueError):
        raise StoreFault(f"its clock mark is unreadable: {text[:80]!r}") from None


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
