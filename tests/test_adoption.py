"""Another instance takes over the jobs of a data directory whose machine is dead (``adopt``)."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from offload import App, File, Node
from offload.datadir import DataDir
from offload.errors import DataDirAdopted, DataDirInUse, UsageError
from offload.leases.adoption import taken_over
from offload.testing import Lan
from offload.work.jobs import Delivery, Job, State


class Worker:
    """Consumers that note their runs, and end when the test says so."""

    def __init__(self) -> None:
        self.app = App()
        self.runs: list[str] = []
        self.go = asyncio.Event()

        @self.app.consumer("work/do")
        async def do(name: str) -> str:
            self.runs.append(name)
            await self.go.wait()
            return name

        @self.app.consumer("work/read")
        async def read(source: File) -> str:
            return source.path.read_text()


async def dead(lan: Lan, node: Node, tmp_path: Path) -> Path:
    """Crash ``node`` and return a copy of its data directory, as from the dead disk."""
    await lan.crash(node)
    copy = tmp_path / "rescued"
    shutil.copytree(node.data_dir.path, copy)
    return copy


async def states(node: Node) -> list[str]:
    return sorted(job["state"] for job in await node.jobs())


class TestJobsThatWaited:
    async def test_go_on_under_their_ids(self, lan: Lan, tmp_path: Path) -> None:
        (tmp_path / "note").write_text("hello")
        desk = await lan.node(name="desk")
        jobs = [
            await desk.options(priority=3, retries=7).submit("work/do", name="a"),
            await desk.submit("work/read", source=File(tmp_path / "note")),
        ]
        rescued = await dead(lan, desk, tmp_path)
        worker = Worker()
        worker.go.set()
        heir = await lan.node(worker.app, name="heir")
        told = await heir.adopt(rescued)
        assert (told["adopted"], told["lost"], told["left"]) == (2, 0, [])
        values = [await lan.until((await heir.job(job.id)).result()) for job in jobs]
        assert values == ["a", "hello"]
        info = await heir.describe(jobs[0].id)
        assert (info["priority"], worker.runs) == (3, ["a"])
        assert [job["id"] for job in await heir.jobs(where=["name=a"])] == [jobs[0].id]

    async def test_are_taken_once_however_often_that_is_asked(
        self, lan: Lan, tmp_path: Path
    ) -> None:
        desk = await lan.node(name="desk")
        for n in range(3):
            await desk.options(key=str(n)).submit("work/do", name=str(n))
        rescued = await dead(lan, desk, tmp_path)
        heir = await lan.node(name="heir")
        first, again = await heir.adopt(rescued), await heir.adopt(rescued)
        assert (first["adopted"], again["adopted"], again["known"]) == (3, 0, 3)
        assert await heir.count() == 3

    async def test_keep_their_order_and_their_time(self, lan: Lan, tmp_path: Path) -> None:
        desk = await lan.node(name="desk")
        names = [str(n) for n in range(5)]
        for name in names:
            await desk.options(order_by="one").submit("work/do", name=name)
        await desk.options(run_after="10m").submit("work/do", name="late")
        await lan.clock.advance(300)
        rescued = await dead(lan, desk, tmp_path)
        worker = Worker()
        worker.go.set()
        heir = await lan.node(worker.app, name="heir")
        await heir.adopt(rescued)
        await lan.clock.advance(250)
        assert worker.runs == names
        await lan.clock.advance(100)
        assert worker.runs == [*names, "late"]

    async def test_whose_files_are_gone_are_left_and_named(self, lan: Lan, tmp_path: Path) -> None:
        (tmp_path / "note").write_text("hello")
        desk = await lan.node(name="desk")
        job = await desk.submit("work/read", source=File(tmp_path / "note"))
        await desk.submit("work/do", name="a")
        rescued = await dead(lan, desk, tmp_path)
        shutil.rmtree(rescued / "blobs")
        told = await (await lan.node(name="heir")).adopt(rescued)
        assert told["adopted"] == 1
        assert [left["id"] for left in told["left"]] == [job.id]
        assert "is not here" in told["left"][0]["reason"]


class TestJobsThatWereUnderWay:
    async def test_run_again_unless_they_must_not(self, lan: Lan, tmp_path: Path) -> None:
        worker = Worker()
        desk, peer = await lan.node(name="desk"), await lan.node(worker.app)
        await desk.submit("work/do", name="plain")
        await desk.options(delivery="at-most-once").submit("work/do", name="once")
        while len(worker.runs) < 2:
            await lan.clock.advance(0.5)
        rescued = await dead(lan, desk, tmp_path)
        heir = await lan.node(name="heir")
        told = await heir.adopt(rescued)
        assert (told["adopted"], told["lost"]) == (2, 1)
        worker.go.set()
        while {"queued", "assigned", "active"} & set(await states(heir)):
            await lan.clock.advance(0.5)
        assert await states(heir) == ["lost", "succeeded"]
        assert sorted(worker.runs) == ["once", "plain", "plain"]
        while (await peer.status())["outbox"]["jobs"] != 2:  # for the origin that is dead
            await lan.clock.advance(0.5)

    async def test_are_dead_letters_if_they_were_done_for_others(
        self, lan: Lan, tmp_path: Path
    ) -> None:
        worker = Worker()
        worker.go.set()
        desk, peer = await lan.node(name="desk"), await lan.node(worker.app, name="peer")
        lan.hold("outcome")
        job = await desk.submit("work/do", name="a")
        while not (await peer.status())["outbox"]["jobs"]:
            await lan.clock.advance(0.5)
        rescued = await dead(lan, peer, tmp_path)
        heir = await lan.node(name="heir")
        told = await heir.adopt(rescued)
        assert (told["adopted"], told["letters"]) == (0, 1)
        [letter] = await heir.dead_letters()
        assert (letter["job"], letter["origin"], letter["value"]) == (job.id, desk.id, "a")


class TestADataDirectory:
    async def test_that_is_in_use_is_refused(self, lan: Lan) -> None:
        desk, heir = await lan.node(), await lan.node()
        for path in (desk.data_dir.path, heir.data_dir.path):
            with pytest.raises(DataDirInUse):
                await heir.adopt(path)

    async def test_that_was_adopted_starts_no_instance_and_is_adopted_by_no_other(
        self, lan: Lan, tmp_path: Path
    ) -> None:
        desk = await lan.node(name="desk")
        await desk.submit("work/do", name="a")
        rescued = await dead(lan, desk, tmp_path)
        heir, other = await lan.node(name="heir"), await lan.node(name="other")
        await heir.adopt(rescued)
        with pytest.raises(DataDirAdopted, match="adopted by heir"):
            await other.adopt(rescued)
        with pytest.raises(DataDirAdopted, match="adopted by heir"):
            async with Node(desk.config, None, DataDir(rescued)):
                pass
        assert await other.count() == 0

    async def test_that_comes_back_all_the_same_is_warned_of(
        self, lan: Lan, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk = await lan.node(name="desk")
        rescued = await dead(lan, desk, tmp_path)
        heir = await lan.node(name="heir")
        await heir.adopt(rescued)
        await lan.restart(heir)
        await lan.restart(desk)
        assert "desk is back, though its jobs were adopted here" in caplog.text

    async def test_that_is_none_is_refused(self, lan: Lan, tmp_path: Path) -> None:
        heir = await lan.node()
        with pytest.raises(UsageError, match="no data directory"):
            await heir.adopt(tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()


def job(**changes: Any) -> Job:
    made = Job("0" * 26, "a/b", "main", created_at=100.0, created_wall=1_000.0, waits_since=100.0)
    return made._replace(attempt=3, given=((3, "ada"),), **changes)


@pytest.mark.parametrize(
    ("changes", "state", "not_before"),
    [
        ({}, State.QUEUED, 0.0),
        ({"not_before": 160.0}, State.QUEUED, 560.0),
        ({"state": State.ACTIVE, "worker": "ada"}, State.QUEUED, 0.0),
        ({"state": State.ASSIGNED, "worker": "ada"}, State.QUEUED, 0.0),
        (
            {"state": State.ACTIVE, "worker": "ada", "delivery": Delivery.EXCLUSIVE},
            State.QUEUED,
            818.0,
        ),
        (
            {"state": State.ASSIGNED, "worker": "ada", "delivery": Delivery.AT_MOST_ONCE},
            State.LOST,
            0.0,
        ),
        ({"delivery": Delivery.AT_MOST_ONCE}, State.QUEUED, 0.0),
        ({"state": State.ACTIVE, "worker": "ada", "stopping": True}, State.STOPPED, 0.0),
    ],
)
def test_what_becomes_of_a_job_that_is_taken_over(
    changes: dict[str, Any], state: State, not_before: float
) -> None:
    """Their steady clock was at 100 when the wall clock was at 1000; ours is 800 at 1300."""
    taken = taken_over(job(**changes), 800.0, 1_300.0, 18.0)
    assert (taken.state, taken.not_before) == (state, not_before)
    assert (taken.created_at, taken.fence, taken.given) == (500.0, 4, ())
