"""A job that nobody can take is told of at once, and once (C006, C071, C072)."""

import logging

import pytest

from offload import App, Node
from offload.distributor import JobsStranded
from offload.testing import Lan


@pytest.fixture
def app() -> App:
    app = App()

    @app.consumer("work/do")
    async def do() -> int:
        return 1

    return app


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    return [text for text in found if "nobody can take" in text]


async def stranded(node: Node) -> list[tuple[str, str]]:
    told = (await node.status())["stranded"]
    assert told == node.topology_json()["stranded"]
    return [(found["topic"], found["reason"]) for found in told]


class TestAJobThatNobodyCanTake:
    async def test_is_warned_of_once_per_topic_and_reason(
        self, lan: Lan, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk = await lan.node()
        told: list[JobsStranded] = []
        desk.bus.listen(JobsStranded, told.append)
        await lan.clock.advance(3)
        jobs = [await desk.submit("work/do") for _ in range(3)]
        await lan.settle()
        assert await stranded(desk) == [("work/do", "no instance has a consumer for it")]
        await lan.clock.advance(30)
        assert len(warnings(caplog)) == len(told) == 1
        assert told[0].job_id in {job.id for job in jobs}

    async def test_is_named_with_what_it_lacks(
        self, lan: Lan, app: App, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk = await lan.node(name="desk")
        await lan.node(app, name="bare")
        await lan.clock.advance(3)
        job = await desk.options(needs={"gpu": 1}).submit("work/do")
        await lan.settle()
        assert await stranded(desk) == [("work/do", "bare: has no gpu (needed: 1)")]
        assert warnings(caplog) == [
            "nobody can take jobs of topic work/do now: bare: has no gpu (needed: 1)"
        ]
        plain = await desk.submit("work/do")
        await lan.until(plain.result())
        assert len(await stranded(desk)) == 1
        await lan.node(app, node={"resources": {"gpu": 1}})
        await lan.until(job.result())
        await lan.clock.advance(1)
        assert await stranded(desk) == []

    async def test_is_found_though_all_places_are_taken(self, lan: Lan, app: App) -> None:
        desk = await lan.node()
        await lan.node(app, name="bare", queues={"main": {"max_parallel": 1}})
        job = await desk.options(policy="local-only").submit("work/do")
        await lan.settle()
        assert await stranded(desk) == [("work/do", "bare: the policy is local-only")]
        await job.stop()
        await lan.clock.advance(6)
        assert await stranded(desk) == []

    async def test_is_found_again_after_a_restart(self, lan: Lan) -> None:
        desk = await lan.node()
        await desk.submit("work/do")
        desk = await lan.restart(desk)
        await lan.clock.advance(6)
        assert len(await stranded(desk)) == 1

    async def test_is_none_that_only_waits_for_a_busy_one(self, lan: Lan, app: App) -> None:
        desk = await lan.node()
        await lan.node(app)
        job = await desk.options(run_after="1h").submit("work/do")
        await lan.clock.advance(6)
        assert await stranded(desk) == []
        assert (await job.info())["state"] == "queued"


class TestRightAfterTheStart:
    async def test_nobody_is_warned_as_the_others_may_still_come(
        self, lan: Lan, app: App, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk = await lan.node()
        job = await desk.submit("work/do")
        await lan.settle()
        assert warnings(caplog) == []
        await lan.node(app)
        await lan.until(job.result())
        await lan.clock.advance(10)
        assert warnings(caplog) == []
