"""Whatever a job lives through, the store finds its rows by an index (C020+)."""

import re
import sqlite3
from itertools import combinations

import pytest

from offload.work.jobs import (
    Attempt,
    Held,
    HeldState,
    Job,
    Outcome,
    Result,
    Spec,
    State,
    digest,
    new_id,
)
from offload.work.store import HeldStep, NewsLine, Step, Store, schema

SPEC = Spec("a", b"\x80", digest(b"\x80"))
SUCCESS = Outcome(Result.SUCCEEDED, b"\x01")
KEPT = "jobs|specs|fields|outcomes|attempts|news|held|held_specs|dead_letters"
WALK = re.compile(rf"SCAN ({KEPT})\b")
ASKED = ("SELECT", "INSERT", "UPDATE", "DELETE", "\n    SELECT", "\n    WITH")


def started(job: Job) -> Step[Job]:
    kept = job._replace(state=State.ACTIVE, attempt=1, worker="w", given=((1, "w"),))
    return Step(kept, keep=kept)


def ended(job: Job) -> Step[None]:
    kept = job._replace(state=State.SUCCEEDED, finished_at=2.0)
    line = Attempt(1, "w", Result.SUCCEEDED, "", 2.0, 1.0)
    return Step(None, kept, line, SUCCESS)


async def live(store: Store) -> None:
    """Let own jobs and another's live through all that happens to many, twice: also unknown."""
    for n in range(2):
        job = Job(new_id(), "a", "main", key=f"k{n}", lane="by x", order_by="x")
        job = await store.insert(job, SPEC, {"size": n})
        other = Job(new_id(), "a", "main", key=f"o{n}", deadline_at=9.0)
        await store.insert_alone(other, SPEC, {}, "refuse", lambda job: Step(None))
        await store.queued_topics(1.0)
        await store.next_due_at(1.0)
        await store.due_with_specs("a", 1.0, 9)
        await store.specs([job.id, other.id])
        for one in (job, other):
            await store.change([(one.id, started)])
            await store.add_news(one.id, [NewsLine(1.0, "log", "x")])
            await store.job(one.id)
            await store.change([(one.id, ended)])
            await store.outcome(one.id)
            await store.attempts(one.id)
            await store.news(one.id)
        await store.overdue(1.0, 9)
        await store.next_limit_at()
        await store.change_alone([(job.id, lambda _: Step(None))])
        await store.ended(State.SUCCEEDED, 9.0, (0.0, 0), 9)
        await store.forget([job.seq])
        held = Held("s", f"j{n}", "o", HeldState.HAVE, 1, topic="a")
        await store.change_held([(("s", f"j{n}"), lambda _, held=held: HeldStep(0, held, SPEC))])
        await store.held_spec(("s", f"j{n}"))
        await store.held([HeldState.HAVE, HeldState.DONE])
        await store.remove_held([("s", f"j{n}")])
        await store.purge(tomb_older_than=1.0)


@pytest.fixture
def connection() -> sqlite3.Connection:
    return schema.open_memory()


async def test_no_job_costs_a_walk_through_all_of_them(connection: sqlite3.Connection) -> None:
    """C020+."""
    store = Store(connection, None)
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    await live(store)
    await store.close()
    tables = schema.open_memory()
    texts = {text for text in asked if text.startswith(ASKED)}
    walks = [
        f"{row[3]}: {text}"
        for text in sorted(texts)
        for row in tables.execute(f"EXPLAIN QUERY PLAN {text}")
        if WALK.match(row[3])
    ]
    tables.close()
    assert len(texts) > 40
    assert not walks


async def test_jobs_are_added_by_few_statements_whatever_is_wished(
    connection: sqlite3.Connection,
) -> None:
    """SQLite prepares a statement once, as long as there are not too many different ones."""
    store = Store(connection, None)
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    wishes = {"policy": "balanced", "retries": 3, "expires_at": 9.0, "into": "/x", "reason": "y"}
    for count in range(len(wishes) + 1):
        for names in combinations(wishes, count):
            more = {name: wishes[name] for name in names}
            kept = await store.insert(Job(new_id(), "a", "main")._replace(**more), SPEC)
            assert await store.job(kept.id) == kept
    await store.close()
    added = {text.partition(")")[0] for text in asked if text.startswith("INSERT INTO jobs")}
    assert len(added) == 2
