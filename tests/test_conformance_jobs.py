"""
CONFORMANCE A as it is written: one instance, queue ``test``: unordered, retries 2, delay 2 s.

What other files show of a scenario is not repeated here; the numbers are those of the scenarios.
"""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from offload import App, Context, Node, Retry
from offload.errors import PayloadError
from offload.testing import Lan
from offload.work.jobs import State
from offload.work.manager import JobChanged

TEST = {"test": {"topics": ["test/**", "sling/**"], "retries": 2, "retry_delay": "2s"}}


class Seen:
    """A consumer of ``test/*`` that notes when it ran, blocks and fails as it is told."""

    def __init__(self, lan: Lan) -> None:
        self.app = App()
        self.at: list[float] = []
        self.retry_counts: list[int] = []
        self.fails = 0
        self.go: asyncio.Event | None = None

        @self.app.consumer("test/*", isolate="coroutine")
        async def run(ctx: Any = None, **_: Any) -> None:
            self.at.append(lan.clock.now())
            if self.go is not None:
                await self.go.wait()
            if self.fails:
                self.fails -= 1
                raise ValueError("as it was told")


@pytest.fixture
def seen(lan: Lan) -> Seen:
    return Seen(lan)


async def test_one_job_runs_within_5_seconds_and_not_again(lan: Lan, seen: Seen) -> None:
    """C001."""
    node = await lan.node(seen.app, queues=TEST)
    job = await node.submit("test/a")
    await lan.clock.advance(5)
    assert len(seen.at) == 1
    assert (await job.info())["state"] == "succeeded"
    await lan.clock.advance(5)
    assert len(seen.at) == 1


async def test_a_job_is_found_inside_its_consumer_and_while_it_waits(lan: Lan, seen: Seen) -> None:
    """C003."""
    node = await lan.node(seen.app, queues=TEST)
    seen.go, seen.fails = asyncio.Event(), 9
    job = await node.submit("test/a", id="x")
    asked = {"topic": "test/a", "where": {"id": "x"}}
    await lan.clock.advance(1)
    assert [found.id for found in await node.find(**asked)] == [job.id]
    assert (await job.info())["state"] == "active"
    seen.go.set()
    await lan.clock.advance(1)
    assert [found.id for found in await node.find(**asked)] == [job.id]
    assert ((await job.info())["state"], len(seen.at)) == ("queued", 1)
    assert await node.remove(job.id)
    assert await node.count(states="live", **asked) == 0
    [entry] = await node.jobs(states="history", **asked)
    assert entry["state"] == "dropped"
    assert await node.remove(job.id)
    assert await node.jobs() == []
    await lan.clock.advance(10)
    assert len(seen.at) == 1


async def test_a_job_that_always_fails_runs_three_times_two_seconds_apart(lan: Lan) -> None:
    """C004: retry counts 0, 1, 2; then none in 5 s; GIVEN_UP."""
    app, runs = App(), []

    @app.consumer("test/a", isolate="coroutine")
    async def fail(ctx: Context) -> None:
        runs.append((ctx.retry_count, lan.clock.now()))
        raise ValueError("never")

    node = await lan.node(app, queues=TEST)
    job = await node.submit("test/a")
    info = await lan.until(job.wait())
    await lan.clock.advance(5)
    assert [count for count, _ in runs] == [0, 1, 2]
    first, second, third = (at for _, at in runs)
    assert 2.0 <= second - first <= 2.5
    assert 2.0 <= third - second <= 2.5
    assert (info["state"], info["failures"]) == ("given_up", 3)
    assert (await job.info())["state"] == "given_up"


async def test_of_20_jobs_those_without_a_consumer_are_kept(lan: Lan, seen: Seen) -> None:
    """C005: the other 10 are visible as unassigned, and run once a consumer appears."""
    node = await lan.node(seen.app, queues=TEST)
    jobs = [await node.submit("test/with" if n % 2 else "other/without") for n in range(20)]
    await lan.clock.advance(5)
    assert len(seen.at) == 10
    states = [(await job.info())["state"] for job in jobs]
    assert states == ["queued", "succeeded"] * 10
    assert {(await job.info())["worker"] for job in jobs[::2]} == {""}
    assert "other/without" in (await node.explain(jobs[0].id))["sentence"]
    late = []

    @seen.app.consumer("other/without", isolate="coroutine")
    async def without() -> None:
        late.append(1)

    await lan.until(asyncio.gather(*(job.result() for job in jobs)), within_s=2)
    assert (len(late), len(seen.at)) == (10, 10)


async def test_a_topic_that_nobody_has_is_told_of_once(
    lan: Lan, caplog: pytest.LogCaptureFixture
) -> None:
    """C006: QUEUED, one INFO line, and ``explain`` says why; the job may have an expiry."""
    node = await lan.node(queues=TEST)
    with caplog.at_level(logging.INFO, "offload"):
        jobs = [await node.submit("test/nobody") for _ in range(3)]
        brief = await node.options(expires_in="30s").submit("test/nobody")
        await lan.clock.advance(60)
    said = [r for r in caplog.records if "no instance for topic test/nobody" in r.getMessage()]
    assert [record.levelno for record in said] == [logging.INFO]
    assert [(await job.info())["state"] for job in jobs] == ["queued"] * 3
    assert (await brief.info())["state"] == "expired"
    why = await node.explain(jobs[0].id)
    assert "nobody" in why["sentence"] or "no instance" in why["sentence"]
    assert why["candidates"]


async def test_patterns_and_an_exact_topic_take_turns_as_they_go(lan: Lan) -> None:
    """C008: the exact consumer wins, then ``/*``, then ``/**``: by what really runs."""
    app, ran = App(), []

    def named(name: str) -> Any:
        async def run() -> None:
            ran.append(name)

        return run

    one, deep, near, exact = (named(name) for name in ("one", "deep", "near", "exact"))
    app.consumer("sling/*")(one)
    node = await lan.node(app, queues=TEST)
    await lan.until(node.offload("sling/test"))
    app.consumer("sling/**")(deep)
    await lan.until(node.offload("sling/a/b"))
    app.consumer("sling/test/*")(near)
    app.consumer("sling/test/x")(exact)
    for last in (exact, near, deep):
        await lan.until(node.offload("sling/test/x"))
        app.remove(last)
    assert ran == ["one", "deep", "exact", "near", "deep"]


@dataclass
class Box:
    width: int
    name: str


class Frame(BaseModel):
    colour: str
    depth: float = 1.5


VALUES: dict[str, Any] = {
    "text": "ü",
    "whole": 2**70,
    "real": 0.1,
    "true": True,
    "nothing": None,
    "raw": b"\x00\xff",
    "many": [1, "a", [None, {"b": [2.5]}]],
    "map": {"a": {"b": {"c": b"d"}}},
    "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "uuid": UUID(int=7),
}


@pytest.mark.parametrize("away", [False, True], ids=["here", "at a peer"])
async def test_values_survive_store_wire_and_history(lan: Lan, away: bool) -> None:
    """C011: unchanged on their way in, out, and after a restart."""
    app, came = App(), []

    @app.consumer("test/values", isolate="coroutine")
    async def values(**arguments: Any) -> Any:
        came.append(arguments)
        return arguments

    node = await lan.node(None if away else app, queues=TEST)
    if away:
        await lan.node(app)
    await node.suspend_queue("test")
    job = await node.submit("test/values", **VALUES)
    node = await lan.restart(node)
    await node.resume_queue("test")
    job = await node.job(job.id)
    assert await lan.until(job.result()) == VALUES
    assert came == [VALUES]
    assert {name: type(value) for name, value in came[0].items()} == {
        name: type(value) for name, value in VALUES.items()
    }
    node = await lan.restart(node)
    assert await (await node.job(job.id)).result() == VALUES


async def test_paths_dataclasses_and_models_are_rebuilt_by_the_annotation(lan: Lan) -> None:
    """C011: they travel as text and maps."""
    app = App()

    @app.consumer("test/typed", isolate="coroutine")
    async def typed(where: Path, box: Box, frame: Frame) -> list[Any]:
        assert isinstance(where, Path)
        assert (type(box), type(frame)) == (Box, Frame)
        return [str(where), box.width, frame.depth]

    node = await lan.node(app, queues=TEST)
    arguments = {"where": Path("/a/b"), "box": Box(3, "x"), "frame": Frame(colour="red")}
    assert await lan.until(node.offload("test/typed", **arguments)) == ["/a/b", 3, 1.5]


async def test_a_value_that_cannot_travel_is_refused_by_its_path(lan: Lan) -> None:
    """C011: and nothing is stored."""
    node = await lan.node(queues=TEST)
    with pytest.raises(PayloadError, match=r"payload\.a\[3\]"):
        await node.submit("test/values", a=[1, 2, 3, object()])
    assert await node.count() == 0
    assert set((await node.status())["jobs"].values()) == {0}


class TestMaxParallelUnderTopologyChaos:
    """C014: members join and leave every 0.3 s, whatever runs; 6 of its 12 long jobs here."""

    async def chaos(self, lan: Lan, node: Node, jobs: list[Any], within_s: float) -> list[str]:
        ends = asyncio.gather(*(job.wait() for job in jobs))
        over_at, guests = lan.clock.now() + within_s, []
        while not ends.done():
            assert lan.clock.now() < over_at
            if len(guests) < 2:
                guests.append(await lan.node(queues=ORDERED))
            else:
                await lan.crash(guests.pop(0))
            await lan.clock.advance(0.3)
        return [end["state"] for end in ends.result()]

    @pytest.mark.parametrize(("count", "takes_s"), [(6, 1.7), (50, 0.12)])
    async def test_an_ordered_queue_never_runs_two(
        self, lan: Lan, count: int, takes_s: float
    ) -> None:
        app, order = App(), []
        now = most = 0

        @app.consumer("ot/*", isolate="coroutine")
        async def one(number: int) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            order.append(number)
            await lan.clock.sleep(takes_s)
            now -= 1

        node = await lan.node(app, queues=ORDERED)
        jobs = [await node.submit(f"ot/{n % 3}", number=n) for n in range(count)]
        states = await self.chaos(lan, node, jobs, within_s=4 * count * takes_s + 30)
        assert states == ["succeeded"] * count
        assert (order, most) == (list(range(count)), 1)


ORDERED = {"ot": {"topics": ["ot/*"], "type": "ordered"}}


class TestTheRetryDelay:
    """C038: the consumer's own answer wins over the job's, and that over the queue's."""

    @pytest.mark.parametrize(
        ("consumers", "jobs", "waited_s"),
        [(None, None, 2.0), (None, "7s", 7.0), ("4s", "7s", 4.0), ("0s", "7s", 0.0)],
    )
    async def test_is_the_nearest_ones(
        self, lan: Lan, consumers: str | None, jobs: str | None, waited_s: float
    ) -> None:
        app, runs = App(), []

        @app.consumer("test/again", isolate="coroutine")
        async def again() -> None:
            runs.append(lan.clock.now())
            if len(runs) == 1:
                raise Retry("busy", after=consumers)

        node = await lan.node(app, queues=TEST)
        job = await node.options(retry_delay=jobs).submit("test/again")
        await lan.until(job.result())
        assert waited_s <= runs[1] - runs[0] <= waited_s + 0.5

    async def test_of_the_job_holds_for_its_retry_too(self, lan: Lan) -> None:
        """C042 with C038: a new job of a finished one has its wishes."""
        app, runs = App(), []

        @app.consumer("test/again", isolate="coroutine")
        async def again() -> None:
            runs.append(lan.clock.now())
            raise Retry("busy")

        node = await lan.node(app, queues=TEST)
        first = await node.options(retry_delay="7s", retries=1).submit("test/again")
        assert (await lan.until(first.wait()))["state"] == "given_up"
        again_job = await node.retry(first.id)
        assert (await lan.until(again_job.wait()))["state"] == "given_up"
        assert [round(b - a) for a, b in zip(runs[::2], runs[1::2], strict=True)] == [7, 7]


async def test_each_job_has_one_end_and_it_is_told_once(lan: Lan, seen: Seen) -> None:
    """C002, C041: of a mixed batch; the history lists it newest first."""
    node = await lan.node(seen.app, queues=TEST)
    ends: Counter[str] = Counter()
    node.bus.listen(JobChanged, lambda fact: ends.update([fact.job.id] * fact.job.finished))
    seen.fails = 20
    jobs = [await node.submit("test/a", n=n) for n in range(40)]
    dropped = await node.submit("other/nobody")
    await node.remove(dropped.id)
    await lan.until(asyncio.gather(*(job.wait() for job in jobs)))
    assert set(ends.values()) == {1}
    assert set(ends) == {job.id for job in (*jobs, dropped)}
    history = await node.jobs(states="history", limit=100)
    assert [job["id"] for job in history] == [job.id for job in reversed([*jobs, dropped])]
    assert {State(job["state"]) for job in history} == {State.SUCCEEDED, State.DROPPED}
