"""What the store finds by what jobs are and carry, by which index, and what it cannot read."""

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from offload.errors import UsageError
from offload.work.jobs import Condition, Job, Query, Spec, State, digest, new_id, query
from offload.work.store import Step, Store, Unreadable, schema, search

SPEC = Spec("a", b"\x80", digest(b"\x80"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path)
    yield store
    await store.close()


async def added(store: Store, fields: dict[str, str | float] | None = None, **more: object) -> Job:
    return await store.insert(Job(new_id(), "a", "main")._replace(**more), SPEC, fields or {})


class TestACondition:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("size>=256", Condition("size", ">=", 256.0)),
            ("size <= 1e3", Condition("size", "<=", 1000.0)),
            ("name=cat", Condition("name", "=", "cat")),
            ('name="42"', Condition("name", "=", "42")),
            ("flag=true", Condition("flag", "=", 1.0)),
            ("name=", Condition("name", "=", "")),
            ("a<b=c", Condition("a", "<", "b=c")),
            ("list=[1]", Condition("list", "=", "[1]")),
        ],
    )
    def test_is_read_from_text(self, text: str, expected: Condition) -> None:
        assert Condition.parse(text) == expected

    @pytest.mark.parametrize(
        "text", ["", "size", "=1", "a!1", "a!=1", "a==1", "a<>1", "a=>1", "a=<1", "size=NaN"]
    )
    def test_that_means_nothing_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="where"):
            Condition.parse(text)

    @pytest.mark.parametrize("where", [{"n": 10**400}, f"n>{10**400}", 5, None, [5]])
    def test_that_is_none_is_refused_by_its_name(self, where: Any) -> None:
        with pytest.raises(UsageError, match="where"):
            query(0.0, where=where)

    def test_can_do_no_harm_in_a_statement(self, tmp_path: Path) -> None:
        assert query(0.0, where="x=1); DROP TABLE jobs; --").where[0].value.startswith("1)")


BEGINNING = datetime.min  # noqa: DTZ901 - as people write it who mean: from the beginning


@pytest.mark.parametrize("since", [BEGINNING, 10**400, math.nan, "0001-01-01", b"x"], ids=str)
def test_a_moment_that_is_none_is_refused_by_its_name(since: Any) -> None:
    with pytest.raises(UsageError, match=r"since: .* is no moment"):
        query(0.0, since=since)


class TestSearching:
    async def test_ends_at_the_limit_over_states(self, store: Store) -> None:
        jobs = [await added(store, {"n": n}, state=list(State)[n % 3]) for n in range(9)]
        wanted = query(0.0, states="live", where="n>=3")
        assert await store.search(wanted, 4) == jobs[:4:-1]
        assert await store.search(wanted, 4, jobs[5].seq) == [jobs[4], jobs[3]]
        assert await store.count(wanted) == 6

    async def test_sees_what_is_just_committed(self, store: Store) -> None:
        for number in range(5):
            job = await added(store, {"n": number})
            assert await store.search(query(0.0, where={"n": number})) == [job]


class TestUnreadableRows:
    """C012: never run, never lost; visible, no flood of log lines, removable."""

    @pytest.fixture
    async def damaged(self, tmp_path: Path) -> AsyncIterator[Store]:
        """Holds 3 jobs that can be read, and 3 + 40 that cannot."""
        store = Store.open(tmp_path)
        for number in range(46):
            await added(store, {"n": number}, id=f"{number:026}", created_wall=float(number))
        await store.close()
        connection = sqlite3.connect(tmp_path / schema.FILE_NAME)
        connection.execute("UPDATE jobs SET state = 'paused' WHERE seq = 1")
        connection.execute("UPDATE jobs SET given = x'c1' WHERE seq = 2")
        connection.execute("UPDATE specs SET envelope = x'c1' WHERE seq = 3")
        connection.execute("UPDATE jobs SET state = 'future' WHERE seq > 6")
        connection.commit()
        connection.close()
        store = Store.open(tmp_path)
        yield store
        await store.close()

    async def test_are_among_all_jobs_and_in_no_state(self, damaged: Store) -> None:
        found = await damaged.search(Query(), limit=100)
        assert [entry.seq for entry in found] == list(range(46, 0, -1))
        assert sum(isinstance(entry, Unreadable) for entry in found) == 42
        queued = await damaged.search(Query(frozenset({State.QUEUED})))
        assert [entry.seq for entry in queued] == [6, 5, 4, 3]  # no one has tried to run 3

    async def test_are_found_as_what_they_are(self, damaged: Store) -> None:
        found = await damaged.search(Query(unreadable=True), limit=100)
        assert [entry.seq for entry in found] == [*range(46, 6, -1), 3, 2, 1]
        assert all(entry.reason for entry in found if isinstance(entry, Unreadable))
        assert await damaged.count(Query(unreadable=True)) == 43
        queued = await damaged.search(Query(frozenset({State.QUEUED})))
        assert [entry.seq for entry in queued] == [6, 5, 4]

    async def test_do_not_flood_the_log(
        self, damaged: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            for _ in range(3):
                await damaged.search(Query(unreadable=True), limit=100)
        assert len(caplog.records) == search.LOGGED + 1

    async def test_can_be_looked_at_and_removed(self, damaged: Store) -> None:
        broken = await damaged.unreadable_job(f"{2:026}")
        assert (broken.seq, broken.topic, broken.created_wall) == (3, "a", 2.0)
        assert await damaged.unreadable_job(f"{5:026}") is None
        await damaged.remove(broken.id)
        assert await damaged.count(Query(unreadable=True)) == 42


class TestASearch:
    """No question that is asked often walks through all jobs."""

    @pytest.fixture
    def tables(self) -> Iterator[sqlite3.Connection]:
        connection = schema.open_memory()
        yield connection
        connection.close()

    def plan(self, tables: sqlite3.Connection, ask: object) -> list[str]:
        statements: list[str] = []
        tables.set_trace_callback(statements.append)
        ask()  # type: ignore[operator]
        tables.set_trace_callback(None)
        [text] = [text for text in statements if text.startswith("SELECT")]
        return [row[3] for row in tables.execute(f"EXPLAIN QUERY PLAN {text}")]

    def test_by_state_walks_along_the_index_of_that_state(self, tables: sqlite3.Connection) -> None:
        wanted = query(0.0, states="queued", topic="a/**", where="n>1", since="1h")
        steps = self.plan(tables, lambda: search.search(tables, search.Register(), wanted, 9, 99))
        assert steps[0].startswith("SEARCH jobs USING INDEX jobs_state (state=? AND ")
        assert "SEARCH fields USING PRIMARY KEY (seq=? AND name=?)" in steps

    def test_of_all_goes_back_from_the_newest(self, tables: sqlite3.Connection) -> None:
        register = search.Register()
        steps = self.plan(tables, lambda: search.search(tables, register, Query(), 9, None))
        assert steps == ["SCAN jobs"]  # in its order, and ended at the limit: nothing is sorted
        steps = self.plan(tables, lambda: search.search(tables, register, Query(), 9, 99))
        assert steps == ["SEARCH jobs USING INTEGER PRIMARY KEY (rowid<?)"]

    def test_counts_states_by_the_index_alone(self, tables: sqlite3.Connection) -> None:
        wanted = query(0.0, states="history")
        steps = self.plan(tables, lambda: search.count(tables, search.Register(), wanted))
        assert steps == ["SEARCH jobs USING COVERING INDEX jobs_state (state=?)"]


@pytest.mark.long
class TestABacklogOf100000Jobs:
    """C020+: adding and claiming cost what they cost in an empty store, ± 20 %; ratios only."""

    async def test_slows_neither_adding_nor_claiming(self, tmp_path: Path) -> None:
        empty, full = Store.open(tmp_path / "empty"), Store.open(tmp_path / "full")
        await self.add(full, 100_000)
        for act in (self.add, self.claim):
            await act(empty, 500)
            costs = [(await act(empty, 500), await act(full, 500)) for _ in range(20)]
            # The best of many, side by side: whatever else the machine does only adds.
            before, after = (min(cost) for cost in zip(*costs, strict=True))
            print(act.__name__, before, after, after / before)
            assert after < 1.2 * before
        await empty.close()
        await full.close()

    async def add(self, store: Store, number: int) -> float:
        """Return the seconds of the processor that ``number`` jobs take."""
        began = time.process_time()
        for first in range(0, number, 500):
            async with asyncio.TaskGroup() as group:
                for n in range(first, min(first + 500, number)):
                    job = Job(new_id(), f"t/{n % 20}", "main", priority=n % 3)
                    group.create_task(store.insert(job, SPEC, {"n": n, "name": f"x{n % 100}"}))
        return time.process_time() - began

    async def claim(self, store: Store, number: int) -> float:
        """Return the same of finding and starting jobs."""
        began = time.process_time()
        for n in range(0, number, 25):
            due = await store.due_with_specs(f"t/{n // 25 % 20}", 0.0, 25)
            assert len(due.jobs) == len(due.specs) == 25
            await store.change([(job.id, _started) for job in due.jobs])
        return time.process_time() - began


def _started(job: Job) -> Step[None]:
    return Step(None, keep=job._replace(state=State.ACTIVE, attempt=1, started_at=1.0))
