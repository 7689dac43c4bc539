"""Whoever asked for a change is gone before it is on disk: it is done, and known, all the same."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from offload import App, Node
from offload.testing import Lan
from offload.work.manager import JobAdded, JobChanged

TICKS = range(1, 6)  # of the loop, from the call to the answer


@pytest.fixture
async def node(lan: Lan) -> Node:
    """Runs ``work/hold`` without end; its queue is its own."""
    app = App()

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
