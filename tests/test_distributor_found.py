"""What the simulator found (tests/simulation), each bug told once on a LAN in memory."""

import asyncio
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


async def no_room(steps: list[object]) -> list[object]:
    if steps:
        raise DiskFull
    return []


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
