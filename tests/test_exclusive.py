"""Exclusive work: the leases that hold for it, and who may do it (DESIGN §5, Delivery)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from offload import App
from offload.config import Config
from offload.errors import ConfigError, ConsumerError
from offload.leases import watch_s
from offload.testing import Lan

ORDERED = {"in-order": {"topics": ["in/order"], "type": "ordered"}}
LEASE_S = 60.0
LONG_S = 600.0


class Waiter:
    """Runs ``wait/long`` until the test lets it go, and any other topic at once."""

    def __init__(self) -> None:
        self.app = App()
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.runs: list[int] = []

        @self.app.consumer("wait/long")
        async def wait() -> str:
            self.runs.append(1)
            self.begun.set()
            await self.go.wait()
            return "done"

        @self.app.consumer("in/order")
        async def note(number: int) -> int:
            self.runs.append(number)
            return number


def lasting(lease: str = "60s") -> dict[str, Any]:
    return {"wait/long": {"lease": lease}}


@pytest.mark.usefixtures("endable")
class TestTheLeaseOfATopic:
    async def test_is_how_long_its_origin_waits_for_a_silent_worker(self, lan: Lan) -> None:
        """Rule 5 for that job: lease x 1.02 + 3 s."""
        first, second = Waiter(), Waiter()
        desk, worker = await lan.node(topics=lasting()), await lan.node(first.app)
        job = await desk.submit("wait/long")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        second.go.set()
        lan.cut(worker)
        await lan.clock.advance(watch_s(LEASE_S) - 10)
        assert second.runs == []
        assert await lan.until(job.result(), within_s=20) == "done"

    async def test_is_how_long_its_worker_goes_on_without_a_word(self, lan: Lan) -> None:
        """The worker goes by what its origin says, not by its own setting."""
        first = Waiter()
        desk, worker = await lan.node(topics=lasting()), await lan.node(first.app)
        job = await desk.options(delivery="exclusive").submit("wait/long")
        await lan.until(first.begun.wait())
        lan.cut(worker)
        await lan.clock.advance(LEASE_S - 10)
        assert (await worker.status())["running"] == [job.id]
        await lan.clock.advance(15)
        assert (await worker.status())["running"] == []

    async def test_holds_after_its_origin_was_restarted(self, lan: Lan) -> None:
        first, second = Waiter(), Waiter()
        desk, worker = await lan.node(topics=lasting()), await lan.node(first.app)
        job = await desk.options(delivery="exclusive").submit("wait/long")
        await lan.until(first.begun.wait())
        lan.cut(worker)
        desk = await lan.restart(desk)
        await lan.node(second.app)
        await lan.clock.advance(watch_s(LEASE_S) - 10)
        assert second.runs == []
        second.go.set()
        assert await lan.until((await desk.job(job.id)).result(), within_s=20) == "done"

    async def test_that_a_consumer_names_holds_for_jobs_added_where_it_is(self, lan: Lan) -> None:
        app = App()

        @app.consumer("a/b", lease="5m")
        async def idle() -> None: ...

        @app.consumer("a/c", lease="1s")
        async def hasty() -> None: ...

        node = await lan.node(app)
        specs = [await node._house.store.spec((await node.submit(t)).id) for t in ("a/b", "a/c")]
        assert [spec and spec.lease_s for spec in specs] == [300.0, 15.0]  # it is only lengthened

    async def test_is_that_of_the_origin_where_both_have_other_settings(self, lan: Lan) -> None:
        """Else a worker with the longer one would go on while the job runs elsewhere."""
        first = Waiter()
        desk = await lan.node(timing={"lease": "5s"})
        worker = await lan.node(first.app, timing={"lease": "40s"})
        await desk.options(delivery="exclusive").submit("wait/long")
        await lan.until(first.begun.wait())
        await lan.clock.advance(20)
        assert first.runs == [1]  # it says that it holds it often enough for the shorter one
        lan.cut(worker)
        await lan.clock.advance(6)
        assert (await worker.status())["running"] == []

    def test_cannot_be_shorter_than_the_usual_one(self) -> None:
        with pytest.raises(
            ConfigError, match=r"topics\.a/b\.lease: must be at least timing\.lease"
        ):
            Config.make(topics={"a/b": {"lease": "5s"}})


class TestAConsumerThatNobodyCanEnd:
    """A coroutine or a thread can only be asked to stop when its lease is over."""

    def test_is_refused_where_it_is_declared_exclusive(self) -> None:
        app = App()
        with pytest.raises(ConsumerError, match="needs a process: write def"):

            @app.consumer("a/b", delivery="exclusive")
            async def coroutine() -> None: ...

        with pytest.raises(ConsumerError, match="is a thread, which nobody can end"):

            @app.consumer("a/b", delivery="exclusive", isolate="thread")
            def thread() -> None: ...

    def test_is_refused_in_a_configuration_that_wants_both(self) -> None:
        with pytest.raises(ConfigError, match=r"topics\.a/b: exclusive work in a thread"):
            Config.make(topics={"a/b": {"delivery": "exclusive", "isolate": "thread"}})

    async def test_is_refused_where_its_topic_is_exclusive(self, lan: Lan) -> None:
        with pytest.raises(ConfigError, match=r"topics\.in/order\.delivery: .* is a coroutine"):
            await lan.node(Waiter().app, topics={"in/order": {"delivery": "exclusive"}})

    async def test_gets_no_exclusive_job_of_another_and_explain_says_why(self, lan: Lan) -> None:
        waiter = Waiter()
        desk, _ = await lan.node(queues=ORDERED), await lan.node(waiter.app)
        job = await desk.submit("in/order", number=1)
        await lan.clock.advance(2)
        assert waiter.runs == []
        info = await job.info()
        assert (info["state"], info["attempts"][0]["result"]) == ("queued", "refused")
        told = await desk.explain(job.id)
        assert any("needs a process" in r for c in told["candidates"] for r in c["reasons"])

    async def test_still_gets_the_other_jobs_of_the_topic(self, lan: Lan) -> None:
        waiter = Waiter()
        desk, _ = await lan.node(), await lan.node(waiter.app)
        exclusive = await desk.options(delivery="exclusive").submit("in/order", number=1)
        await lan.clock.advance(2)
        assert await lan.until(desk.offload("in/order", number=2), within_s=2) == 2
        assert (await exclusive.info())["state"] == "queued"

    async def test_runs_the_exclusive_jobs_of_its_own_instance(self, lan: Lan) -> None:
        """No lease ends what runs where it was added (C007, C016)."""
        waiter = Waiter()
        node = await lan.node(waiter.app, queues=ORDERED)
        jobs = [await node.submit("in/order", number=n) for n in range(3)]
        jobs.append(await node.options(order_by="x").submit("in/order", number=3))
        for job in jobs:
            await lan.until(job.result())
        assert waiter.runs == [0, 1, 2, 3]

    async def test_leaves_the_job_to_one_that_can_be_ended(self, lan: Lan, tmp_path: Path) -> None:
        """Here a program."""
        waiter = Waiter()
        desk, _ = await lan.node(queues=ORDERED), await lan.node(waiter.app)
        command = ["touch", str(tmp_path / "done")]
        await lan.node(topics={"in/order": {"command": command}})
        job = await desk.submit("in/order", number=1)
        assert await lan.until(job.result(), LONG_S) == {"exit_code": 0}
        assert waiter.runs == []
        assert (tmp_path / "done").exists()
