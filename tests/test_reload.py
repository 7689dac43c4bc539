"""A changed configuration is followed without a restart."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offload import App, Node
from offload.config import Config
from offload.errors import ConfigError, Refused
from offload.testing import Lan


class Worker:
    """A consumer whose jobs end when the test lets them."""

    def __init__(self) -> None:
        self.app = App()
        self.order: list[int] = []
        self.now = self.most = 0
        self.go = asyncio.Semaphore(0)

        @self.app.consumer("**", isolate="coroutine")
        async def run(number: int) -> int:
            self.order.append(number)
            self.now += 1
            self.most = max(self.most, self.now)
            await self.go.acquire()
            self.now -= 1
            return number

    def let_go(self, count: int) -> None:
        for _ in range(count):
            self.go.release()


@pytest.fixture
def worker() -> Worker:
    return Worker()


def changed(node: Node, **sections: Any) -> Config:
    """Return the node's configuration with other tables."""
    plain = node.config.model_dump(by_alias=True)
    return Config.make(**{**plain, **sections})


async def started(lan: Lan, worker: Worker, node: Node, count: int) -> list[Any]:
    jobs = [await node.submit("a", number=n) for n in range(count)]
    await lan.clock.advance(1)
    return jobs


class TestALowerLimit:
    async def test_lets_what_runs_finish_and_starts_no_more_until_then(
        self, lan: Lan, worker: Worker
    ) -> None:
        """Old and new together never exceed the limit."""
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 4}})
        jobs = await started(lan, worker, node, 10)
        assert worker.now == 4
        assert (await node.reload(changed(node, queues={"main": {"max_parallel": 2}}))) == {
            "applied": ["queues"],
            "restart": [],
        }
        worker.let_go(2)
        await lan.clock.advance(1)
        assert worker.now == 2
        worker.most = 0
        worker.let_go(8)
        await lan.until(asyncio.gather(*(job.result() for job in jobs)))
        assert worker.most <= 2

    async def test_is_told_of_though_nobody_waits_for_a_place(
        self, lan: Lan, worker: Worker
    ) -> None:
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 4}})
        await started(lan, worker, node, 1)
        await node.reload(changed(node, queues={"main": {"max_parallel": 2}}))
        assert (await node.status())["queues"]["main"]["max_parallel"] == 2


class TestAHigherLimit:
    async def test_lets_more_start_at_once(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 1}})
        await started(lan, worker, node, 5)
        await node.reload(changed(node, queues={"main": {"max_parallel": 3}}))
        await lan.clock.advance(1)
        assert worker.now == 3
        worker.let_go(5)

    async def test_is_told_to_peers(self, lan: Lan, worker: Worker) -> None:
        origin = await lan.node()
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 1}})
        await started(lan, worker, origin, 5)
        await node.reload(changed(node, queues={"main": {"max_parallel": 3}}))
        await lan.clock.advance(2)
        assert worker.now == 3
        worker.let_go(5)


class TestATopicThatChangesItsQueue:
    async def test_leaks_no_slot(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 2}})
        jobs = await started(lan, worker, node, 6)
        own = {"own": {"topics": ["a"], "max_parallel": 1}}
        await node.reload(changed(node, queues=own))
        await lan.clock.advance(1)
        worker.let_go(6)
        await lan.until(asyncio.gather(*(job.result() for job in jobs)))
        counts = (await node.status())["queues"]
        assert {name: line["running"] for name, line in counts.items()} == {"main": 0, "own": 0}
        assert (await node.describe(jobs[5].id))["queue"] == "own"

    @pytest.mark.parametrize("places", [1, 2, 3, 4])
    async def test_never_exceeds_the_new_limit_old_and_new_together(
        self, lan: Lan, worker: Worker, places: int
    ) -> None:
        """Who runs in the old queue takes a place in the new one until it ends."""
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 2}})
        jobs = await started(lan, worker, node, 12)
        assert worker.now == 2
        own = {"own": {"topics": ["a"], "max_parallel": places}}
        await node.reload(changed(node, queues=own))
        await lan.clock.advance(1)
        assert worker.now == max(2, places)
        worker.most = 0  # from now on, as each of the old ones ends
        for left in range(11, -1, -1):
            worker.let_go(1)
            await lan.clock.advance(1)
            assert worker.now == min(places, left)
        assert worker.most <= places
        await lan.until(asyncio.gather(*(job.result() for job in jobs)))
        assert sorted(worker.order) == list(range(12))

    async def test_takes_places_of_the_old_one_until_it_ends(
        self, lan: Lan, worker: Worker
    ) -> None:
        """What stays in the old queue finds it no emptier than it is."""
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 3}})
        await started(lan, worker, node, 2)
        for n in range(2, 6):
            await node.submit("b", number=n)
        await lan.clock.advance(1)
        assert worker.now == 3
        own = {"own": {"topics": ["a"], "max_parallel": 9}, "main": {"max_parallel": 3}}
        await node.reload(changed(node, queues=own))
        await lan.clock.advance(1)
        assert worker.order == [0, 1, 2]
        worker.let_go(6)
        await lan.clock.advance(1)
        assert sorted(worker.order) == list(range(6))

    async def test_and_is_gone_with_its_last_job(self, lan: Lan, worker: Worker) -> None:
        """A queue that was taken out is listed for as long as anything of it runs."""
        own = {"own": {"topics": ["a"], "max_parallel": 2}}
        node = await lan.node(worker.app, queues=own)
        jobs = await started(lan, worker, node, 2)
        await node.reload(changed(node, queues={}))
        assert [queue["name"] for queue in await node.queues()] == ["main", "own"]
        worker.let_go(2)
        await lan.until(asyncio.gather(*(job.result() for job in jobs)))
        await lan.clock.advance(1)
        assert [queue["name"] for queue in await node.queues()] == ["main"]

    async def test_and_back_counts_each_once(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 2}})
        await started(lan, worker, node, 8)
        own = {"own": {"topics": ["a"], "max_parallel": 2}, "main": {"max_parallel": 2}}
        for queues in (own, {"main": {"max_parallel": 3}}):
            await node.reload(changed(node, queues=queues))
            await lan.clock.advance(1)
        assert worker.now == 3
        worker.let_go(8)
        await lan.clock.advance(1)
        assert sorted(worker.order) == list(range(8))
        assert (await node.status())["queues"]["main"]["running"] == 0


class TestAQueueThatBecomesOrdered:
    async def test_runs_what_waits_in_order_from_then_on(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 2}})
        jobs = await started(lan, worker, node, 8)
        await node.reload(changed(node, queues={"main": {"type": "ordered"}}))
        worker.let_go(1)
        await lan.clock.advance(1)
        assert worker.now == 1
        worker.most = 0
        worker.let_go(7)
        await lan.until(asyncio.gather(*(job.result() for job in jobs)))
        assert worker.most <= 1
        assert worker.order == list(range(8))

    async def test_and_back_runs_them_side_by_side(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app, queues={"main": {"type": "ordered"}})
        await started(lan, worker, node, 5)
        assert worker.now == 1
        await node.reload(changed(node, queues={"main": {"max_parallel": 4}}))
        await lan.clock.advance(1)
        assert worker.now == 4
        worker.let_go(5)

    async def test_does_so_also_over_a_restart(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node()
        for n in range(3):
            await node.submit("a", number=n)
        await node.reload(changed(node, queues={"main": {"type": "ordered"}}))
        node.app = worker.app
        await lan.restart(node)
        await lan.clock.advance(1)
        assert worker.order == [0]
        worker.let_go(3)
        await lan.clock.advance(3)
        assert worker.order == [0, 1, 2]


class TestOtherSections:
    async def test_are_followed_where_that_is_possible(self, lan: Lan, worker: Worker) -> None:
        origin, node = await lan.node(), await lan.node(worker.app)
        await node.reload(changed(node, capabilities={"deny": ["**"]}))
        await lan.clock.advance(2)
        job = await origin.submit("a", number=1)
        await lan.clock.advance(5)
        assert worker.order == []
        await node.reload(changed(node, capabilities={}))
        worker.let_go(1)
        assert await lan.until(job.result()) == 1

    async def test_wait_for_a_restart_and_are_named(self, lan: Lan) -> None:
        node = await lan.node()
        found = await node.reload(changed(node, timing={"lease": "30s"}))
        assert found == {"applied": [], "restart": ["timing"]}
        assert node.config.timing.lease_s == 15.0


class TestAFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "offload.toml"

    @pytest.fixture
    def node(self, file: Path) -> Callable[[], Node]:
        file.write_text(
            '[node]\nrealm = "test-reload"\nport = 0\n[discovery]\nmdns = false\n', "utf-8"
        )
        return lambda: Node.from_config(file)

    async def test_is_read_again(self, file: Path, node: Callable[[], Node]) -> None:
        async with node() as opened:
            assert await opened.reload() == {"applied": [], "restart": []}
            file.write_text(file.read_text("utf-8") + "[queues.main]\nmax_parallel = 3\n", "utf-8")
            assert await opened.reload() == {"applied": ["queues"], "restart": []}
            assert (await opened.queues())[0]["max_parallel"] == 3

    async def test_that_is_wrong_changes_nothing_and_names_the_key(
        self, file: Path, node: Callable[[], Node]
    ) -> None:
        async with node() as opened:
            file.write_text("[queues.heavy]\ntopics = ['a']\nretries = -2\n", "utf-8")
            with pytest.raises(ConfigError, match=r"queues\.heavy\.retries: must be .*-1"):
                await opened.reload()
            assert [queue["name"] for queue in await opened.queues()] == ["main"]


async def test_what_was_given_no_file_says_so(lan: Lan) -> None:
    with pytest.raises(Refused, match="file"):
        await (await lan.node()).reload()


async def test_a_configuration_that_a_consumer_cannot_have_changes_nothing(
    lan: Lan, worker: Worker
) -> None:
    node = await lan.node(worker.app)
    wrong = {"topics": {"a": {"isolate": "process"}}, "queues": {"main": {"max_parallel": 1}}}
    with pytest.raises(ConfigError, match="is async and runs on the event loop"):
        await node.reload(changed(node, **wrong))
    assert (node.config.topics, node.config.queues["main"].max_parallel) == ({}, 15)
    worker.let_go(1)
    assert await lan.until(node.offload("a", number=1)) == 1


class TestAJobThatWaitsForRoomMeanwhile:
    async def test_is_stored_where_the_new_rules_have_it(self, lan: Lan, worker: Worker) -> None:
        """Its queue is ordered by then: it runs in the order of adding, too."""
        limits, queues = {"queued": 2}, {"q": {"topics": ["a"], "max_parallel": 4}}
        node = await lan.node(worker.app, limits=limits, queues=queues)
        await lan.clock.advance(1)
        await node.suspend_queue("q")
        wishes = node.options(if_full="wait")
        adding = [asyncio.ensure_future(wishes.submit("a", number=n)) for n in range(6)]
        await lan.settle()
        await node.reload(changed(node, queues={"line": {"topics": ["a"], "type": "ordered"}}))
        worker.let_go(6)
        jobs = [await lan.until(each) for each in adding]
        assert [await lan.until(job.result()) for job in jobs] == [0, 1, 2, 3, 4, 5]
        found = sorted(await node.jobs(), key=lambda job: job["seq"])
        ran = dict(zip((job.id for job in jobs), range(6), strict=True))
        assert [ran[job["id"]] for job in found] == worker.order
        assert {job["queue"] for job in found} == {"line"}
