"""What the simulator found (tests/simulation), each bug told once on a LAN in memory."""

import asyncio
import logging
from typing import Any

import pytest

from offload import App, Context
from offload.errors import DiskFull
from offload.testing import Lan


class Worker:
    """Consumers that run until ``go`` is set; ``work/wait`` also when it is asked to stop."""

    def __init__(self) -> None:
        self.app = App()
        self.runs = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()

        @self.app.consumer("work/wait")
        async def wait(_context: Context) -> int:
            self.runs += 1
            self.begun.set()
            await self.go.wait()
            return self.runs

        @self.app.consumer("work/plain")
        async def plain() -> None:
            self.runs += 1
            self.begun.set()
            await self.go.wait()


async def no_room(steps: list[object], *_: object) -> list[object]:
    if steps:
        raise DiskFull
    return []


class TestAnAtMostOnceJobThatRanAtAWorkerWhichDrains:
    async def test_is_not_handed_back(self, lan: Lan) -> None:
        """C085, C088: a refusal would free it, and it would be started a second time."""
        first, second = Worker(), Worker()
        desk = await lan.node()
        peer = await lan.node(first.app, node={"drain_timeout": 0.05})
        job = await desk.options(delivery="at-most-once").submit("work/plain")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        await lan.until(peer.drain())
        info = await lan.until(job.wait())
        assert (info["state"], first.runs, second.runs) == ("given_up", 1, 0)
        assert "was shut down" in info["reason"]


class TestAJobThatIsHandedBackJustAsItBegins:
    async def test_is_refused_or_runs_but_not_both(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C085: STARTED and the refusal were committed together, and both were acted on."""
        first, second = Worker(), Worker()
        desk, peer = await lan.node(), await lan.node(first.app)
        commit, begins = peer._house.store.change_held, asyncio.Event()

        async def change_held(steps: Any) -> Any:
            rules = [rule for _, rule in steps]
            if any("_started" in repr(rule) for rule in rules) and not begins.is_set():
                begins.set()
                closing = asyncio.ensure_future(peer.set_processing(enabled=False))
                answers = await commit(steps)
                await asyncio.wait([closing])
                return answers
            return await commit(steps)

        monkeypatch.setattr(peer._house.store, "change_held", change_held)
        job = await desk.options(delivery="at-most-once").submit("work/wait")
        await lan.until(begins.wait())
        await lan.node(second.app)
        await lan.clock.advance(2)
        assert first.runs + second.runs == 1
        first.go.set()
        second.go.set()
        assert (await lan.until(job.wait()))["state"] == "succeeded"


class TestAJobThatIsStopped:
    async def test_is_stopping_for_as_long_as_it_runs(self, lan: Lan) -> None:
        """G19: CANCELLED says that nothing of it runs any more, not that it will soon end."""
        worker = Worker()
        desk, _ = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        assert await job.stop()
        await lan.settle()
        assert (await job.info())["state"] == "stopping"
        worker.go.set()
        await lan.settle()
        assert (await job.info())["state"] == "stopped"

    async def test_keeps_the_next_one_in_its_order_waiting_for_as_long(self, lan: Lan) -> None:
        worker = Worker()
        desk = await lan.node()
        await lan.node(worker.app, queues={"main": {"max_parallel": 2}})
        options = desk.options(order_by="one", delivery="at-most-once")
        first, _ = [await options.submit("work/wait") for _ in range(2)]
        await lan.until(worker.begun.wait())
        assert await first.stop()
        await lan.clock.advance(1)
        assert worker.runs == 1
        worker.go.set()
        await lan.clock.advance(1)
        assert worker.runs == 2


class TestAFullDisk:
    async def test_while_a_worker_is_lost_costs_its_jobs_no_lease(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C080, C087: they move as soon as that can be written down."""
        first, second = Worker(), Worker()
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        second.go.set()
        with monkeypatch.context() as patch:
            patch.setattr(desk._house.store, "change", no_room)
            await lan.crash(peer)
            await lan.clock.advance(1)
        info = await lan.until(job.wait(), within_s=1.5)
        assert (info["state"], second.runs) == ("succeeded", 1)

    async def test_is_no_failure_of_ours(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C087: what cannot be written down is as good as not heard."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        jobs = [await desk.submit("work/wait") for _ in range(3)]
        await lan.until(worker.begun.wait())
        with monkeypatch.context() as patch:
            for node in (desk, peer):
                patch.setattr(node._house.store, "change", no_room)
                patch.setattr(node._house.store, "change_held", no_room)
            await jobs[0].info()
            await peer.set_processing(enabled=False)
            worker.go.set()
            await lan.clock.advance(20)
        assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
        await peer.set_processing(enabled=True)
        assert {(await lan.until(job.wait()))["state"] for job in jobs} == {"succeeded"}


class TestAJobOfAnotherThatIsDone:
    async def test_leaves_no_wish_to_stop_it_behind(self, lan: Lan) -> None:
        worker = Worker()
        worker.go.set()
        desk, peer = await lan.node(), await lan.node(worker.app)
        assert await lan.until(desk.offload("work/wait")) == 1
        assert peer._house.manager.runs._unwanted == set()


class TestExclusiveJobsWhoseLeasesEndTogether:
    @pytest.mark.usefixtures("endable")
    async def test_may_vanish_while_the_first_of_them_is_written_down(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C081: the distributor ended with a KeyError, and with it the instance."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        options = desk.options(delivery="exclusive")
        jobs = [await options.submit("work/plain") for _ in range(3)]
        await lan.until(worker.begun.wait())
        await lan.clock.advance(1)
        shelf, commit = peer._house.distributor._incoming._shelf, peer._house.store.change_held

        async def change_held(steps: Any) -> Any:
            if any("_end_lapsed" in repr(rule) for _, rule in steps):
                for key in tuple(shelf.seats)[:1]:
                    shelf.remove(key)
            return await commit(steps)

        monkeypatch.setattr(peer._house.store, "change_held", change_held)
        lan.cut(peer)
        await lan.clock.advance(20)
        lan.heal()
        worker.go.set()
        assert {(await lan.until(job.wait(), 120))["state"] for job in jobs} == {"succeeded"}


class TestAnExclusiveJobThatHasNotBegunWhenItsLeaseIsOver:
    @pytest.mark.usefixtures("endable")
    async def test_is_given_no_time_by_an_old_offer(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rule 4, also if its origin said ok once: it may run elsewhere by now."""
        first, second = Worker(), Worker()
        desk, peer = await lan.node(), await lan.node(first.app)
        hear, offers = peer._house.distributor.handlers()["offer"], []
        commit = peer._house.store.change_held

        async def change_held(steps: Any) -> Any:
            if any("_started" in repr(rule) for _, rule in steps):
                raise DiskFull
            return await commit(steps)

        def note(sender: str, batch: Any) -> Any:
            offers.append((sender, batch))
            return hear(sender, batch)

        monkeypatch.setitem(peer._house._handlers, "offer", note)
        with monkeypatch.context() as patch:
            patch.setattr(peer._house.store, "change_held", change_held)
            job = await desk.options(delivery="exclusive").submit("work/plain")
            await lan.clock.advance(1)
            await lan.node(second.app)
            lan.cut(peer)
            await lan.until(second.begun.wait())
        await hear(*offers[0])
        await lan.clock.advance(1)
        assert (first.runs, second.runs) == (0, 1)
        second.go.set()
        assert (await lan.until(job.wait()))["state"] == "succeeded"

    @pytest.mark.usefixtures("endable")
    async def test_does_not_begin_when_that_is_on_disk_at_last(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rule 4: its worker, or the disk, was frozen while STARTED was written down."""
        first, second = Worker(), Worker()
        desk, peer = await lan.node(), await lan.node(first.app)
        commit, thawed = peer._house.store.change_held, asyncio.Event()

        async def change_held(steps: Any) -> Any:
            if any("_started" in repr(rule) for _, rule in steps):
                await thawed.wait()
            return await commit(steps)

        monkeypatch.setattr(peer._house.store, "change_held", change_held)
        job = await desk.options(delivery="exclusive").submit("work/plain")
        await lan.clock.advance(1)
        await lan.node(second.app)
        lan.cut(peer)
        await lan.until(second.begun.wait())
        thawed.set()
        await lan.clock.advance(1)
        assert (first.runs, second.runs) == (0, 1)
        second.go.set()
        assert (await lan.until(job.wait()))["state"] == "succeeded"
