"""The file of the store: its version, and its write-ahead log."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from offload.errors import StoreFault
from offload.work.jobs import Job, Spec, digest, new_id
from offload.work.store import Store, schema, writer


def a_job() -> Job:
    return Job(new_id(), "a", "main")


def a_spec(payload: bytes = b"\x80") -> Spec:
    return Spec("a", payload, digest(payload))


async def until(holds: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        await asyncio.sleep(0.02)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Is new, empty and in a file."""
    store = Store.open(tmp_path / "store")
    yield store
    await store.close()


class TestTheVersionOfTheTables:
    def version(self, connection: sqlite3.Connection) -> int:
        number: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return number

    @pytest.fixture
    def tables(self) -> Iterator[sqlite3.Connection]:
        connection = schema.open_memory()
        yield connection
        connection.close()

    def test_is_kept_in_the_file(self, tables: sqlite3.Connection) -> None:
        assert self.version(tables) == len(schema.MIGRATIONS)

    def test_is_raised_step_by_step_and_once(self, tables: sqlite3.Connection) -> None:
        later = (
            *schema.MIGRATIONS,
            ("CREATE TABLE more (n INTEGER)", "INSERT INTO more VALUES (1)"),
            ("UPDATE more SET n = n + 1",),
        )
        for _ in range(2):
            schema.prepare(tables, later)
        assert self.version(tables) == len(later)
        assert tables.execute("SELECT n FROM more").fetchall() == [(2,)]

    def test_stays_if_a_step_fails(self, tables: sqlite3.Connection) -> None:
        broken = (*schema.MIGRATIONS, ("CREATE TABLE more (n INTEGER)", "NONSENSE"))
        with pytest.raises(sqlite3.OperationalError):
            schema.prepare(tables, broken)
        assert self.version(tables) == len(schema.MIGRATIONS)
        assert tables.execute("SELECT 1 FROM sqlite_schema WHERE name = 'more'").fetchall() == []

    async def test_that_is_newer_is_refused(self, tmp_path: Path) -> None:
        await Store.open(tmp_path).close()
        connection = sqlite3.connect(tmp_path / "store.db")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(StoreFault, match="newer offload"):
            Store.open(tmp_path)


class TestTheLog:
    async def test_is_brought_into_the_file_when_it_has_grown(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 2**20)
        for _ in range(200):
            await store.insert(a_job(), a_spec(b"x" * 50_000))
        assert (tmp_path / "store" / "store.db-wal").stat().st_size < 6 * 2**20
        assert (tmp_path / "store" / "store.db").stat().st_size > 6 * 2**20

    async def test_is_brought_into_the_file_when_nothing_is_asked(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "IDLE_S", 0.05)
        await store.insert(a_job(), a_spec(b"x" * 500_000))
        path = tmp_path / "store" / "store.db"
        await until(lambda: path.stat().st_size > 500_000)

    async def test_waits_for_another_program_that_writes(
        self, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Such as somebody's backup, or a look with ``sqlite3``."""
        await store._write(lambda ledger: ledger.cursor.execute("PRAGMA busy_timeout = 50"))
        other = sqlite3.connect(tmp_path / "store" / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        adding = asyncio.create_task(store.insert(a_job(), a_spec()))
        await until(lambda: "another program" in caplog.text)
        other.execute("ROLLBACK")
        other.close()
        assert (await adding).seq == 1
