"""The look ahead at what is due: read seldom, never without what comes first."""

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Any

import pytest

from offload.distributor.ahead import PAGE, Ahead
from offload.events import Bus
from offload.work.jobs import Job, Spec, State, digest, new_id
from offload.work.manager import GateMoved, JobAltered, JobChanged, JobQueued
from offload.work.store import Step, Store

SPEC = Spec("a", b"\x80", digest(b"\x80"))
NOW = 10.0


class Desk:
    """A store whose jobs come and go as a manager tells it, and how often it was asked."""

    def __init__(self) -> None:
        self.store, self.bus = Store.open(), Bus()
        self.ahead = Ahead(self.store, self.bus)
        self.asked = 0
        ask = self.store.due_with_specs

        async def counted(*words: Any) -> Any:
            self.asked += 1
            return await ask(*words)

        self.store.due_with_specs = counted  # type: ignore[method-assign]

    async def add(self, spec: Spec = SPEC, told: Spec | None = None, **more: Any) -> Job:
        new = Job(new_id(), "a", "main", waits_since=1.0)._replace(**more)
        job = await self.store.insert(new, spec)
        self.bus.publish(JobQueued(job, told))
        return job

    async def change(self, job: Job, **more: Any) -> None:
        kept = job._replace(**more)
        await self.store.change([(job.id, lambda _: Step(None, kept))])
        if kept.state is job.state:
            self.bus.publish(JobAltered(kept, 0.0))
        else:
            self.bus.publish(JobChanged(kept, job.state, None, 0.0))

    async def first(self, limit: int = 3, now: float = NOW) -> list[Job]:
        found = []
        for topic in await self.ahead.topics(now):
            found += await self.ahead.jobs(topic, now, limit)
        return found


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.store.close()


class TestTheLookAhead:
    async def test_goes_on_where_it_was(self, desk: Desk) -> None:
        jobs = [await desk.add() for _ in range(9)]
        for start in (0, 3, 6):
            some = await desk.first()
            assert [job.id for job in some] == [job.id for job in jobs[start : start + 3]]
            for job in some:
                await desk.change(job, state=State.ACTIVE)
        assert desk.asked == 1
        assert await desk.first() == []
        assert await desk.ahead.topics(NOW) == []

    async def test_takes_in_what_comes_last(self, desk: Desk) -> None:
        assert await desk.first() == []
        one = await desk.add()
        assert await desk.first() == [one]
        other = await desk.add()
        assert await desk.first() == [one, other]
        assert desk.asked == 1
        assert await desk.ahead.specs([one, other]) == {one.id: SPEC, other.id: SPEC}

    async def test_sees_what_comes_first(self, desk: Desk) -> None:
        low = await desk.add()
        assert await desk.first() == [low]
        high = await desk.add(priority=5)
        assert await desk.first() == [high, low]
        await desk.change(low, priority=9)
        assert [job.id for job in await desk.first()] == [low.id, high.id]

    async def test_is_bounded(self, desk: Desk) -> None:
        jobs = await asyncio.gather(*(desk.add() for _ in range(PAGE + 20)))
        assert await desk.first(1) == jobs[:1]
        await desk.add()
        await asyncio.gather(*(desk.change(job, state=State.ACTIVE) for job in jobs[:PAGE]))
        assert [job.seq for job in await desk.first(99)] == list(range(PAGE + 1, PAGE + 22))
        assert desk.asked == 2

    async def test_keeps_what_it_is_told_if_that_is_small(self, desk: Desk) -> None:
        told, large = SPEC._replace(timeout_s=7.0), SPEC._replace(payload=bytes(5_000))
        first = await desk.add()
        assert await desk.first() == [first]
        one, other = await desk.add(told=told), await desk.add(told=large)
        assert await desk.ahead.specs([one, other]) == {one.id: told, other.id: SPEC}

    async def test_leaves_large_payloads_where_they_are(self, desk: Desk) -> None:
        large = Spec("a", bytes(5_000), digest(bytes(5_000)))
        one, other = await desk.add(), await desk.add(large)
        page = await desk.store.due_with_specs("a", NOW, 9)
        assert page.specs == {one.id: SPEC}
        assert await desk.ahead.specs(await desk.first()) == {one.id: SPEC, other.id: large}


class TestAJob:
    async def test_that_waits_for_its_time_is_there_then(self, desk: Desk) -> None:
        assert await desk.first() == []
        assert await desk.ahead.next_at(NOW) == inf
        job = await desk.add(not_before=12.0)
        assert await desk.ahead.next_at(NOW) == 12.0
        assert await desk.first() == []
        assert await desk.first(now=12.0) == [job]
        assert await desk.ahead.next_at(12.0) == inf

    async def test_that_ends_while_it_waits_is_there_no_more(self, desk: Desk) -> None:
        gone, good = await desk.add(), await desk.add()
        assert await desk.first() == [gone, good]
        await desk.change(gone, state=State.DROPPED)
        assert await desk.first() == [good]

    async def test_follows_the_one_before_it_in_its_lane(self, desk: Desk) -> None:
        one, other = [await desk.add(lane="by x") for _ in range(2)]
        assert await desk.first() == [one]
        await desk.change(one, state=State.SUCCEEDED, finished_at=NOW)
        assert [job.id for job in await desk.first()] == [other.id]

    async def test_that_comes_while_a_page_is_read_is_not_missed(self, desk: Desk) -> None:
        await desk.add()
        reading = desk.ahead.jobs("a", NOW, 9)
        ask, desk.store.due_with_specs = desk.store.due_with_specs, self.late(desk)  # type: ignore[method-assign]
        assert len(await reading) == 1
        desk.store.due_with_specs = ask  # type: ignore[method-assign]
        assert len(await desk.first()) == 2

    def late(self, desk: Desk) -> Any:
        """Return a question that a new job comes in between of."""
        ask = desk.store.due_with_specs

        async def question(*words: Any) -> Any:
            answer = await ask(*words)
            await desk.add()
            return answer

        return question


async def test_a_queue_that_is_opened_is_looked_at_anew(desk: Desk) -> None:
    job = await desk.add()
    assert await desk.first() == [job]
    desk.bus.publish(GateMoved())
    assert await desk.first() == [job]
    assert desk.asked == 2
