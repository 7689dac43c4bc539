"""Whoever asked for a change is gone before it is on disk: it is done, and known, all the same."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from offload import App, Context, File, Node
from offload.testing import Lan
from offload.work.manager import JobAdded, JobChanged, JobQueued, JobRemoved

TICKS = range(1, 6)  # of the loop, from the call to the answer


@pytest.fixture
async def node(lan: Lan) -> Node:
    """Runs ``work/hold`` without end, and ``work/file``, which makes a file."""
    app = App()

    @app.consumer("work/file", isolate="coroutine")
    async def file(context: Context) -> File:
        made = context.output("out.txt")
        made.path.write_text("done", "utf-8")
        return made

    @app.consumer("work/*")
    async def hold() -> None:
        await asyncio.Event().wait()

    node = await lan.node(app)
    await lan.clock.advance(1)
    return node


async def left_alone(asking: Coroutine[Any, Any, Any], ticks: int) -> None:
    """Ask, and go away after so many ticks of the loop."""
    task = asyncio.ensure_future(asking)
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def left_in(
    name: str, asking: Coroutine[Any, Any, Any], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ask, and go away when that has come to asking the store for ``name``."""
    real = getattr(node._house.store, name)

    async def asked(*args: Any, **named: Any) -> Any:
        task.cancel()
        return await real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(node._house.store, name, asked)
        task = asyncio.ensure_future(asking)
        with suppress(asyncio.CancelledError):
            await task


async def come_to_be(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)


class TestAStopThatNobodyWaitsFor:
    @pytest.mark.parametrize("ticks", TICKS)
    async def test_ends_the_job_all_the_same(self, node: Node, lan: Lan, ticks: int) -> None:
        job = await node.submit("work/hold")
        await left_alone(job.stop(), ticks)
        await lan.clock.advance(10)
        assert (await job.info())["state"] == "stopped"

    async def test_is_counted(self, node: Node, lan: Lan) -> None:
        job = await node.options(run_after="1h").submit("work/hold")
        await left_alone(job.stop(), 2)
        await lan.settle()
        assert (await node.statistics())["total"]["ended"] == {"stopped": 1}


class TestASubmitThatReplacesAndThatNobodyWaitsFor:
    @pytest.mark.parametrize("ticks", TICKS)
    async def test_is_told_of_with_what_it_has_replaced(
        self, node: Node, lan: Lan, ticks: int
    ) -> None:
        options = node.options(key="k", if_key="replace", run_after="1h")
        await options.submit("work/hold")
        await left_alone(options.submit("work/hold"), ticks)
        await lan.settle()
        total = (await node.statistics())["total"]
        known = len(await node.jobs())
        assert (total["added"], total["ended"].get("stopped", 0)) == (known, known - 1)


async def test_jobs_that_replace_each_other_at_once_are_added_before_they_are_stopped(
    node: Node, lan: Lan
) -> None:
    told: dict[str, list[str]] = {}
    node.bus.listen(JobAdded, lambda fact: told.setdefault(fact.job.id, []).append("added"))
    node.bus.listen(JobChanged, lambda fact: told.setdefault(fact.job.id, []).append("stopped"))
    options = node.options(key="k", if_key="replace", run_after="1h")
    await asyncio.gather(*(options.submit("work/hold") for _ in range(4)))
    await lan.settle()
    assert sorted(told.values()) == [["added"], *[["added", "stopped"]] * 3]


class TestAPersonWhoGoesAwayHavingAsked:
    @pytest.mark.parametrize("ticks", TICKS)
    async def test_to_suspend_a_queue_finds_it_as_it_is_after_a_restart(
        self, node: Node, lan: Lan, ticks: int
    ) -> None:
        await left_alone(node.suspend_queue("main"), ticks)
        await lan.settle()
        [now] = await node.queues()
        [then] = await (await lan.restart(node)).queues()
        assert now["state"] == then["state"]

    async def test_to_remove_a_job_leaves_nothing_of_it(
        self, node: Node, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[JobRemoved] = []
        node.bus.listen(JobRemoved, told.append)
        job = await node.submit("work/file")
        made = await lan.until(job.result())
        await left_in("remove", node.remove(job.id), node, monkeypatch)
        await lan.until(come_to_be(lambda: bool(told)))
        assert (await node.jobs(), made.path.exists(), len(told)) == ([], False, 1)

    async def test_to_requeue_a_job_lets_it_begin(
        self, node: Node, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = await node.options(run_after="1h").submit("work/file")
        told: list[JobQueued] = []
        node.bus.listen(JobQueued, told.append)
        await left_in("change_alone", node.requeue(job.id), node, monkeypatch)
        await lan.until(come_to_be(lambda: bool(told)))
        assert told[0].job.not_before == 0

    async def test_to_retry_a_job_lets_it_begin(
        self, node: Node, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = await node.submit("work/file")
        await lan.until(job.result())
        added: list[JobAdded] = []
        node.bus.listen(JobAdded, added.append)
        await left_in("insert", node.retry(job.id), node, monkeypatch)
        await lan.until(come_to_be(lambda: bool(added)))
        again = await node.job(added[0].job.id)
        assert [file.name for file in [await lan.until(again.result())]] == ["out.txt"]
