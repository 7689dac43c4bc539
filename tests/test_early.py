"""
Short jobs of others that are next in line: written down as STARTED before a place is free.

So no place waits for a disk. Who is not called after all is treated as one that has not begun.
"""

import asyncio

import pytest

from offload import App, Job, Node
from offload.testing import Lan
from offload.work.jobs import HeldState

JOBS = 5


class Crew:
    """An origin, and a worker with one place whose consumer waits for ``go``."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self.app = App()
        self.runs: list[int] = []
        self.go = asyncio.Event()
        self.desk: Node
        self.worker: Node
        self.jobs: list[Job]

        @self.app.consumer("work/short")
        async def short(number: int) -> int:
            self.runs.append(number)
            await self.go.wait()
            return number

    async def open(self) -> None:
        """Let it be known how short they are; then let one run, and the others line up."""
        self.go.set()
        self.desk = await self._lan.node()
        self.worker = await self._lan.node(
            self.app, node={"drain_timeout": 0.01}, queues={"main": {"max_parallel": 1}}
        )
        await self._lan.until(self.desk.offload("work/short", number=-1))
        await self._lan.clock.advance(2)  # by then it has told its measured time
        self.go.clear()
        self.runs.clear()
        self.jobs = [await self.desk.submit("work/short", number=n) for n in range(JOBS)]
        await self._lan.clock.advance(0.1)

    async def written(self) -> int:
        """Return how many jobs are STARTED on the worker's disk."""
        return len(await self.worker._house.store.held([HeldState.STARTED]))


@pytest.fixture
async def crew(lan: Lan) -> Crew:
    crew = Crew(lan)
    await crew.open()
    return crew


class TestShortJobsInLine:
    async def test_are_written_down_before_their_turn(self, crew: Crew) -> None:
        assert crew.runs == [0]
        assert await crew.written() > 1

    async def test_run_once_each(self, lan: Lan, crew: Crew) -> None:
        crew.go.set()
        assert [await lan.until(job.result()) for job in crew.jobs] == list(range(JOBS))
        assert crew.runs == list(range(JOBS))

    async def test_go_back_at_no_cost_when_their_worker_is_shut_down(
        self, lan: Lan, crew: Crew
    ) -> None:
        """C088."""
        await lan.until(crew.worker.drain())
        infos = [await job.info() for job in crew.jobs]
        assert crew.runs == [0]
        assert [info["state"] for info in infos] == ["queued"] * JOBS
        assert all(info["crashes"] == info["failures"] == 0 for info in infos)

    async def test_that_are_stopped_never_run(self, lan: Lan, crew: Crew) -> None:
        """C019, G19."""
        assert await lan.until(crew.jobs[1].stop())
        assert (await lan.until(crew.jobs[1].wait()))["state"] == "stopped"
        crew.go.set()
        assert [await lan.until(job.result()) for job in crew.jobs[2:]] == [2, 3, 4]
        assert crew.runs == [0, 2, 3, 4]

    async def test_count_as_begun_in_a_crash_and_run_again(self, lan: Lan, crew: Crew) -> None:
        """A worker cannot tell which of them was called: as for any that was STARTED."""
        await lan.crash(crew.worker)
        await lan.restart(crew.worker)
        crew.go.set()
        infos = [await lan.until(job.wait()) for job in crew.jobs]
        assert [info["state"] for info in infos] == ["succeeded"] * JOBS
        assert max(info["crashes"] for info in infos) <= 1

    async def test_of_which_one_was_given_to_another_does_not_run_it(
        self, lan: Lan, crew: Crew
    ) -> None:
        """C085: its worker was out of sight for longer than a lease; what waits there is stale."""
        second = await lan.node(crew.app, name="second", queues={"main": {"max_parallel": 9}})
        lan.cut(crew.worker, crew.desk, second)
        await lan.clock.advance(30)
        lan.heal()
        await lan.clock.advance(10)
        crew.go.set()
        assert [await lan.until(job.result()) for job in crew.jobs] == list(range(JOBS))
        assert sorted(crew.runs) == [0, *range(JOBS)]
