"""Jobs are found, counted and controlled through a real node on a LAN in memory."""

import asyncio
import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from offload import App, Context, Node, codec
from offload.errors import JobNotFound, KeyTaken, Malformed, Refused, UsageError
from offload.testing import Lan
from offload.work.jobs import State

app = App()


@app.consumer("test/echo")
async def echo(**anything: object) -> object:
    return anything


@app.consumer("test/fail")
async def fail(ctx: Context, x: object = None) -> None:
    raise ValueError(f"failed {ctx.retry_count}")


@app.consumer("test/block")
async def block() -> None:
    await asyncio.Event().wait()


async def ids(node: Node, **query: object) -> list[str]:
    return [entry["id"] for entry in await node.jobs(**query)]


async def state(node: Node, job_id: str) -> str:
    return str((await node.describe(job_id))["state"])


class TestFourJobsWithAndWithoutArguments:
    """C013: {}, {filter:a}, {filter:a, property:b}, {filter:c}."""

    @pytest.fixture
    async def node(self, lan: Lan) -> Node:
        node = await lan.node()
        for arguments in ({}, {"filter": "a"}, {"filter": "a", "property": "b"}, {"filter": "c"}):
            await node.submit("test/find", **arguments)
        return node

    @pytest.mark.parametrize(
        ("where", "match", "expected"),
        [
            (["filter=a"], "all", 2),
            (["property<=b"], "all", 1),
            (["filter=a", "property<=b"], "all", 1),
            (["filter=a", "filter=c"], "any", 3),
            (["filter=a", "filter=c"], "all", 0),
            ([], "all", 4),
            ({"filter": "c"}, "all", 1),
            ([("filter", ">", "a")], "all", 1),
            (["filter=d"], "all", 0),
        ],
    )
    async def test_are_found_by_them(
        self, node: Node, where: object, match: str, expected: int
    ) -> None:
        """C013: operators, combined by all and by any; counted alike."""
        assert len(await node.jobs(where=where, match=match)) == expected
        assert await node.count(where=where, match=match) == expected


class TestNumbers:
    async def test_compare_as_numbers(self, lan: Lan) -> None:
        """C013: 9 is less than 10, and text is no number."""
        node = await lan.node()
        jobs = [await node.submit("a", size=size) for size in (9, 10, 256.5, "10", True)]
        assert await ids(node, where="size>=10") == [jobs[2].id, jobs[1].id]
        assert await ids(node, where="size<10") == [jobs[4].id, jobs[0].id]
        assert await ids(node, where='size="10"') == [jobs[3].id]
        assert await ids(node, where="size=true") == [jobs[4].id]

    @pytest.mark.parametrize("where", ["size", "=5", "size!5", [5], [("a", "~", 1)]])
    async def test_a_condition_that_is_none_is_refused(self, lan: Lan, where: object) -> None:
        node = await lan.node()
        with pytest.raises(UsageError, match="where"):
            await node.jobs(where=where)


class TestJobsOfManyKinds:
    async def test_are_found_by_state_topic_queue_and_time(self, lan: Lan) -> None:
        node = await lan.node(app, queues={"other": {"topics": ["b/**"]}})
        done = await node.submit("test/echo")
        await lan.until(done.result())
        await lan.clock.advance(240)
        waiting = await node.submit("b/c")
        assert await ids(node, states=["live"]) == [waiting.id]
        assert await ids(node, states=[State.SUCCEEDED]) == [done.id]
        assert await ids(node, states="history") == [done.id]
        assert await ids(node, topic="b/*") == [waiting.id]
        assert await ids(node, queue="other") == [waiting.id]
        assert await ids(node, since="2m") == [waiting.id]
        assert await ids(node, until="2m") == [done.id]
        ago = datetime.fromtimestamp(lan.clock.wall() - 60, UTC)
        assert await ids(node, since=ago, until=ago) == []
        assert await ids(node, since=ago.isoformat()) == [waiting.id]

    async def test_are_given_page_by_page(self, lan: Lan) -> None:
        node = await lan.node()
        added = [await node.submit("a/b") for _ in range(5)]
        first = await node.jobs(limit=2)
        second = await node.jobs(limit=2, before_seq=first[-1]["seq"])
        assert [e["id"] for e in (*first, *second)] == [job.id for job in added[:0:-1]]

    async def test_are_found_by_worker_and_by_origin(self, lan: Lan) -> None:
        desk, worker = await lan.node(name="desk"), await lan.node(app, name="worker")
        local, job = await desk.submit("nobody"), await desk.submit("test/block")
        await lan.clock.advance(2)
        assert await ids(desk, worker="worker") == [job.id]
        assert await ids(desk, origin="desk") == [job.id, local.id]
        [guest] = await worker.jobs(origin="desk")
        assert (guest["id"], guest["state"], guest["worker_name"]) == (job.id, "active", "worker")
        assert await worker.count(origin=desk.id, states=["live"], topic="test/*") == 1
        assert await worker.jobs(origin="desk", states=["history"]) == []
        assert await worker.jobs() == []
        with pytest.raises(UsageError, match="payloads stay closed"):
            await worker.jobs(origin="desk", where="a=1")
        with pytest.raises(UsageError, match="all on one page"):
            await worker.jobs(origin="desk", before_seq=0)
        with pytest.raises(UsageError, match="no handles here"):
            await worker.find(origin="desk")
        assert [found.id for found in await desk.find(origin="desk")] == [job.id, local.id]

    async def test_are_not_found_by_words_that_mean_nothing(self, lan: Lan) -> None:
        node = await lan.node()
        wrong: list[tuple[str, object]] = [
            *(("states", "quued"), ("since", "soon"), ("match", "some"), ("colour", 1)),
            *(
                ("states", 5),
                ("since", math.nan),
                ("since", [1]),
                ("queue", 5),
                ("where", "a=\ud800"),
            ),
            *(
                ("worker", "no-id"),
                ("worker", 5),
                ("limit", -1),
                ("limit", 1.5),
                ("before_seq", "x"),
            ),
        ]
        for word, value in wrong:
            with pytest.raises(UsageError):
                await node.jobs(**{word: value})  # type: ignore[arg-type]

    async def test_come_as_handles_too(self, lan: Lan) -> None:
        node = await lan.node(app)
        job = await node.submit("test/echo", n=1)
        [found] = await node.find(where="n=1")
        assert await lan.until(found.result()) == await lan.until(job.result())


class TestRemoving:
    async def test_a_job_that_waits_for_its_retry_makes_it_history_and_then_nothing(
        self, lan: Lan
    ) -> None:
        """C003: found while it runs and waits; removed: DROPPED in history; removed again: gone."""
        node = await lan.node(app, queues={"main": {"retry_delay": "60s"}})
        job = await node.submit("test/fail", x="y")
        asked = {"topic": "test/fail", "where": {"x": "y"}}
        assert await ids(node, states="live", **asked) == [job.id]
        await lan.clock.advance(2)
        assert await ids(node, states="live", **asked) == [job.id]
        assert await node.remove(job.id)
        assert await ids(node, states="live", **asked) == []
        [entry] = await node.jobs(states="history", **asked)
        assert entry["state"] == "dropped"
        assert await node.remove(job.id)
        assert await node.jobs() == []
        with pytest.raises(JobNotFound):
            await node.describe(job.id)

    async def test_a_job_under_way_is_not_done(self, lan: Lan) -> None:
        node = await lan.node(app)
        job = await node.submit("test/block")
        await lan.clock.advance(1)
        assert not await node.remove(job.id)
        assert await state(node, job.id) == "active"


class TestGoingAgain:
    async def test_ends_the_wait_for_a_retry(self, lan: Lan) -> None:
        node = await lan.node(app, queues={"main": {"retry_delay": "1h"}})
        job = await node.submit("test/fail", x=1)
        await lan.clock.advance(1)
        assert (await job.info())["failures"] == 1
        await node.requeue(job.id)
        await lan.clock.advance(1)
        assert (await job.info())["failures"] == 2

    async def test_brings_a_job_that_was_given_up_back_under_its_id(self, lan: Lan) -> None:
        node = await lan.node(app, queues={"main": {"retries": 0}})
        job = await node.submit("test/fail", x=1)
        assert (await lan.until(job.wait()))["state"] == "given_up"
        again = await node.requeue(job.id)
        assert again.id == job.id
        ended = await lan.until(again.wait())
        assert (ended["state"], ended["attempt"], ended["failures"]) == ("given_up", 2, 1)
        assert len(ended["attempts"]) == 2

    async def test_is_refused_where_nothing_is_to_be_done_again(self, lan: Lan) -> None:
        node = await lan.node(app)
        done, blocked = await node.submit("test/echo"), await node.submit("test/block")
        waiting = await node.submit("nobody")
        await lan.until(done.result())
        for job, why in ((done, "succeeded"), (blocked, "active"), (waiting, "place")):
            with pytest.raises(Refused, match=why):
                await node.requeue(job.id)

    async def test_takes_its_turn_behind_those_of_its_order(self, lan: Lan) -> None:
        node = await lan.node(app, queues={"main": {"retries": 0}})
        ordered = node.options(order_by="x")
        failed, stuck = await ordered.submit("test/fail"), await ordered.submit("test/block")
        await lan.until(failed.wait())
        await lan.clock.advance(1)
        assert await state(node, stuck.id) == "active"
        await node.requeue(failed.id)
        await lan.clock.advance(5)
        assert (await failed.info())["attempt"] == 1
        await node.stop(stuck.id)
        assert (await lan.until(failed.wait()))["attempt"] == 2

    async def test_is_refused_while_another_of_its_key_lives(self, lan: Lan) -> None:
        node = await lan.node(app, queues={"main": {"retries": 0}})
        keyed = node.options(key="k", if_key="existing")
        job = await keyed.submit("test/fail", x=1)
        await lan.until(job.wait())
        twin = await keyed.submit("test/block")
        with pytest.raises(KeyTaken, match=twin.id):
            await node.requeue(job.id)

    async def test_is_refused_if_another_of_its_key_is_requeued_at_the_same_time(
        self, lan: Lan
    ) -> None:
        node = await lan.node()
        keyed = node.options(key="k", if_key="replace")
        jobs = [await keyed.submit("test/block", x=x) for x in range(5)]
        await jobs[-1].stop()
        requeued = (node.requeue(job.id) for job in jobs)
        refused = [e for e in await asyncio.gather(*requeued, return_exceptions=True) if e]
        assert len(await ids(node, states="live")) == 1
        assert sum(isinstance(e, KeyTaken) for e in refused) == 4

    async def test_a_retry_is_a_new_job_linked_to_the_old_one(self, lan: Lan) -> None:
        """C042: retry(history job) makes a new job with the same topic and payload."""
        node = await lan.node(app)
        job = await node.submit("test/echo", page=3)
        await lan.until(job.result())
        again = await node.retry(job.id)
        assert again.id != job.id
        assert await lan.until(again.result()) == {"page": 3}
        assert (await again.info())["again_of"] == job.id
        assert await node.count(where="page=3") == 2


class TestAnotherPriority:
    async def test_reorders_what_waits(self, lan: Lan) -> None:
        node = await lan.node()
        jobs = [await node.submit("a") for _ in range(3)]
        await node.set_priority(jobs[2].id, 9)
        assert (await jobs[2].info())["priority"] == 9
        due = await node._house.store.due("a", lan.clock.now(), 10)
        assert [job.id for job in due] == [jobs[n].id for n in (2, 0, 1)]

    async def test_is_refused_for_a_job_under_way(self, lan: Lan) -> None:
        node = await lan.node(app)
        job = await node.submit("test/block")
        await lan.clock.advance(1)
        with pytest.raises(Refused, match="active"):
            await node.set_priority(job.id, 1)


class TestStopping:
    async def test_reaches_the_instance_where_it_runs(self, lan: Lan) -> None:
        """C019+: state STOPPED, wherever it runs."""
        desk, worker = await lan.node(), await lan.node(app)
        job = await desk.submit("test/block")
        await lan.clock.advance(2)
        assert (await job.info())["worker"] == worker.id
        assert await desk.stop(job.id)
        assert (await lan.until(job.wait()))["state"] == "stopped"


class TestAJobThatCannotBeRead:
    """C012: never run, never lost; it stops nothing, stays visible and can be removed."""

    @pytest.fixture
    async def node(self, lan: Lan) -> Node:
        """Has a job whose row another version wrote, and one that is fine."""
        node = await lan.node(name="old")
        await node.submit("test/echo", n=1)
        await node.submit("test/echo", n=2)
        return await self._damaged(lan, node)

    async def _damaged(self, lan: Lan, node: Node) -> Node:
        """Restart a node, of whose jobs another version wrote the first one's row."""
        await lan.crash(node)
        file = node.data_dir.store / "store.db"
        connection = sqlite3.connect(file)
        connection.execute("UPDATE jobs SET state = 'paused' WHERE seq = 1")
        connection.commit()
        connection.close()
        node.app = app
        return await lan.restart(node)

    async def test_is_listed_and_shown_as_unreadable(self, lan: Lan, node: Node) -> None:
        await lan.clock.advance(2)
        fine, broken = await node.jobs()
        assert (fine["state"], broken["state"]) == ("succeeded", "unreadable")
        assert "paused" in broken["reason"]
        assert await ids(node, states="unreadable") == [broken["id"]]
        assert (await node.describe(broken["id"]))["state"] == "unreadable"

    async def test_is_counted_and_not_touched(self, node: Node) -> None:
        [broken] = await ids(node, states="unreadable")
        assert (await node.status())["unreadable"] == 1
        for act in (node.retry, node.requeue, node.job, node.stop, node.explain):
            with pytest.raises(Refused, match="cannot be read"):
                await act(broken)

    @pytest.mark.parametrize(
        "damage", ["outcomes SET outcome = x'c1'", "attempts SET result = 'odd'"]
    )
    async def test_is_told_as_such_at_once_if_it_is_its_outcome_or_an_attempt(
        self, lan: Lan, node: Node, damage: str
    ) -> None:
        await lan.clock.advance(2)
        await lan.crash(node)
        with closing(sqlite3.connect(node.data_dir.store / "store.db")) as connection:
            connection.execute(f"UPDATE {damage}")
            connection.commit()
        node = await lan.restart(node)
        fine, _ = await node.jobs()
        assert (await node.describe(fine["id"]))["state"] == "unreadable"
        assert await node.remove(fine["id"])

    async def test_may_have_lost_the_places_of_its_files_and_is_shown_all_the_same(
        self, lan: Lan, node: Node
    ) -> None:
        await lan.clock.advance(2)
        await lan.crash(node)
        with closing(sqlite3.connect(node.data_dir.store / "store.db")) as connection:
            connection.execute("UPDATE jobs SET outputs = ? WHERE seq = 2", (codec.pack(["/a"]),))
            connection.commit()
        node = await lan.restart(node)
        [damaged] = await node.jobs(states="succeeded")
        shown = await node.describe(damaged["id"])
        reason = "malformed: 0 files came, of which 1 have a place"
        assert shown["value"] == f"<unreadable: {reason}>"
        with pytest.raises(Malformed, match="0 files came"):
            await (await node.job(damaged["id"])).result()
        assert await node.remove(damaged["id"])

    async def test_that_is_removed_makes_way_for_the_next_of_its_order(self, lan: Lan) -> None:
        node = await lan.node(name="old")
        ordered = node.options(order_by="x")
        first, second = [await ordered.submit("test/echo", n=n) for n in (1, 2)]
        node = await self._damaged(lan, node)
        await lan.clock.advance(2)
        assert await state(node, second.id) == "queued"
        assert await node.remove(first.id)
        await lan.clock.advance(2)
        assert await state(node, second.id) == "succeeded"

    async def test_can_be_removed(self, node: Node) -> None:
        [broken] = await ids(node, states="unreadable")
        assert await node.remove(broken)
        assert await node.count(states="unreadable") == 0
        assert (await node.status())["unreadable"] == 0
        assert await node.count() == 1
