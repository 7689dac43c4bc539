"""
How work spreads over workers, where no processor is in the way (C073).

Time passes in the consumers alone, so what is measured here is the placing: who is given which
job when. ``benchmarks/spread.py`` measures the same with processes.
"""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from offload import App, Node
from offload.distributor.incoming.course import Course
from offload.placement import Candidate, Policy, best
from offload.tasks import Tasks
from offload.testing import Lan
from offload.testing.network import Switch

JOBS = 120
PLACES = 2  # of each worker
BEAT_S = 1.5  # by then workers have told what they measured
COMMIT_S = 0.003
HOP_S = 0.003
STEPS = 20  # in which the time of one job passes


class Crew:
    """An origin that runs nothing itself, and workers of which each has its pace."""

    def __init__(self, lan: Lan, lasts_s: float, paces: list[float]) -> None:
        self._lan = lan
        self._lasts_s = lasts_s
        self._paces = paces
        self.done: Counter[float] = Counter()  # jobs by the number of their worker

    async def open(self) -> Node:
        """Let the workers find out how long a job takes, and return the origin."""
        desk = await self._lan.node(offloading={"policy": "balanced"})
        for number, pace in enumerate(self._paces):
            queue = {"max_parallel": PLACES}
            await self._lan.node(self.app(number, pace), queues={"main": queue})
        await self.takes_s(desk, 10 * len(self._paces))
        await self._lan.clock.advance(BEAT_S)
        self.done.clear()
        return desk

    async def takes_s(self, desk: Node, jobs: int) -> float:
        """Return how long so many jobs take that are there at once."""
        began = self._lan.clock.now()
        waited_for = asyncio.gather(*(desk.offload("work/wait") for _ in range(jobs)))
        while not waited_for.done():
            await self._lan.clock.advance(self._lasts_s / STEPS)
        waited_for.result()
        return self._lan.clock.now() - began

    def ideal_s(self, jobs: int) -> float:
        """Return how long they take if no place is ever empty."""
        return jobs * self._lasts_s / (PLACES * sum(self._paces))

    def app(self, number: int, pace: float) -> App:
        """Return what worker ``number`` runs."""
        app = App()

        @app.consumer("work/wait")
        async def wait(number_of_job: int = 0) -> None:
            await self._lan.clock.sleep(self._lasts_s / pace)
            self.done[number] += 1

        return app


@pytest.fixture(autouse=True)
def measured(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let run times be measured by the clock of the LAN."""
    stopwatch: Any = SimpleNamespace(monotonic=lan.clock.now)
    monkeypatch.setattr("offload.work.executors.runs.time", stopwatch)


class TestAWorkerThatDiesUnderManyJobs:
    @pytest.mark.parametrize(
        "jobs",
        [300, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
    )
    async def test_costs_none_of_them_and_doubles_none(self, lan: Lan, jobs: int) -> None:
        """One of five dies with a fifth of all jobs; what had ended there is not run again."""
        crew = Crew(lan, 30.0, [1.0] * 5)
        desk = await lan.node(offloading={"policy": "balanced"})
        queue = {"max_parallel": jobs // 4}
        workers = [
            await lan.node(crew.app(number, 1.0), queues={"main": queue}) for number in range(5)
        ]
        added = await asyncio.gather(
            *(desk.submit("work/wait", number_of_job=n) for n in range(jobs))
        )
        await lan.clock.advance(10.0)
        await lan.crash(workers[0])
        await lan.clock.advance(1.0)
        assert (await desk.status())["jobs"]["queued"] == 0  # all of its jobs are elsewhere
        infos = [await lan.until(job.wait()) for job in added]
        assert {info["state"] for info in infos} == {"succeeded"}
        results = Counter(tuple(a["result"] for a in info["attempts"]) for info in infos)
        assert results == {
            ("succeeded",): jobs - jobs // 5,
            ("unreachable", "succeeded"): jobs // 5,
        }
        assert sum(crew.done.values()) == jobs


@pytest.mark.parametrize("lasts_s", [0.02, 3.0])
class TestABatch:
    async def test_is_shared_evenly_by_equal_workers(self, lan: Lan, lasts_s: float) -> None:
        crew = Crew(lan, lasts_s, [1.0, 1.0, 1.0, 1.0])
        desk = await crew.open()
        took_s = await crew.takes_s(desk, JOBS)
        assert all(27 <= crew.done[number] <= 33 for number in range(4))
        assert took_s <= 1.1 * crew.ideal_s(JOBS)

    async def test_goes_to_a_worker_twice_as_fast_twice_as_often(
        self, lan: Lan, lasts_s: float
    ) -> None:
        """No longer than 15 % over the time in which no place is ever empty."""
        crew = Crew(lan, lasts_s, [1.0, 1.0, 1.0, 2.0])
        desk = await crew.open()
        took_s = await crew.takes_s(desk, JOBS)
        assert took_s <= 1.15 * crew.ideal_s(JOBS)
        assert 43 <= crew.done[3] <= 53


def slow_down(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every message, and writing down that a job has STARTED, take a while."""
    start, carry, tasks = Course._start, Switch.carry, Tasks()

    async def started(course: Course, *about: Any) -> bool:
        await lan.clock.sleep(COMMIT_S)
        return await start(course, *about)

    def carried(switch: Switch, frame: Any) -> None:
        tasks.start(later(switch, frame))

    async def later(switch: Switch, frame: Any) -> None:
        await lan.clock.sleep(HOP_S)
        carry(switch, frame)

    monkeypatch.setattr(Course, "_start", started)
    monkeypatch.setattr(Switch, "carry", carried)


class TestABatchOverASlowNetworkAndSlowDisks:
    async def test_leaves_no_place_empty(self, lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who comes next is written down as STARTED before a place is free."""
        crew = Crew(lan, 0.02, [1.0, 1.0, 1.0, 2.0])
        desk = await crew.open()
        slow_down(lan, monkeypatch)
        took_s = await crew.takes_s(desk, 3 * JOBS)
        assert took_s <= 1.15 * crew.ideal_s(3 * JOBS)


class TestABatchThatWaits:
    async def test_is_looked_at_job_by_job_as_places_are_free(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What finds no place is not looked for anew at every place that becomes free."""
        looks: Counter[str] = Counter()

        def counted(policy: Policy, *rest: Any) -> Candidate | None:
            looks[policy] += 1
            return best(policy, *rest)

        monkeypatch.setattr("offload.distributor.matching.best", counted)
        crew = Crew(lan, 3.0, [1.0, 1.0])
        desk = await crew.open()
        looks.clear()
        await crew.takes_s(desk, JOBS // 2)
        assert looks.total() < 3 * JOBS // 2
