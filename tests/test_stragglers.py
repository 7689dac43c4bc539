"""A second run for jobs that may have one, and take much longer than usual (DESIGN §5)."""

import asyncio
from typing import Any

import pytest

from offload import App, Job, Node
from offload.errors import UsageError
from offload.leases import origin
from offload.placement import Candidate, straggles
from offload.testing import Lan
from offload.work.jobs import Delivery, RetryRule, State
from offload.work.jobs import Job as Record


class Worker:
    """Runs ``work/do``; calls with ``slow`` wait until the test lets them go, or end at once."""

    def __init__(self, *, slow: bool) -> None:
        self.app = App()
        self.runs: list[int] = []
        self.stopped = 0
        self.go = asyncio.Event()
        if not slow:
            self.go.set()

        @self.app.consumer("work/do")
        async def do(number: int) -> int:
            self.runs.append(number)
            try:
                if number:
                    await self.go.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
            return number


async def late(lan: Lan, **options: Any) -> tuple[Node, Worker, Worker, Job]:
    """A job that hangs at one worker, after its topic was measured there: another is free."""
    slow, quick = Worker(slow=True), Worker(slow=False)
    desk = await lan.node(name="desk")
    await lan.node(slow.app, name="slow")
    await lan.until(desk.offload("work/do", number=0))
    job = await desk.options(**options).submit("work/do", number=1)
    while slow.runs != [0, 1]:
        await lan.clock.advance(0.5)
    await lan.node(quick.app, name="quick")
    return desk, slow, quick, job


class TestAJobThatMayRunTwice:
    async def test_gets_a_second_run_whose_success_counts_and_ends_the_first(
        self, lan: Lan
    ) -> None:
        _, slow, quick, job = await late(lan, idempotent=True)
        info = await lan.until(job.wait(), within_s=20)
        assert (info["state"], info["value"], info["worker_name"]) == ("succeeded", 1, "quick")
        assert (slow.runs, quick.runs) == ([0, 1], [1])
        while not slow.stopped:
            await lan.clock.advance(0.5)

    async def test_counts_the_first_if_that_is_done_before(self, lan: Lan) -> None:
        desk, slow, quick, job = await late(lan, idempotent=True)
        quick.go.clear()
        while quick.runs != [1]:
            await lan.clock.advance(0.5)
        slow.go.set()
        info = await lan.until(job.wait(), within_s=20)
        assert (info["state"], info["value"]) == ("succeeded", 1)
        assert [attempt["worker_name"] for attempt in info["attempts"]] == ["slow"]
        while not quick.stopped:
            await lan.clock.advance(0.5)
        assert (await desk.status())["jobs"]["succeeded"] == 2

    async def test_gets_no_third(self, lan: Lan) -> None:
        _, _, quick, _ = await late(lan, idempotent=True)
        quick.go.clear()
        third = Worker(slow=False)
        while quick.runs != [1]:
            await lan.clock.advance(0.5)
        await lan.node(third.app)
        await lan.clock.advance(60)
        assert third.runs == []

    async def test_is_stopped_everywhere(self, lan: Lan) -> None:
        _, slow, quick, job = await late(lan, idempotent=True)
        quick.go.clear()
        while quick.runs != [1]:
            await lan.clock.advance(0.5)
        assert await job.stop()
        assert (await lan.until(job.wait(), within_s=30))["state"] == "stopped"
        while not (slow.stopped and quick.stopped):
            await lan.clock.advance(0.5)

    async def test_may_be_marked_by_its_topic(self, lan: Lan) -> None:
        slow, quick = Worker(slow=True), Worker(slow=False)
        desk = await lan.node(topics={"work/*": {"speculate": True}})
        await lan.node(slow.app, name="slow")
        await lan.until(desk.offload("work/do", number=0))
        job = await desk.submit("work/do", number=1)
        while slow.runs != [0, 1]:
            await lan.clock.advance(0.5)
        await lan.node(quick.app)
        assert await lan.until(job.result(), within_s=20) == 1

    async def test_must_not_be_one_that_never_runs_twice(self, lan: Lan) -> None:
        desk = await lan.node()
        with pytest.raises(UsageError, match="idempotent"):
            await desk.options(idempotent=True, delivery="exclusive").submit("work/do")


class TestAnyOtherJob:
    async def test_runs_once_however_long(self, lan: Lan) -> None:
        _, slow, quick, job = await late(lan)
        await lan.clock.advance(60)
        assert (slow.runs, quick.runs) == ([0, 1], [])
        slow.go.set()
        await lan.until(job.result())


@pytest.mark.parametrize(
    ("ran_s", "usual", "expected"),
    [
        (60.0, [], False),
        (60.0, [None], False),
        (60.0, [30.0], False),
        (91.0, [30.0], True),
        (91.0, [None, 30.0, 300.0], True),
        (1.9, [0.01], False),
        (2.1, [0.01], True),
    ],
)
def test_a_job_is_late_by_what_its_topic_takes(
    ran_s: float, usual: list[float | None], expected: bool
) -> None:
    candidates = [Candidate("a", "a", run_s=run_s) for run_s in usual]
    assert straggles(ran_s, candidates) is expected


class TestTheRule:
    @staticmethod
    def running(**changes: Any) -> Record:
        job = Record("0" * 26, "a/b", "main", state=State.ACTIVE, attempt=1, worker="ada")
        return job._replace(given=((1, "ada"),), idempotent=True, **changes)

    def test_gives_the_next_attempt_and_leaves_the_fence(self) -> None:
        twice = origin.second_run(self.running(), "bob", 5.0)
        assert twice is not None
        assert (twice.state, twice.attempt, twice.worker) == (State.ASSIGNED, 2, "bob")
        assert (twice.fence, twice.given) == (1, ((1, "ada"), (2, "bob")))

    @pytest.mark.parametrize(
        "changes",
        [
            {"idempotent": False},
            {"state": State.ASSIGNED},
            {"state": State.QUEUED},
            {"stopping": True},
            {"placing": 1},
            {"delivery": Delivery.EXCLUSIVE},
            {"delivery": Delivery.AT_MOST_ONCE},
            {"given": ((1, "ada"), (2, "cleo")), "attempt": 2},
        ],
    )
    def test_refuses_all_that_must_not(self, changes: dict[str, Any]) -> None:
        assert origin.second_run(self.running()._replace(**changes), "bob", 5.0) is None

    def test_refuses_the_worker_that_has_it(self) -> None:
        assert origin.second_run(self.running(), "ada", 5.0) is None

    def test_lets_the_lease_of_the_first_end_without_effect(self) -> None:
        twice = origin.second_run(self.running(), "bob", 5.0)
        assert twice is not None
        assert origin.lapsed(twice, 1, RetryRule(), 9.0) is None
        assert origin.gone(twice, "ada", RetryRule(), 9.0, "gone") is None
