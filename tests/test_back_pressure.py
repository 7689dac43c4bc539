"""Nobody takes more than it can: full disks, full shelves, full queues (FAULTS G17, G18)."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from offload import App, Node
from offload.distributor.bounds import Bounds, Gate
from offload.distributor.slots import prefetch
from offload.errors import QueueFull, UsageError
from offload.testing import Lan

PLENTY = 10**12


@pytest.fixture
def app() -> App:
    app = App()

    @app.consumer("work/do")
    async def do() -> int:
        return 1

    return app


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Say how much room there is, by the name of the instance."""
    room: dict[str, int] = Counter()
    free = "offload.node.house.ground.free_bytes"
    monkeypatch.setattr(free, lambda folder: room[folder.name] or PLENTY)
    return room


class TestAGate:
    @staticmethod
    def gate(free: list[int], held: int = 0, outbox: int = 0) -> Gate:
        bounds = Bounds(disk_free_bytes=100, held=5, outbox=7)
        return Gate(lambda: bounds, lambda: free[0], lambda: (held, outbox))

    def test_closes_when_the_disk_is_low_and_opens_again(self) -> None:
        free = [100]
        gate = self.gate(free)
        assert (gate.tick(1.0), gate.closed()) == (False, "")
        free[0] = 99
        assert (gate.tick(1.5), gate.closed()) == (False, "")  # it looks once a second
        assert (gate.tick(2.5), "its disk is low" in gate.closed()) == (True, True)
        free[0] = 100
        assert (gate.tick(4.0), gate.closed()) == (True, "")

    @pytest.mark.parametrize(
        ("held", "outbox", "word"), [(4, 6, ""), (5, 0, "shelf"), (0, 7, "outbox")]
    )
    def test_closes_when_too_much_is_here(self, held: int, outbox: int, word: str) -> None:
        gate = self.gate([100], held, outbox)
        gate.tick(1.0)
        why = gate.shelf() or gate.closed()
        assert bool(why) == bool(word)
        assert word in why

    def test_counts_what_is_on_its_way_to_the_shelf(self) -> None:
        gate = self.gate([100], held=3)
        assert [bool(gate.shelf(coming)) for coming in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("places", "mean_s", "lined_up"),
    [
        (4, None, 0),
        (4, 0.02, 40),
        (4, 0.2, 4),
        (4, 0.5, 1),
        (15, 1.0, 3),
        (4, 1.0, 0),
        (4, 0.0, 512),
    ],
)
def test_what_begins_soon_may_stand_in_line_at_a_worker(
    places: int, mean_s: float | None, lined_up: int
) -> None:
    """Jobs that wait there begin within 0.2 s, so that no place is empty between two of them."""
    assert prefetch(places, mean_s) == lined_up


class TestAWorkerWhoseDiskIsLow:
    async def test_is_passed_over_and_says_why(
        self, lan: Lan, app: App, disk: dict[str, int]
    ) -> None:
        """G17: it shows full, and takes nothing until there is room."""
        desk = await lan.node(name="desk")
        full = await lan.node(app, name="full")
        other = await lan.node(app, name="other")
        disk["full"] = 10 * 2**20
        await lan.clock.advance(3)
        infos = [await lan.until((await desk.submit("work/do")).wait()) for _ in range(4)]
        assert {info["worker"] for info in infos} == {other.id}
        assert "its disk is low" in (await full.status())["closed"]
        told = await desk.explain("work/do")
        reasons = {c["name"]: c["reasons"] for c in told["candidates"]}
        assert reasons["full"] == [
            "its disk is low: less than 256 MiB are free (its limits.disk_free)"
        ]

    async def test_is_waited_for_if_there_is_no_other(
        self, lan: Lan, app: App, disk: dict[str, int]
    ) -> None:
        desk = await lan.node(name="desk")
        await lan.node(app, name="full")
        disk["full"] = 1
        await lan.clock.advance(3)
        job = await desk.submit("work/do")
        await lan.clock.advance(60)
        info = await job.info()
        assert (info["state"], info["attempts"]) == ("queued", [])
        disk["full"] = 0
        assert await lan.until(job.result(), within_s=3) == 1

    async def test_refuses_what_comes_before_others_have_heard(
        self, lan: Lan, app: App, disk: dict[str, int]
    ) -> None:
        desk = await lan.node(name="desk")
        await lan.node(app, name="full")
        await lan.clock.advance(2)
        lan.hold("beat")
        disk["full"] = 1
        await lan.clock.advance(2)
        job = await desk.submit("work/do")
        await lan.clock.advance(1)
        info = await job.info()
        assert {attempt["result"] for attempt in info["attempts"]} == {"refused"}
        assert "its disk is low" in info["attempts"][0]["reason"]
        assert info["failures"] == 0
        disk["full"] = 0
        lan.heal()
        assert await lan.until(job.result()) == 1

    async def test_runs_its_own_jobs_all_the_same(
        self, lan: Lan, app: App, disk: dict[str, int]
    ) -> None:
        disk["full"] = 1
        node = await lan.node(app, name="full")
        assert await lan.until(node.offload("work/do")) == 1


class TestAWorkerWhoseShelfIsFull:
    async def test_takes_no_more(self, lan: Lan) -> None:
        app, go = App(), asyncio.Event()

        @app.consumer("work/wait")
        async def wait() -> None:
            await go.wait()

        desk = await lan.node()
        peer = await lan.node(app, limits={"held": 3})
        jobs = [await desk.submit("work/wait") for _ in range(8)]
        await lan.clock.advance(20)
        status = await peer.status()
        assert (status["held"], status["closed"]) == (3, "")
        go.set()
        for job in jobs:
            await lan.until(job.result())
        assert {(await job.info())["failures"] for job in jobs} == {0}


class TestAQueueThatIsFull:
    @staticmethod
    async def desk(lan: Lan, **limits: Any) -> Node:
        return await lan.node(limits={"queued": 3, **limits})

    async def test_takes_no_more_and_says_so(self, lan: Lan) -> None:
        desk = await self.desk(lan)
        for _ in range(3):
            await desk.submit("work/do")
        with pytest.raises(QueueFull, match=r"3 jobs wait here already.*limits\.queued"):
            await desk.submit("work/do")
        assert await desk.count() == 3

    async def test_holds_the_limit_if_many_come_at_once(self, lan: Lan) -> None:
        desk = await self.desk(lan)
        tries = [desk.submit("work/do") for _ in range(50)]
        ends = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(end, QueueFull) for end in ends) == 47
        assert await desk.count() == 3

    async def test_takes_the_same_job_again_under_its_key(self, lan: Lan) -> None:
        desk = await self.desk(lan)
        jobs = [await desk.options(key=str(n)).submit("work/do") for n in range(3)]
        again = await desk.options(key="0").submit("work/do")
        assert again.id == jobs[0].id

    async def test_makes_the_submitter_wait_who_wishes_that(self, lan: Lan, app: App) -> None:
        desk = await self.desk(lan)
        patient = desk.options(if_full="wait")
        tries = [asyncio.ensure_future(patient.submit("work/do")) for _ in range(10)]
        await lan.clock.advance(1)
        assert sum(each.done() for each in tries) == 3
        await lan.node(app)
        for each in tries:
            job = await lan.until(each)
            assert await lan.until(job.result()) == 1

    async def test_goes_on_when_the_limit_is_raised(self, lan: Lan) -> None:
        desk = await self.desk(lan)
        for _ in range(3):
            await desk.submit("work/do")
        config = desk.config
        raised = config.limits.model_copy(update={"queued": 4})
        await desk.reload(config.model_copy(update={"limits": raised}))
        await desk.submit("work/do")
        assert await desk.count() == 4

    async def test_knows_no_other_wish(self, lan: Lan) -> None:
        desk = await self.desk(lan)
        with pytest.raises(UsageError, match="if_full"):
            await desk.options(if_full="hope").submit("work/do")
