"""When what no job names goes, and what has no row yet, but is needed, stays (G17, G18)."""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offload import App, Context, File, Node
from offload.blobs import Blobs, Hold
from offload.errors import DiskFull, PayloadError
from offload.testing import Lan

app = App()


@app.consumer("file/make", isolate="coroutine")
async def make(context: Context) -> list[File]:
    made = [context.output("one"), context.output("two")]
    for file in made:
        file.path.write_bytes(file.name.encode() * 1_000)
    return made


def file(folder: Path, name: str) -> File:
    (folder / name).write_bytes(name.encode() * 100)
    return File(folder / name)


def put_aged(blobs: Blobs, data: bytes, age_s: float) -> str:
    sha256 = blobs.put_bytes(data)
    at = time.time() - age_s
    os.utime(blobs.path(sha256), (at, at))
    return sha256


async def becomes_true(holds: Callable[[], bool]) -> None:
    """Return when a thread has done it."""
    while not holds():
        await asyncio.sleep(0.005)


class Disk:
    """The room on the disk of ``node-1``, as the test has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: dict[str, int] = Counter({"node-1": 10**12})
        monkeypatch.setattr("offload.node.house.ground.free_bytes", self._free_bytes)

    def _free_bytes(self, folder: Path) -> int:
        return self.free[folder.name]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


class TestBlobs:
    def test_go_the_oldest_first_until_it_is_enough(self, blobs: Blobs) -> None:
        old, older, oldest = (put_aged(blobs, bytes(n), 100 * n) for n in (1, 2, 3))
        assert blobs.prune(set(), 0, lambda: blobs.count() <= 1) == 2
        assert (blobs.has(old), blobs.has(older), blobs.has(oldest)) == (True, False, False)

    def test_are_pinned_all_or_none(self, blobs: Blobs) -> None:
        here = blobs.put_bytes(b"here")
        assert not blobs.pin_all([here, "0" * 64])
        assert blobs.pin_all([here])
        assert blobs.prune(set(), -1) == 0
        blobs.unpin_all([here])
        assert blobs.prune(set(), -1) == 1


class TestAHold:
    def test_keeps_what_is_added_until_it_is_let_go(self, blobs: Blobs) -> None:
        hold = Hold(blobs)
        hold.add(blobs.put_bytes(b"1"))
        assert blobs.prune(set(), -1) == 0
        hold.let_go()
        hold.add(blobs.put_bytes(b"2"))  # by a thread that has not heard of it
        assert blobs.prune(set(), -1) == 2


class TestWhatNoJobNames:
    async def test_goes_soon_when_room_is_scarce(
        self, lan: Lan, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Garbage is never kept for ever, and what a job needs is never removed."""
        node: Node = await lan.node(app)
        monkeypatch.setattr("offload.housekeeping.BLOB_SPARED_IF_SCARCE_S", -1.0)
        await node.submit("other/topic", file(tmp_path, "needed"))
        node._house.blobs.put_bytes(b"nobody's")
        await lan.clock.advance(120)
        assert node._house.blobs.count() == 2
        disk.free["node-1"] = 1
        await lan.until(becomes_true(lambda: node._house.blobs.count() == 1), within_s=40)

    async def test_goes_though_nothing_can_be_written(
        self, lan: Lan, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a disk that is full, that is what makes room."""
        node: Node = await lan.node(app)
        sha256 = put_aged(node._house.blobs, b"nobody's", 60)

        async def full(*_: Any) -> None:
            raise DiskFull

        for name in ("keep_mark", "purge", "trim_letters"):
            monkeypatch.setattr(node._house.store, name, full)
        disk.free["node-1"] = 0
        await lan.until(becomes_true(lambda: not node._house.blobs.has(sha256)), within_s=40)


class TestWhatHasNoRowYet:
    async def test_stays_while_other_files_of_the_job_are_taken_in(
        self, lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node: Node = await lan.node(app)
        blobs = node._house.blobs
        pruned_before(monkeypatch, blobs, "put")
        files = [file(tmp_path, name) for name in ("one", "two", "three")]
        job = await node.submit("other/topic", files, b"large" * 100_000)
        assert blobs.count() == 4
        await node.stop(job.id)
        await node.remove(job.id)
        assert blobs.prune(await node._house.store.live_blobs(), -1) == 4

    async def test_is_not_kept_for_a_job_that_is_not_stored(self, lan: Lan, tmp_path: Path) -> None:
        node: Node = await lan.node(app)
        missing = File(tmp_path / "missing")
        with pytest.raises(PayloadError):
            await node.submit("other/topic", [file(tmp_path, "one"), missing])
        assert node._house.blobs.prune(set(), -1) == 1

    async def test_is_not_kept_for_a_submitter_that_has_gone(
        self, lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node: Node = await lan.node(app)
        blobs, put = node._house.blobs, node._house.blobs.put
        begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

        def slowly(path: Path) -> tuple[str, int]:
            begun.set()
            go_on.wait(10)
            try:
                return put(path)
            finally:
                over.set()

        monkeypatch.setattr(blobs, "put", slowly)
        submitting = asyncio.create_task(node.submit("other/topic", file(tmp_path, "one")))
        await asyncio.to_thread(begun.wait, 10)
        submitting.cancel()
        await asyncio.wait([submitting])
        go_on.set()
        await asyncio.to_thread(over.wait, 10)
        assert blobs.prune(set(), -1) == 1

    async def test_stays_while_a_full_disk_keeps_the_outcome_from_being_recorded(
        self, lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """G18: with room again, what was done is there."""
        node: Node = await lan.node(app)
        blobs, store, full = node._house.blobs, node._house.store, [True]
        pruned_before(monkeypatch, blobs, "put")
        change = store.change

        async def perhaps(rules: Any, *told: Any) -> Any:
            if full:
                blobs.prune(set(), -1)
                raise DiskFull
            return await change(rules, *told)

        job = await node.options(into=str(tmp_path / "out")).submit("file/make")
        monkeypatch.setattr(store, "change", perhaps)
        await lan.clock.advance(12)
        full.clear()
        made = await lan.until(job.result())
        assert [each.path.read_bytes() for each in made] == [b"one" * 1_000, b"two" * 1_000]
        monkeypatch.undo()
        assert blobs.prune(await store.live_blobs(), -1) == 2

    async def test_is_not_kept_when_its_origin_has_it(self, lan: Lan, tmp_path: Path) -> None:
        origin: Node = await lan.node()
        worker: Node = await lan.node(app)
        await lan.settle()
        await lan.until(origin.options(into=str(tmp_path / "out")).offload("file/make"))
        await lan.clock.advance(5)
        store, blobs = worker._house.store, worker._house.blobs
        assert blobs.prune(await store.live_blobs(), -1) == 2


def pruned_before(monkeypatch: pytest.MonkeyPatch, blobs: Blobs, name: str) -> None:
    """Let room be made, sparing nothing, before each call of ``name``."""
    call: Callable[..., Any] = getattr(blobs, name)

    def called(*arguments: Any) -> Any:
        blobs.prune(set(), -1)
        return call(*arguments)

    monkeypatch.setattr(blobs, name, called)
