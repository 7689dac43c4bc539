"""Folders with jobs: as arguments and as results, here and at a peer."""

import asyncio
import os
from pathlib import Path

import pytest

from offload import App, Context, Directory, File, JobFailed
from offload.errors import PayloadError, UnsafeName
from offload.testing import Lan

site = App()


@site.consumer("site/build", isolate="coroutine")
async def build(source: Directory, context: Context) -> Directory:
    made = context.output("site/")
    assert isinstance(made, Directory)
    for path in source.path.rglob("*.md"):
        (made.path / f"{path.stem}.html").write_text(f"<p>{path.read_text()}")
    (made.path / "empty").mkdir()
    return made


@site.consumer("site/count", isolate="coroutine")
async def count(source: Path) -> int:
    return sum(1 for _ in source.rglob("*"))


@site.consumer("site/lie", isolate="coroutine")
async def lie(context: Context) -> File:
    return File(context.output("site/").path)


@site.consumer("site/child")
def child(source: Directory, context: Context) -> dict[str, object]:
    made = context.output("copy/")
    (made.path / "names").write_text(" ".join(sorted(p.name for p in source.path.iterdir())))
    return {"made": made, "name": source.name}


@pytest.fixture
def app() -> App:
    return site


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "more").mkdir(parents=True)
    (folder / "one.md").write_text("1")
    (folder / "more" / "two.md").write_text("2")
    return folder


class TestAFolderOnItsWay:
    async def test_goes_to_a_peer_and_another_comes_back(
        self, lan: Lan, app: App, source: Path, tmp_path: Path
    ) -> None:
        """C100, with folders."""
        desk = await lan.node()
        await lan.node(app)
        options = desk.options(into=str(tmp_path / "out"))
        made = await lan.until(options.offload("site/build", source=Directory(source)))
        assert made == Directory(tmp_path / "out" / "site")
        there = {p.name: p.read_text() for p in made.path.iterdir() if p.is_file()}
        assert there == {"one.html": "<p>1", "two.html": "<p>2"}
        assert (made.path / "empty").is_dir()

    async def test_is_a_path_for_who_asks_for_one(self, lan: Lan, app: App, source: Path) -> None:
        node = await lan.node(app)
        assert await lan.until(node.offload("site/count", Directory(source))) == 3

    async def test_goes_to_a_child_process_too(
        self, lan: Lan, app: App, source: Path, tmp_path: Path
    ) -> None:
        node = await lan.node(app)
        async with asyncio.timeout(60):  # of real time
            value = await node.offload("site/child", Directory(source, name="n"))
        assert value["name"] == "n"
        assert (value["made"].path / "names").read_text() == "more one.md"


class TestAFolderThatCannotGo:
    async def test_is_told_by_name_and_nothing_is_submitted(
        self, lan: Lan, app: App, source: Path
    ) -> None:
        node = await lan.node(app)
        (source / "more" / "a:b").touch()
        with pytest.raises(UnsafeName, match="more/a:b"):
            await node.submit("site/count", Directory(source))
        (source / "more" / "a:b").unlink()
        (source / "more" / "away").symlink_to("/etc")
        with pytest.raises(PayloadError, match="more/away"):
            await node.submit("site/count", Directory(source))
        assert await node.count() == 0

    async def test_nor_does_a_file_go_as_a_folder_or_a_folder_as_a_file(
        self, lan: Lan, app: App, source: Path
    ) -> None:
        node = await lan.node(app)
        with pytest.raises(PayloadError, match="give a Directory"):
            await node.submit("site/count", File(source))
        with pytest.raises(PayloadError, match="give a File"):
            await node.submit("site/count", Directory(source / "one.md"))
        with pytest.raises(PayloadError, match="cannot be read: No such file"):
            await node.submit("site/count", Directory(source / "gone"))

    async def test_and_neither_is_a_pipe_or_a_device(
        self, lan: Lan, app: App, tmp_path: Path
    ) -> None:
        """C103: what never ends is not begun to be read."""
        node = await lan.node(app)
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(PayloadError, match=f"^{path}: is no regular file$"):
                await node.submit("site/count", File(path))

    async def test_nor_comes_back_as_a_file(self, lan: Lan, app: App) -> None:
        node = await lan.node(app, queues={"main": {"retries": 0}})
        with pytest.raises(JobFailed, match="return a Directory"):
            await lan.until(node.offload("site/lie"))
