"""What the store answers, in which order, and by which index."""

import math
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offload.errors import InvalidTopic
from offload.topics import matches
from offload.work.jobs import (
    FileEntry,
    Held,
    HeldState,
    Job,
    Outcome,
    Query,
    Result,
    Spec,
    State,
    digest,
    new_id,
)
from offload.work.store import HeldStep, Step, Store, reads, schema, search

SPEC = Spec("a", b"\x80", digest(b"\x80"))


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Is new, empty and in memory."""
    store = Store.open()
    yield store
    await store.close()


async def added(store: Store, topic: str = "a", **more: object) -> Job:
    return await store.insert(Job(new_id(), topic, "main")._replace(**more), SPEC)


class TestASearch:
    async def test_sees_one_moment_however_many_states_it_looks_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job that goes from one state to another meanwhile is found once (C003)."""
        store = Store.open(tmp_path)
        waits, runs = await added(store), await added(store, state=State.ACTIVE)
        path = tmp_path / "store.db"
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        read = search.rows.read_job

        def reading(row: Sequence[Any]) -> Job:
            """Each of the two takes the state of the other as soon as one of them is read."""
            job = read(row)
            moved = runs if job.id == waits.id else waits
            other.execute("UPDATE jobs SET state = ? WHERE id = ?", (job.state.value, moved.id))
            return job

        monkeypatch.setattr(search.rows, "read_job", reading)
        query = Query(frozenset({State.QUEUED, State.ACTIVE}))
        assert {job.id for job in await store.search(query)} == {waits.id, runs.id}
        other.close()
        await store.close()


class TestJobsThatAreDue:
    async def test_come_by_priority_and_then_by_age(self, store: Store) -> None:
        jobs = [await added(store, priority=p) for p in (0, 5, 0, -1, 5)]
        due = await store.due("a", now=0.0, limit=10)
        assert due == [jobs[n] for n in (1, 4, 0, 2, 3)]

    async def test_are_those_whose_time_has_come(self, store: Store) -> None:
        """C038: waiting for a retry does not block the others."""
        late = await added(store, not_before=10.5, priority=9)
        soon = await added(store)
        assert await store.due("a", now=10.0, limit=10) == [soon]
        assert await store.due("a", now=10.5, limit=10) == [late, soon]

    async def test_take_their_place_in_the_order_when_their_time_has_come(
        self, store: Store
    ) -> None:
        jobs = [await added(store, not_before=n % 3) for n in range(30)]
        assert await store.due("a", now=5.0, limit=7) == jobs[:7]

    async def test_are_of_that_topic_only(self, store: Store) -> None:
        await added(store, "a/b")
        await added(store, "b", not_before=1.0)
        assert await store.due("a", now=5.0, limit=10) == []

    @pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
    async def test_are_queued(self, store: Store, state: State) -> None:
        await added(store, state=state)
        assert await store.due("a", now=0.0, limit=10) == []
        assert await store.queued_topics(0.0) == []


class TestTopicsThatHaveDueJobs:
    async def test_are_each_named_once(self, store: Store) -> None:
        for topic in ("b", "a", "b", "a/c", "a"):
            await added(store, topic)
        assert await store.queued_topics(now=0.0) == ["a", "a/c", "b"]

    async def test_are_not_those_whose_jobs_all_wait_for_a_time(self, store: Store) -> None:
        await added(store, "later", not_before=10.0)
        await added(store, "now")
        assert await store.queued_topics(now=9.9) == ["now"]
        assert await store.queued_topics(now=10.0) == ["later", "now"]

    async def test_are_none_in_an_empty_store(self, store: Store) -> None:
        assert await store.queued_topics(now=0.0) == []


class TestTheNextTime:
    async def test_is_the_first_that_has_not_come(self, store: Store) -> None:
        for at in (30.0, 20.0, 10.0, 0.0):
            await added(store, not_before=at)
        assert await store.next_due_at(now=10.0) == 20.0
        assert await store.next_due_at(now=30.0) is None


class TestFinding:
    async def test_gives_the_newest_first_page_by_page(self, store: Store) -> None:
        jobs = [await added(store) for _ in range(5)]
        page = await store.find(limit=2)
        assert page == [jobs[4], jobs[3]]
        assert await store.find(limit=2, before_seq=page[-1].seq) == [jobs[2], jobs[1]]

    async def test_by_states_keeps_that_order(self, store: Store) -> None:
        cycle = [State.QUEUED, State.SUCCEEDED, State.GIVEN_UP]
        jobs = [await added(store, state=cycle[n % 3]) for n in range(9)]
        wanted = {State.QUEUED, State.GIVEN_UP}
        expected = [job for job in reversed(jobs) if job.state in wanted]
        assert await store.find(states=wanted, limit=4) == expected[:4]

    @pytest.mark.parametrize(
        "pattern", ["a", "a/b", "a/*", "a/**", "*", "**", "a/b/*", "x", "a_/*"]
    )
    async def test_by_pattern_takes_what_the_pattern_takes(
        self, store: Store, pattern: str
    ) -> None:
        """C031: topic patterns, one language everywhere."""
        topics = ["a", "b", "a/b", "a/b/c", "a/b/c/d", "ab/c", "a-/c", "A/b", "a_/x"]
        for topic in topics:
            await added(store, topic)
        found = await store.find(topic=pattern)
        assert {job.topic for job in found} == {t for t in topics if matches(pattern, t)}

    async def test_refuses_a_pattern_that_is_none(self, store: Store) -> None:
        with pytest.raises(InvalidTopic):
            await store.find(topic="a//b")


async def test_assigned_jobs_are_those_that_some_instance_has(store: Store) -> None:
    jobs = [await added(store, state=state) for state in State]
    expected = [job for job in jobs if job.state in (State.ASSIGNED, State.ACTIVE)]
    assert await store.assigned() == expected


class TestBlobsThatAreNeeded:
    """C105: they are those of jobs that have not ended, or whose outcome has not arrived."""

    FILE = FileEntry("in", "f" * 64, 1)
    OUT = FileEntry("out", "e" * 64, 1)

    async def add(self, store: Store, spec: Spec, **more: object) -> Job:
        return await store.insert(Job(new_id(), "a", "main")._replace(**more), spec)

    @pytest.mark.parametrize("state", list(State))
    async def test_are_the_inputs_of_live_jobs(self, store: Store, state: State) -> None:
        await self.add(store, SPEC._replace(files=(self.FILE,)), state=state)
        live = state in (State.QUEUED, State.ASSIGNED, State.ACTIVE)
        assert await store.live_blobs() == ({"f" * 64} if live else set())

    async def test_are_the_inputs_of_one_in_a_state_of_another_version(
        self, tmp_path: Path
    ) -> None:
        """C012: it is not lost."""
        store = Store.open(tmp_path)
        await self.add(store, SPEC._replace(files=(self.FILE,)))
        await store.close()
        connection = sqlite3.connect(tmp_path / schema.FILE_NAME, isolation_level=None)
        connection.execute("UPDATE jobs SET state = 'paused'")
        connection.close()
        store = Store.open(tmp_path)
        assert await store.live_blobs() == {"f" * 64}
        await store.close()

    async def test_are_payloads_that_travel_as_blobs(self, store: Store) -> None:
        await self.add(store, Spec("a", None, "d" * 64))
        assert await store.live_blobs() == {"d" * 64}

    async def test_are_outputs_until_they_are_in_place(self, store: Store) -> None:
        job = await self.add(store, SPEC, state=State.SUCCEEDED, placing=1)
        outcome = Outcome(Result.SUCCEEDED, files=(self.OUT,))
        await store.change([(job.id, lambda seen: Step(0, seen, outcome=outcome, placing=b"p"))])
        assert await store.live_blobs() == {"e" * 64}
        await store.change([(job.id, lambda seen: Step(0, seen._replace(placing=0)))])
        assert await store.live_blobs() == set()

    async def test_are_large_values_as_long_as_their_job(self, store: Store) -> None:
        job = await self.add(store, SPEC, state=State.SUCCEEDED)
        outcome = Outcome(Result.SUCCEEDED, value_blob=self.OUT)
        await store.change([(job.id, lambda _: Step(0, outcome=outcome))])
        assert await store.live_blobs() == {"e" * 64}
        await store.remove(job.id)
        assert await store.live_blobs() == set()

    async def test_are_those_of_a_held_job_until_it_is_a_tomb(self, store: Store) -> None:
        key = ("s" * 32, new_id())
        held = Held(*key, "o" * 26, HeldState.HAVE, 1)
        spec = SPEC._replace(files=(self.FILE,))
        outcome = Outcome(Result.SUCCEEDED, files=(self.OUT,))
        steps = [
            (replace(held, state=HeldState.HAVE), {"f" * 64}),
            (replace(held, state=HeldState.DONE, outcome=outcome), {"f" * 64, "e" * 64}),
            (replace(held, state=HeldState.TOMB, outcome=outcome), set()),
        ]
        for kept, needed in steps:
            await store.change_held([(key, lambda _, kept=kept: HeldStep(None, kept, spec))])
            assert await store.live_blobs() == needed


class TestPurging:
    async def test_takes_tombs_that_are_old_enough(self, store: Store) -> None:
        async def keep(state: HeldState, at: float, delivery: str = "at-least-once") -> None:
            key = ("s" * 32, new_id())
            held = Held(*key, "o" * 26, state, 1, at=at)
            held = replace(held, delivery=type(held.delivery)(delivery))
            await store.change_held([(key, lambda _: HeldStep(None, held))])

        await keep(HeldState.TOMB, 1.0)
        await keep(HeldState.TOMB, 9.0)
        await keep(HeldState.DONE, 1.0)
        await keep(HeldState.TOMB, 1.0, "at-most-once")  # stays until its origin says drop
        assert await store.purge(tomb_older_than=5.0) == 1
        assert len(await store.held(HeldState)) == 3

    async def test_goes_on_until_all_of_it_is_gone(self, store: Store) -> None:
        for number in range(1_200):
            key = ("s" * 32, f"{number:026}")
            held = Held(*key, "o" * 26, HeldState.TOMB, 1, at=1.0)
            await store.change_held([(key, lambda _, held=held: HeldStep(None, held))])
        assert await store.purge(tomb_older_than=5.0) == 1_200
        assert await store.held([HeldState.TOMB]) == []


class TestHistory:
    async def test_is_read_from_the_oldest_end_on_page_by_page(self, store: Store) -> None:
        ends = [5.0, 1.0, 5.0, 3.0, 9.0]
        jobs = [await added(store, state=State.ERROR, finished_at=at) for at in ends]
        await added(store, state=State.SUCCEEDED, finished_at=2.0)
        first = await store.ended(State.ERROR, 9.0, (-math.inf, 0), 3)
        assert [ended.seq for ended in first] == [jobs[n].seq for n in (1, 3, 0)]
        after = first[-1].finished_at, first[-1].seq
        second = await store.ended(State.ERROR, 9.0, after, 3)
        assert [ended.seq for ended in second] == [jobs[2].seq]

    async def test_alone_is_forgotten(self, store: Store) -> None:
        gone = await added(store, state=State.SUCCEEDED)
        kept = [
            await added(store, state=State.SUCCEEDED, placing=1),
            await added(store, state=State.ACTIVE),
            await added(store),
        ]
        assert await store.forget([gone.seq, *(job.seq for job in kept), 999]) == [gone.id]
        assert await store.find() == kept[::-1]
        assert State.SUCCEEDED in await store.counts()  # the one whose files are being placed


class TestAHundredThousandJobs:
    """C020+: what is asked for often walks along an index, not through the backlog."""

    @pytest.fixture
    def tables(self) -> Iterator[sqlite3.Connection]:
        connection = schema.open_memory()
        yield connection
        connection.close()

    @pytest.mark.parametrize(
        ("question", "values", "indexes"),
        [
            (reads.JOB_BY_ID, ("x",), {"jobs_id"}),
            (reads.DUE, {"topic": "a", "now": 1.0, "limit": 9}, {"jobs_ready", "jobs_waiting"}),
            (reads.QUEUED_TOPICS, (1.0,), {"jobs_ready", "jobs_waiting"}),
            (reads.NEXT_DUE, (1.0,), {"jobs_next"}),
            (reads.ASSIGNED, (), {"jobs_state"}),
            (search.ENDED, ("error", 0.0, 1, 9.0, 9), {"jobs_ended"}),
            (search.LIVE_COUNTS, (), {"jobs_state"}),
        ],
        ids=["job", "due", "topics", "next", "assigned", "ended", "live"],
    )
    def test_are_never_walked_through(
        self, tables: sqlite3.Connection, question: str, values: object, indexes: set[str]
    ) -> None:
        plan = tables.execute(f"EXPLAIN QUERY PLAN {question}", values).fetchall()
        steps = [row[3] for row in plan if " jobs" in row[3] or " specs" in row[3]]
        assert all(
            step.startswith(("SEARCH jobs USING", "SEARCH specs USING")) for step in steps
        ), steps
        used = {step.split(" INDEX ")[1].split()[0] for step in steps if " INDEX " in step}
        assert used == indexes

    def test_are_found_by_key_without_a_walk(self, tables: sqlite3.Connection) -> None:
        plan = tables.execute(
            'EXPLAIN QUERY PLAN SELECT id FROM jobs WHERE "key" = ? AND "key" != \'\'', ("k",)
        ).fetchall()
        assert "jobs_key" in plan[0][3]
