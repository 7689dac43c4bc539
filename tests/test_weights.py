"""How much may travel with a job, and how much all files may take (G17, G18, C105)."""

from pathlib import Path

import pytest

from offload import App, Context, Directory, File, JobFailed
from offload.blobs import Blobs
from offload.distributor.bounds import Bounds, Gate
from offload.errors import NoRoom, PayloadError
from offload.testing import Lan

LIMIT = {"topics": {"file/*": {"max_bytes": "10kB"}}}


@pytest.fixture
def app() -> App:
    app = App()

    @app.consumer("file/size", isolate="coroutine")
    async def size(file: File) -> int:
        return file.path.stat().st_size

    @app.consumer("file/tell", isolate="coroutine")
    async def tell(size: int) -> bytes:
        return bytes(size)

    @app.consumer("file/make", isolate="coroutine")
    async def make(size: int, context: Context) -> File:
        made = context.output("made")
        made.path.write_bytes(bytes(size))
        return made

    return app


def file(folder: Path, name: str, size: int) -> File:
    (folder / name).write_bytes(name.encode() * size)
    return File(folder / name)


class TestATopicWithALimit:
    async def test_takes_what_is_within_it(self, lan: Lan, app: App, tmp_path: Path) -> None:
        node = await lan.node(app, **LIMIT)
        assert await lan.until(node.offload("file/size", file(tmp_path, "a", 9_000))) == 9_000

    async def test_takes_no_more_and_stores_nothing(
        self, lan: Lan, app: App, tmp_path: Path
    ) -> None:
        node = await lan.node(app, **LIMIT)
        with pytest.raises(PayloadError, match=r"9\.8\d+ KiB are too much: at most 9\.766 KiB"):
            await node.submit("file/size", file(tmp_path, "a", 10_050))
        two = [file(tmp_path, "b", 6_000), file(tmp_path, "c", 6_000)]
        with pytest.raises(PayloadError, match="max_bytes"):
            await node.submit("file/size", two)
        (tmp_path / "folder").mkdir()
        file(tmp_path / "folder", "d", 11_000)
        with pytest.raises(PayloadError, match="max_bytes"):
            await node.submit("file/size", Directory(tmp_path / "folder"))
        with pytest.raises(PayloadError, match="max_bytes"):
            await node.submit("file/size", text="x" * 11_000)
        assert (await node.count(), node._house.blobs.count()) == (0, 0)

    async def test_lets_no_more_come_back_and_does_not_try_again(self, lan: Lan, app: App) -> None:
        node = await lan.node(app, **LIMIT)
        assert (await lan.until(node.offload("file/make", 9_000))).path.stat().st_size == 9_000
        with pytest.raises(JobFailed, match="max_bytes") as failed:
            await lan.until(node.offload("file/make", 11_000))
        assert failed.value.state == "error"

    async def test_holds_where_the_job_was_added_too(self, lan: Lan, app: App) -> None:
        desk = await lan.node(**LIMIT)
        await lan.node(app)
        with pytest.raises(JobFailed, match=r"could not be placed: .*max_bytes"):
            await lan.until(desk.offload("file/make", 11_000))
        assert list(desk.data_dir.results.rglob("*made")) == []
        assert desk._house.blobs.count() == 0  # not even fetched

    async def test_holds_for_a_large_value_too(self, lan: Lan, app: App) -> None:
        desk = await lan.node(**LIMIT)
        worker = await lan.node(app)
        with pytest.raises(JobFailed, match=r"293 KiB are too much: .*max_bytes"):
            await lan.until(desk.offload("file/tell", 300_000))
        await lan.clock.advance(5)
        assert (desk._house.blobs.count(), worker._house.distributor.outbox()) == (0, [])

    async def test_other_topics_have_none(self, lan: Lan, app: App, tmp_path: Path) -> None:
        node = await lan.node(app, topics={"other/*": {"max_bytes": 1}})
        assert await lan.until(node.offload("file/size", file(tmp_path, "a", 50_000))) == 50_000


class TestFilesThatMayTakeNoMore:
    async def test_are_not_added(self, lan: Lan, app: App, tmp_path: Path) -> None:
        node = await lan.node(app, limits={"blobs": "10kB"})
        await node.submit("other/topic", file(tmp_path, "a", 6_000))
        with pytest.raises(NoRoom, match=r"limits\.blobs"):
            await node.submit("other/topic", file(tmp_path, "b", 6_000))
        assert await node.count() == 1
        await node.submit("other/topic", size=1)  # without files it is taken

    async def test_are_not_taken_of_others(self, lan: Lan, app: App, tmp_path: Path) -> None:
        desk = await lan.node(name="desk")
        full = await lan.node(app, name="full", limits={"blobs": "10kB"})
        job = await desk.submit("file/size", file(tmp_path, "a", 11_000))
        await lan.clock.advance(5)
        attempts = (await job.info())["attempts"]
        assert "it has no room for 10.74 KiB of files" in attempts[0]["reason"]
        assert full._house.blobs.count() == 0
        await lan.node(app, name="roomy")
        assert await lan.until(job.result()) == 11_000

    def test_are_counted_without_a_look_at_the_disk(self, tmp_path: Path) -> None:
        Blobs(tmp_path / "blobs").put_bytes(b"123")
        blobs = Blobs(tmp_path / "blobs")
        assert blobs.used() == 3
        digest = blobs.put_bytes(b"12345")
        blobs.put_bytes(b"12345")
        assert blobs.used() == blobs.usage() == 8
        blobs.pin(digest)
        blobs.prune(set(), older_than_s=-1)
        assert blobs.used() == blobs.usage() == 5

    def test_are_not_taken_if_the_disk_would_be_low_then(self) -> None:
        gate = Gate(lambda: Bounds(disk_free_bytes=100), lambda: 150, lambda: (0, 0))
        assert (gate.room(0), gate.room(50)) == ("", "")
        assert gate.room(51) == "its disk has no room for 51 B of files"
