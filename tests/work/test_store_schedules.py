"""Schedules in the store: opaque rows that last."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from offload.errors import DiskFull
from offload.work.store import KeptSchedule, Store, schema

NIGHTLY = KeptSchedule("nightly", b"\x01", declared=True)
WEEKLY = KeptSchedule("weekly", b"\x02", False, 17.25, "ada", True, 9.5)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path)
    yield store
    await store.close()


class TestASchedule:
    async def test_is_there_after_a_restart(self, store: Store, tmp_path: Path) -> None:
        await store.put_schedule(WEEKLY)
        await store.put_schedule(NIGHTLY)
        await store.close()
        again = Store.open(tmp_path)
        assert await again.schedules() == [NIGHTLY, WEEKLY]
        await again.close()

    async def test_is_put_in_place_of_the_one_with_its_id(self, store: Store) -> None:
        await store.put_schedule(NIGHTLY)
        await store.put_schedule(KeptSchedule("nightly", b"\x03"))
        assert await store.schedules() == [KeptSchedule("nightly", b"\x03")]

    async def test_is_marked_without_its_record(self, store: Store) -> None:
        await store.put_schedule(NIGHTLY)
        await store.mark_schedule("nightly", 12.5, "bob", asked=True, owed=12.5)
        await store.mark_schedule("unknown", 1.0, "bob", asked=False, owed=0.0)
        assert await store.schedules() == [
            KeptSchedule("nightly", b"\x01", True, 12.5, "bob", True, 12.5)
        ]

    async def test_is_removed_for_good(self, store: Store) -> None:
        await store.put_schedule(NIGHTLY)
        for _ in range(2):
            await store.remove_schedule("nightly")
        assert await store.schedules() == []

    async def test_is_not_taken_in_when_the_disk_is_full(self, store: Store) -> None:
        """C087: the ones that are there go on."""
        await store.put_schedule(NIGHTLY)
        store._writer._ledger.full = True
        store._writer._looked_at = float("inf")
        with pytest.raises(DiskFull):
            await store.put_schedule(WEEKLY)
        await store.put_schedule(KeptSchedule("nightly", b"\x04"))
        await store.mark_schedule("nightly", 1.0, "ada", asked=False, owed=0.0)
        [kept] = await store.schedules()
        assert (kept.record, kept.fired) == (b"\x04", 1.0)

    async def test_has_its_table_in_a_file_of_the_first_version(self, tmp_path: Path) -> None:
        path = tmp_path / "old" / schema.FILE_NAME
        path.parent.mkdir()
        connection = schema.connect(str(path))
        schema.prepare(connection, schema.MIGRATIONS[:1])
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("SELECT * FROM schedules")
        connection.close()
        store = Store.open(path.parent)
        await store.put_schedule(NIGHTLY)
        assert await store.schedules() == [NIGHTLY]
        await store.close()
