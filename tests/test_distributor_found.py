"""What the simulator found (tests/simulation), each bug told once on a LAN in memory."""

import asyncio

from offload import App, Context
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


class TestAJobOfAnotherThatIsDone:
    async def test_leaves_no_wish_to_stop_it_behind(self, lan: Lan) -> None:
        worker = Worker()
        worker.go.set()
        desk, peer = await lan.node(), await lan.node(worker.app)
        assert await lan.until(desk.offload("work/wait")) == 1
        assert peer._house.manager.runs._unwanted == set()
