"""What jobs leave on the disk, and when it goes (C105, C041)."""

import asyncio
from pathlib import Path

import pytest

from offload import App, Context, File, Job, Node
from offload.testing import Lan
from offload.work.jobs import new_id

DAY_S = 86_400.0


class Press:
    """Prints a file, and holds ``press/hold`` until the test is over."""

    def __init__(self) -> None:
        self.app = App()
        self.begun = asyncio.Event()

        @self.app.consumer("press/print")
        async def print_it(context: Context) -> File:
            page = context.output("page.txt")
            page.path.write_text("printed")
            return page

        @self.app.consumer("press/hold")
        async def hold(context: Context) -> None:
            (context.folder / "draft.txt").write_text("draft")
            self.begun.set()
            await asyncio.sleep(60)


@pytest.fixture
def press() -> Press:
    return Press()


def folder_of(node: Node, job: Job) -> Path:
    return node.data_dir.results / job.id


async def gone(path: Path) -> None:
    async with asyncio.timeout(20):
        while path.exists():
            await asyncio.sleep(0.005)


class TestOutputFilesForWhichNoPlaceWasNamed:
    async def test_stay_as_long_as_the_job_is_in_the_history(self, lan: Lan, press: Press) -> None:
        node = await lan.node(press.app)
        job = await node.submit("press/print")
        made = await lan.until(job.result())
        await node._house.housekeeping._tidy()
        assert made.path.read_text() == "printed"
        house = node._house
        assert await house.manager.leftovers.forget([]) == []
        stored = await house.store.job(job.id)
        assert stored is not None
        assert await house.manager.leftovers.forget([stored.seq]) == [job.id]
        assert not folder_of(node, job).exists()

    async def test_go_by_age(self, lan: Lan, press: Press) -> None:
        node = await lan.node(press.app, history={"succeeded": "60s"})
        job = await node.submit("press/print")
        await lan.until(job.result())
        await lan.clock.advance(30)
        await node._house.housekeeping._tidy()
        assert (folder_of(node, job) / "page.txt").exists()
        await lan.clock.advance(60)
        await node._house.housekeeping._tidy()
        assert not folder_of(node, job).exists()
        assert await node.count() == 0

    async def test_go_when_a_person_removes_the_job(self, lan: Lan, press: Press) -> None:
        node = await lan.node(press.app)
        first, other = [await node.submit("press/print") for _ in range(2)]
        for job in (first, other):
            await lan.until(job.result())
        assert await node.remove(first.id)
        assert not folder_of(node, first).exists()
        assert folder_of(node, other).exists()

    async def test_go_at_the_next_start_if_a_crash_came_between(
        self, lan: Lan, press: Press
    ) -> None:
        node = await lan.node(press.app)
        job = await node.submit("press/print")
        await lan.until(job.result())
        orphan = node.data_dir.results / new_id()
        stranger = node.data_dir.results / "of a person"
        for folder in (orphan, stranger):
            folder.mkdir()
        node = await lan.restart(node)
        await gone(orphan)
        assert stranger.exists()
        assert (folder_of(node, job) / "page.txt").exists()


async def test_output_files_in_a_place_that_was_named_stay(
    lan: Lan, press: Press, tmp_path: Path
) -> None:
    node = await lan.node(press.app)
    job = await node.options(into=str(tmp_path / "pages")).submit("press/print")
    await lan.until(job.result())
    assert await node.remove(job.id)
    assert (tmp_path / "pages" / "page.txt").read_text() == "printed"


class TestThePrivateFolderOfAnAttempt:
    async def test_goes_when_the_attempt_ends(self, lan: Lan, press: Press) -> None:
        node = await lan.node(press.app)
        await lan.until((await node.submit("press/print")).result())
        await lan.settle()
        assert list(node.data_dir.work.iterdir()) == []

    async def test_goes_at_the_next_start_if_the_instance_was_killed(
        self, lan: Lan, press: Press
    ) -> None:
        node = await lan.node(press.app)
        killed = node.data_dir.work / f"{new_id()}-1-0123abcd"
        (killed / "out").mkdir(parents=True)
        (killed / "out" / "half.txt").write_text("half")
        node = await lan.restart(node)
        await gone(killed)
        job = await node.submit("press/hold")
        await lan.until(press.begun.wait())
        [mine] = node.data_dir.work.iterdir()
        assert mine.name.startswith(job.id)
