"""What becomes of the store when something breaks: power, disk, file, version (DESIGN §5)."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import offload
from offload.errors import DiskFull, OffloadError, StoreFault
from offload.work.jobs import (
    Event,
    Held,
    HeldState,
    Job,
    Outcome,
    Result,
    Spec,
    State,
    after,
    digest,
    new_id,
)
from offload.work.store import HeldStep, Step, Store, reserve, writer

REPOSITORY = Path(offload.__file__).parent.parent
ROOM_AGAIN_S = 10.0
ADDER = """
import asyncio, sys
from pathlib import Path
from offload.work.jobs import Job, Spec, digest, new_id
from offload.work.store import Store

async def add(store):
    while True:
        job = Job(new_id(), "a", "main")
        await store.insert(job, Spec("a", b"x", digest(b"x")))
        print(job.id, flush=True)

async def main():
    store = Store.open(Path(sys.argv[1]))
    await asyncio.gather(*(add(store) for _ in range(8)))

asyncio.run(main())
"""


def a_job(**more: object) -> Job:
    return Job(new_id(), "a", "main")._replace(**more)


def a_spec(payload: bytes = b"\x80") -> Spec:
    return Spec("a", payload, digest(payload))


def assigned(job: Job) -> Step[State]:
    kept = job._replace(state=after(job.state, Event.ASSIGN))
    return Step(kept.state, kept)


async def until(holds: Callable[[], bool], deadline_s: float = ROOM_AGAIN_S) -> None:
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


class TestAProcessThatIsKilled:
    """Promise 1: when ``insert`` has returned, the job is on the disk."""

    @pytest.mark.parametrize("acknowledged", [1, 50, 400])
    async def test_loses_nothing_that_it_acknowledged(
        self, tmp_path: Path, acknowledged: int
    ) -> None:
        adder = subprocess.Popen(
            [sys.executable, "-c", ADDER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert adder.stdout is not None
        lines = [adder.stdout.readline() for _ in range(acknowledged)]
        adder.send_signal(signal.SIGKILL)
        lines += adder.stdout.read().splitlines(keepends=True)  # what was on its way
        adder.wait()
        adder.stdout.close()
        told = {line.strip() for line in lines if line.endswith("\n")}
        assert len(told) >= acknowledged
        store = Store.open(tmp_path)
        kept = {job.id for job in await store.find(limit=100_000)}
        assert told <= kept
        assert await store.check() == "ok"
        assert store.boot == 2
        await store.close()


class TestADiskThatIsFull:
    """C087, G18. Here the file may not grow; ``TestARealDiskThatIsFull`` fills a real one."""

    @pytest.fixture
    async def full(self, store: Store) -> Store:
        """Has one queued job, and a file that may not grow."""
        await store.insert(a_job(id="0" * 26), a_spec())
        await self.limit_pages(store, 1)  # less than it has: no more than it has
        return store

    async def limit_pages(self, store: Store, number: int) -> None:
        await store._write(
            lambda ledger: ledger.cursor.execute(f"PRAGMA max_page_count = {number}")
        )

    async def test_takes_no_new_job_and_stores_nothing_of_it(self, full: Store) -> None:
        with pytest.raises(DiskFull):
            await full.insert(a_job(), a_spec(b"x" * 100_000))
        assert full.full
        assert full.fault is None
        assert [job.id for job in await full.find()] == ["0" * 26]
        assert await full.counts() == {State.QUEUED: 1}

    async def test_lets_work_under_way_be_finished(self, full: Store) -> None:
        with pytest.raises(DiskFull):
            await full.insert(a_job(), a_spec(b"x" * 100_000))
        assert await full.change([("0" * 26, assigned)]) == [State.ASSIGNED]

    async def test_fails_only_the_new_work_of_a_group(self, full: Store) -> None:
        failed, answer = await asyncio.gather(
            full.insert(a_job(), a_spec(b"x" * 100_000)),
            full.change([("0" * 26, assigned)]),
            return_exceptions=True,
        )
        assert isinstance(failed, DiskFull)
        assert answer == [State.ASSIGNED]

    async def test_accepts_no_job_of_another_but_may_refuse_it(self, full: Store) -> None:
        with pytest.raises(DiskFull):
            await full.insert(a_job(), a_spec(b"x" * 100_000))
        key = ("s" * 32, "j" * 26)
        have = Held(*key, "o" * 26, HeldState.HAVE, 1)
        with pytest.raises(DiskFull):
            await full.change_held([(key, lambda _: HeldStep(None, have, a_spec()))])
        tomb = replace(have, state=HeldState.TOMB, refused="disk full")
        assert await full.change_held([(key, lambda _: HeldStep("no", tomb))]) == ["no"]

    async def test_drops_the_reserve(self, full: Store, tmp_path: Path) -> None:
        kept = tmp_path / "store" / "reserve"
        assert kept.stat().st_size == reserve.RESERVE_BYTES
        with pytest.raises(DiskFull):
            await full.insert(a_job(), a_spec(b"x" * 100_000))
        assert not kept.exists()

    async def test_goes_on_by_itself_when_there_is_room(self, full: Store, tmp_path: Path) -> None:
        with pytest.raises(DiskFull):
            await full.insert(a_job(), a_spec(b"x" * 100_000))
        await self.limit_pages(full, 100_000)
        await until(lambda: not full.full)
        assert (tmp_path / "store" / "reserve").exists()
        assert (await full.insert(a_job(), a_spec(b"x" * 100_000))).seq == 2


@pytest.mark.lab
class TestARealDiskThatIsFull:
    """C087, G18 on a tmpfs of 6 MiB."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = (
            os.geteuid() == 0
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)],
                check=False,
                capture_output=True,
            ).returncode
        )
        if not mounted:
            if os.environ.get("OFFLOAD_LAB") == "require":
                pytest.fail("a tmpfs cannot be mounted here")
            pytest.skip("needs root and mount")
        yield disk
        subprocess.run(["umount", str(disk)], check=True)

    async def test_loses_nothing_and_goes_on_when_there_is_room(self, disk: Path) -> None:
        store = Store.open(disk / "store")
        kept = [await store.insert(a_job(), a_spec()) for _ in range(100)]
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4_096):
                pass
        added = 0
        with pytest.raises(DiskFull):  # noqa: PT012 - after so many as there is room for
            while True:
                await store.insert(a_job(), a_spec(b"x" * 10_000))
                added += 1
        outcome = Outcome(Result.SUCCEEDED, value=b"v" * 100)
        for job in kept:  # the reserve is for that
            await store.change([(job.id, lambda seen: Step(0, seen, outcome=outcome))])
        assert await store.outcome(kept[-1].id) == outcome
        assert len(await store.find(limit=10_000)) == len(kept) + added
        filler.unlink()
        await until(lambda: not store.full)
        await store.insert(a_job(), a_spec(b"x" * 10_000))
        assert await store.check() == "ok"
        await store.close()


def io_error(code: int = sqlite3.SQLITE_IOERR_FSYNC) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


class TestAnErrorOfTheDisk:
    """DESIGN §5, fail-stop: after an I/O error nothing is written any more, and it says so."""

    @staticmethod
    def breaks(_: object) -> None:
        raise io_error()

    async def test_fails_all_of_its_group_and_all_that_comes_later(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        answers = await asyncio.gather(
            store.insert(a_job(), a_spec()), store._write(self.breaks), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [StoreFault, StoreFault]
        with pytest.raises(StoreFault, match="I/O"):
            await store.change([(job.id, assigned)])
        assert await store.find() == [job]

    async def test_is_told_once(self, store: Store) -> None:
        told: list[StoreFault] = []
        store.on_fault = told.append
        for _ in range(3):
            with pytest.raises(StoreFault):
                await store._write(self.breaks)
        await until(lambda: bool(told))
        assert [fault.exit_code for fault in told] == [3]

    async def test_found_by_a_question_ends_the_writing_too(self, store: Store) -> None:
        told: list[StoreFault] = []
        store.on_fault = told.append
        with pytest.raises(StoreFault):
            await store._ask(self.breaks)
        await until(lambda: bool(told))
        with pytest.raises(StoreFault):
            await store.insert(a_job(), a_spec())

    async def test_is_seen_in_a_checkpoint_too(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken:
            def __init__(self, connection: sqlite3.Connection) -> None:
                self._connection = connection

            def __getattr__(self, name: str) -> object:
                return getattr(self._connection, name)

            def execute(self, text: str) -> sqlite3.Cursor:
                if "checkpoint" in text:
                    raise io_error()
                return self._connection.execute(text)

        monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1)
        monkeypatch.setattr(store._writer, "_connection", Broken(store._writer._connection))
        await store.insert(a_job(), a_spec())
        await until(lambda: store.fault is not None)


class TestAFileThatIsNoStore:
    @pytest.mark.parametrize("content", [b"no database at all, but text" * 100, b"\x00" * 8_192])
    def test_is_refused_and_left_alone(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "store.db"
        path.write_bytes(content)
        with pytest.raises(StoreFault) as fault:
            Store.open(tmp_path)
        assert str(path) in str(fault.value)
        assert path.read_bytes() == content

    async def test_is_noticed_if_only_a_part_is_damaged(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path)
        await asyncio.gather(*(store.insert(a_job(), a_spec()) for _ in range(500)))
        await store.close()
        path = tmp_path / "store.db"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) - len(whole) // 2))
        with pytest.raises(StoreFault):  # noqa: PT012 - wherever it is noticed first
            store = Store.open(tmp_path)
            try:
                for job in await store.find(limit=500):
                    await store.spec(job.id)
            finally:
                await store.close()


class TestARowThatCannotBeRead:
    """C012: never run, never lost, stops no other, floods no log; visible, and can be removed."""

    BAD = "0" * 26

    @pytest.fixture(
        params=[
            "UPDATE jobs SET state = 'sleeping' WHERE id = '{id}'",
            "UPDATE jobs SET delivery = 'twice' WHERE id = '{id}'",
            "UPDATE jobs SET given = x'ff00' WHERE id = '{id}'",
            "UPDATE jobs SET policy = 'moon-first' WHERE id = '{id}'",
            "UPDATE jobs SET demands = '{{' WHERE id = '{id}'",
            "UPDATE specs SET envelope = x'c1' WHERE seq = 1",
            "UPDATE specs SET envelope = x'80' WHERE seq = 1",
            "DELETE FROM specs WHERE seq = 1",
        ],
        ids=["state", "delivery", "given", "policy", "demands", "garbage", "fields", "missing"],
    )
    async def damaged(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
        """Has two queued jobs, the older of them damaged."""
        store = Store.open(tmp_path)
        await store.insert(a_job(id=self.BAD), a_spec())
        await store.insert(a_job(), a_spec())
        await store.close()
        connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        connection.execute(request.param.format(id=self.BAD))
        connection.close()
        store = Store.open(tmp_path)
        yield store
        await store.close()

    async def test_stops_no_other_and_floods_no_log(
        self, damaged: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(5):
            await damaged.find()
            for job in await damaged.due("a", now=0.0, limit=1):
                if await damaged.spec(job.id) is not None:
                    await damaged.change([(job.id, assigned)])
        assert None in (await damaged.job(self.BAD), await damaged.spec(self.BAD))
        assert await damaged.due("a", now=0.0, limit=1) == []
        assert (await damaged.counts())[State.ASSIGNED] == 1
        assert len(caplog.records) == 1
        assert self.BAD in caplog.text
        assert await damaged.unreadable() == [self.BAD]

    async def test_can_be_removed(self, damaged: Store) -> None:
        await damaged.remove(self.BAD)
        assert sum((await damaged.counts()).values()) == 1
        assert len(await damaged.find()) == 1

    @pytest.mark.parametrize(
        ("damage", "attempt"), [("state = 'sleeping'", 3), (f"attempt = {2**40}", 2**40)]
    )
    async def test_of_another_is_like_a_refusal(
        self, tmp_path: Path, damage: str, attempt: int
    ) -> None:
        """It is not told to its origin among those that can be read: all would be refused."""
        key = ("s" * 32, "j" * 26)
        store = Store.open(tmp_path)
        held = Held(*key, "o" * 26, HeldState.STARTED, 3)
        await store.change_held([(key, lambda _: HeldStep(None, held))])
        await store.close()
        connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        connection.execute(f"UPDATE held SET {damage}")
        connection.close()
        store = Store.open(tmp_path)
        assert await store.held([HeldState.STARTED]) == []
        (seen,) = await store.change_held([(key, HeldStep)])
        assert seen is not None
        assert (seen.state, seen.attempt) == (HeldState.TOMB, attempt)
        assert "unreadable" in seen.refused
        await store.close()


async def test_a_bug_in_a_rule_reaches_its_caller_and_nobody_else(store: Store) -> None:
    job = await store.insert(a_job(), a_spec())

    def buggy(_: Job) -> Step[None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.change([(job.id, buggy)])
    assert await store.change([(job.id, assigned)]) == [State.ASSIGNED]


async def test_a_value_that_sqlite_refuses_is_an_error_of_ours(store: Store) -> None:
    with pytest.raises(OffloadError, match="cannot be stored"):
        await store.insert(a_job(priority=2**70), a_spec())
    assert (await store.insert(a_job(), a_spec())).seq == 1
