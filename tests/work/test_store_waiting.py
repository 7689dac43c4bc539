"""The order in which jobs wait: priorities and age, lanes, and limits of time."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Iterator

import pytest

from offload.errors import KeyTaken
from offload.work.jobs import AGEING_S, Event, Job, Spec, State, digest, ended, new_id, turn
from offload.work.store import Step, Store, schema, waiting

SPEC = Spec("a", b"\x80", digest(b"\x80"))


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Is new, empty and in memory."""
    store = Store.open()
    yield store
    await store.close()


async def added(store: Store, topic: str = "a", **more: object) -> Job:
    return await store.insert(Job(new_id(), topic, "main")._replace(**more), SPEC)


async def end(store: Store, *jobs: Job) -> None:
    rule = [(job.id, lambda seen: Step(None, ended(seen, Event.SUCCEED, 1.0))) for job in jobs]
    await store.change(rule)


async def due(store: Store, now: float = 0.0) -> list[str]:
    return [job.id for job in await store.due("a", now, 100)]


class TestPriorities:
    async def test_put_a_job_before_all_that_have_not_waited_much_longer(
        self, store: Store
    ) -> None:
        old = await added(store, waits_since=0.0)
        young = await added(store, waits_since=2 * AGEING_S + 1)
        urgent = await added(store, waits_since=2 * AGEING_S + 2, priority=2)
        assert await due(store) == [old.id, urgent.id, young.id]

    async def test_age_so_that_none_starves(self, store: Store) -> None:
        """However many of a higher priority keep coming, the low one has its turn."""
        low = await added(store, priority=0, waits_since=0.0)
        now = 0.0
        for _ in range(100):
            now += AGEING_S / 10
            await added(store, priority=5, waits_since=now)
            first = (await store.due("a", now, 1))[0]
            if first.id == low.id:
                break
            await end(store, first)
        assert first.id == low.id
        assert now <= 6 * AGEING_S

    async def test_are_ordered_alike_by_rule_and_by_index(self, store: Store) -> None:
        chance = random.Random(7)
        for _ in range(200):
            waits_since = chance.choice([0.0, 0.1, 600.0, 1e6 + 0.3])
            later = chance.choice([0.0, 5.0])
            await added(
                store, priority=chance.randint(-9, 9), waits_since=waits_since, not_before=later
            )
        found = await store.due("a", 10.0, 500)
        assert len(found) == 200
        assert found == sorted(found, key=turn)


async def test_jobs_of_one_moment_keep_the_order_of_their_adding(store: Store) -> None:
    """C036."""
    jobs = [await added(store, waits_since=5.0, created_at=5.0) for _ in range(50)]
    assert await due(store) == [job.id for job in jobs]


class TestALane:
    async def test_lets_one_at_a_time_be_due_in_the_order_of_adding(self, store: Store) -> None:
        jobs = [await added(store, lane="x", priority=n) for n in range(4)]
        for job in jobs:
            assert await due(store) == [job.id]
            await end(store, job)
        assert await due(store) == []

    async def test_is_no_obstacle_for_another(self, store: Store) -> None:
        first, second, free = [await added(store, lane=lane) for lane in ("x", "y", "")]
        assert await due(store) == [first.id, second.id, free.id]

    async def test_goes_on_when_its_first_is_removed_for_good(self, store: Store) -> None:
        first, second = [await added(store, lane="x") for _ in range(2)]
        await store.remove(first.id)
        assert await due(store) == [second.id]

    async def test_waits_for_the_time_of_its_first(self, store: Store) -> None:
        first = await added(store, lane="x", not_before=10.0)
        await added(store, lane="x")
        assert await store.queued_topics(5.0) == []
        assert await store.next_due_at(5.0) == 10.0
        assert await due(store, 10.0) == [first.id]

    async def test_goes_on_when_some_in_the_middle_end(self, store: Store) -> None:
        jobs = [await added(store, lane="x") for _ in range(4)]
        await end(store, jobs[1], jobs[2])
        assert await due(store) == [jobs[0].id]
        await end(store, jobs[0])
        assert await due(store) == [jobs[3].id]

    async def test_takes_a_job_back_at_its_end(self, store: Store) -> None:
        first, second = [await added(store, lane="x") for _ in range(2)]
        await end(store, first)
        await store.change([(first.id, lambda job: Step(None, job._replace(state=State.QUEUED)))])
        assert await due(store) == [second.id]
        await end(store, second)
        assert await due(store) == [first.id]

    async def test_always_has_exactly_one_first(self, store: Store) -> None:
        """Whatever is added and ends in whichever order, also within one transaction."""
        chance, live = random.Random(3), []
        for _ in range(60):
            new = [added(store, lane=chance.choice("xy")) for _ in range(chance.randint(0, 4))]
            live += await asyncio.gather(*new)
            gone = chance.sample(live, min(len(live), chance.randint(0, 4)))
            await asyncio.gather(end(store, *gone[:2]), *(end(store, job) for job in gone[2:]))
            live = [job for job in live if job not in gone]
            lanes = {job.lane for job in live}
            firsts = [j.lane for j in await store.due("a", 0.0, 500)]
            assert sorted(firsts) == sorted(lanes)


class TestTheBacklog:
    async def test_counts_what_waits_for_whatever_reason(self, store: Store) -> None:
        first = await added(store, "a", created_wall=5.0)
        await added(store, "a", not_before=9.0)
        await added(store, "a", lane="x")
        await added(store, "a", lane="x")
        await added(store, "b", created_wall=7.0)
        await added(store, "b", state=State.ACTIVE)
        found = {line.topic: line for line in await store.backlog()}
        assert {topic: line.count for topic, line in found.items()} == {"a": 4, "b": 1}
        assert (found["a"].job_id, found["a"].created_wall) == (first.id, 5.0)


class TestLimitsOfTime:
    async def test_are_told_when_they_are_over(self, store: Store) -> None:
        late = await added(store, expires_at=5.0)
        running = await added(store, state=State.ACTIVE, deadline_at=7.0)
        await added(store, state=State.ACTIVE, expires_at=5.0, started_at=1.0)
        await added(store, state=State.ACTIVE, deadline_at=7.0, stopping=True)
        await added(store, state=State.SUCCEEDED, deadline_at=7.0)
        assert await store.next_limit_at() == 5.0
        assert await store.overdue(4.9, 10) == []
        assert await store.overdue(6.0, 10) == [late.id]
        assert set(await store.overdue(7.0, 10)) == {late.id, running.id}


class TestOneLiveJobPerKey:
    async def test_counts_no_job_that_is_being_stopped(self, store: Store) -> None:
        await added(store, key="k", state=State.ACTIVE, stopping=True)
        new = Job(new_id(), "a", "main", key="k")
        stored, _ = await store.insert_alone(new, SPEC, {}, "refuse", lambda job: Step(None))
        assert stored.id == new.id
        with pytest.raises(KeyTaken):
            await store.insert_alone(
                Job(new_id(), "a", "main", key="k"), SPEC, {}, "refuse", lambda job: Step(None)
            )


class TestAHundredThousandJobs:
    """C020+: each question walks along an index."""

    @pytest.fixture
    def tables(self) -> Iterator[sqlite3.Connection]:
        connection = schema.open_memory()
        yield connection
        connection.close()

    @pytest.mark.parametrize(
        ("question", "values", "index"),
        [
            (waiting.OVERDUE, {"now": 1.0, "limit": 9}, "SEARCH"),
            (waiting.NEXT_EXPIRY, (), "jobs_expiring"),
            (waiting.NEXT_DEADLINE, (), "jobs_deadline"),
            (waiting.TIMED, (), "jobs_run_at"),
            (waiting.WAITING, (0, "a", 9), "SEARCH"),
            (waiting.BACKLOG, (), "jobs_behind"),
            (waiting.BACKLOG, (), "jobs_waiting"),
        ],
    )
    def test_are_asked_about_by_index(
        self, tables: sqlite3.Connection, question: str, values: object, index: str
    ) -> None:
        plan = tables.execute(f"EXPLAIN QUERY PLAN {question}", values).fetchall()
        steps = [row[3] for row in plan if " jobs" in row[3]]
        assert all("INDEX jobs_" in step for step in steps), steps
        assert any(index in step for step in steps), steps
        assert not any("TEMP B-TREE FOR ORDER" in row[3] for row in plan), plan
