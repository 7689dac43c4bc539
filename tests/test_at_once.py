"""Jobs that never wait: stored in one commit as ones that have begun."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from offload import App, Node
from offload.errors import DiskFull
from offload.testing import Lan
from offload.work.manager import GateMoved, JobAdded, JobBegun, JobChanged
from offload.work.store import changes


@pytest.fixture
def go() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def node(lan: Lan, go: asyncio.Event) -> Node:
    """Runs two of ``work/hold`` at a time, each until ``go`` is set; nothing was added yet."""
    app = App()

    @app.consumer("work/*")
    async def hold() -> int:
        await go.wait()
        return 1

    queues = {"work": {"topics": ["work/*"], "max_parallel": 2}, "other": {"topics": ["other/*"]}}
    node = await lan.node(app, queues=queues)
    await lan.clock.advance(1)
    return node


async def states(node: Node) -> list[str]:
    """Return the states of all jobs, in the order of adding."""
    return [job["state"] for job in reversed(await node.jobs())]


class TestAJobForWhichAPlaceIsFree:
    async def test_has_begun_when_it_is_on_disk(self, node: Node) -> None:
        job = await node.submit("work/hold")
        info = await job.info()
        assert (info["state"], info["attempt"]) == ("active", 1)

    async def test_is_told_of_as_one_that_was_added_then_began(
        self, node: Node, lan: Lan, go: asyncio.Event
    ) -> None:
        told = node.events("work/*")
        first = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        job = await node.submit("work/hold")
        go.set()
        await lan.until(job.result())
        added, began, ended = await first, await anext(told), await anext(told)
        assert isinstance(added, JobAdded)
        assert isinstance(began, JobChanged)
        assert isinstance(ended, JobChanged)
        seen = [added.job.state, began.was, began.job.state, ended.was, ended.job.state]
        assert seen == ["queued", "queued", "active", "active", "succeeded"]

    async def test_is_told_of_in_the_order_of_adding(self, node: Node) -> None:
        """Also of those that come in the same tick, and are to wait."""
        came: list[str] = []
        node.bus.listen((JobAdded, JobBegun), lambda fact: came.append(fact.job.id))
        await asyncio.gather(
            *(node.submit(topic) for topic in ("other/b", "work/hold", "other/b", "work/hold"))
        )
        assert came == [job["id"] for job in reversed(await node.jobs())]

    async def test_takes_it_once(self, node: Node) -> None:
        await asyncio.gather(*(node.submit("work/hold") for _ in range(5)))
        assert await states(node) == ["active", "active", "queued", "queued", "queued"]

    async def test_waits_if_its_queue_is_suspended(self, node: Node) -> None:
        await node.suspend_queue("work")
        await node.submit("work/hold")
        assert await states(node) == ["queued"]

    async def test_waits_if_its_queue_is_suspended_in_the_same_tick(self, node: Node) -> None:
        async def suspend() -> None:
            node._house.manager.gates.suspended.add("work")
            node.bus.publish(GateMoved())

        before, _, after = await asyncio.gather(
            node.submit("work/hold"), suspend(), node.submit("work/hold")
        )
        assert [(await job.info())["attempt"] for job in (before, after)] == [1, 0]

    async def test_begins_though_others_wait_behind_a_closed_gate(self, node: Node) -> None:
        await node.suspend_queue("other")
        await node.submit("other/task")
        await node.submit("work/hold")
        assert await states(node) == ["queued", "active"]

    async def test_waits_if_it_is_to_begin_later(self, node: Node) -> None:
        await node.options(run_after_s=60.0).submit("work/hold")
        assert await states(node) == ["queued"]

    async def test_begins_though_its_submitter_has_gone(
        self, node: Node, lan: Lan, go: asyncio.Event
    ) -> None:
        adding = asyncio.ensure_future(node.submit("work/hold"))
        await asyncio.sleep(0)
        adding.cancel()
        with suppress(asyncio.CancelledError):
            await adding
        go.set()
        await lan.until(_all_end(node, 1))
        assert await states(node) == ["succeeded"]

    async def test_begins_once_if_its_submitter_goes_as_it_comes(
        self, node: Node, lan: Lan, go: asyncio.Event
    ) -> None:
        """Its submitter has its answer, and is cancelled before it can go on."""
        came: list[JobBegun] = []
        node.bus.listen(JobBegun, came.append)
        node.bus.listen(JobBegun, lambda _: adding.cancel())
        adding = asyncio.ensure_future(node.submit("work/hold"))
        with pytest.raises(asyncio.CancelledError):
            await adding
        go.set()
        await lan.until(_all_end(node, 1))
        await lan.settle()
        found = await node.statistics()
        assert (len(came), found["total"]["added"], found["total"]["finished"]) == (1, 1, 1)

    async def test_begins_it_before_its_submitter_goes_on(self, node: Node) -> None:
        came: list[str] = []
        node.bus.listen(JobBegun, lambda begun: came.append(begun.job.state.value))
        await node.submit("work/hold")
        assert came == ["active"]

    async def test_leaves_it_to_others_if_it_cannot_be_stored(
        self, node: Node, lan: Lan, go: asyncio.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object) -> None:
            raise DiskFull

        with monkeypatch.context() as patch:
            patch.setattr(changes, "insert", refused)
            for _ in range(3):
                with pytest.raises(DiskFull):
                    await node.submit("work/hold")
        await node.submit("work/hold")
        await node.submit("work/hold")
        assert await states(node) == ["active", "active"]


class TestJobsInARow:
    async def test_have_each_what_they_were_given(self, node: Node) -> None:
        urgent, late = node.options(priority=7, retries=3), node.options(run_after_s=60.0)
        await asyncio.gather(
            node.submit("work/a"),
            urgent.submit("work/a"),
            node.submit("other/b"),
            late.submit("work/a"),
            node.submit("work/c"),
        )
        found = [await node.describe(job["id"]) for job in reversed(await node.jobs())]
        assert [(job["topic"], job["queue"], job["priority"]) for job in found] == [
            ("work/a", "work", 0),
            ("work/a", "work", 7),
            ("other/b", "other", 0),
            ("work/a", "work", 0),
            ("work/c", "work", 0),
        ]
        assert [job["state"] for job in found] == ["active", "active", "queued", "queued", "queued"]
        assert [job["not_before"] is not None for job in found] == [0, 0, 0, 1, 0]

    @pytest.mark.parametrize("policy", ["local-first", "balanced", "remote-first"])
    async def test_go_where_the_policy_says_in_one_tick_too(
        self, lan: Lan, go: asyncio.Event, policy: str
    ) -> None:
        ran: Counter[str] = Counter()

        def worker(name: str) -> App:
            app = App()

            @app.consumer("work/*")
            async def hold() -> None:
                ran[name] += 1
                await go.wait()

            return app

        queues = {"work": {"topics": ["work/*"], "max_parallel": 4}}
        await lan.node(worker("there"), queues=queues)
        here = await lan.node(worker("here"), queues=queues, offloading={"policy": policy})
        await lan.clock.advance(5)
        await asyncio.gather(*(here.submit("work/hold") for _ in range(4)))
        await lan.clock.advance(5)
        expected = {"local-first": {"here": 4}, "balanced": {"here": 2, "there": 2}}
        assert ran == expected.get(policy, {"there": 4})
        await asyncio.gather(*(here.submit("work/hold") for _ in range(4)))
        await lan.clock.advance(5)
        assert ran == {"here": 4, "there": 4}
        go.set()


class TestAJobThatWasToWait:
    async def test_is_told_of_though_its_submitter_has_gone(
        self, node: Node, lan: Lan, go: asyncio.Event
    ) -> None:
        for _ in range(2):
            await node.submit("work/hold")
        adding = asyncio.ensure_future(node.submit("work/hold"))
        await asyncio.sleep(0)
        adding.cancel()
        with suppress(asyncio.CancelledError):
            await adding
        go.set()
        await lan.until(_all_end(node, 3))


async def _all_end(node: Node, count: int) -> None:
    """Return when so many jobs have succeeded."""
    while await states(node) != ["succeeded"] * count:
        await asyncio.sleep(0)
