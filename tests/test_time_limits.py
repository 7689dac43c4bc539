"""Jobs that must start or end by a time, and jobs that wait for one (DESIGN §2)."""

import asyncio
import threading
from contextlib import suppress
from datetime import UTC, datetime
from functools import partialmethod
from typing import Any

import pytest

from offload import App, Context, Node
from offload.errors import UsageError
from offload.job import Options
from offload.payload import encode
from offload.testing import Lan
from offload.work.executors import Executors
from offload.work.jobs import Delivery


class Worker:
    """A consumer that ends when the test says so."""

    def __init__(self) -> None:
        self.app = App()
        self.runs = 0
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

        @self.app.consumer("a")
        async def a() -> int:
            self.runs += 1
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return self.runs


class Deaf:
    """Consumers that could ask whether to stop, and do not, until the test has enough of them."""

    def __init__(self) -> None:
        self.app = App()
        self.begun, self.enough = threading.Event(), threading.Event()

        @self.app.consumer("deaf/coroutine")
        async def coroutine(context: Context) -> None:
            self.begun.set()
            while not self.enough.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)

        @self.app.consumer("deaf/thread", isolate="thread")
        def thread(context: Context) -> None:
            self.begun.set()
            self.enough.wait(60)


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def state(job: Any) -> str:
    text: str = (await job.info())["state"]
    return text


class TestAJobThatMustStartInTime:
    """C021+: ``expires_in``: not started by then, it is EXPIRED."""

    async def test_expires_where_nobody_takes_it(self, lan: Lan) -> None:
        node = await lan.node()
        job = await node.options(expires_in="10s").submit("a")
        await lan.clock.advance(9)
        assert await state(job) == "queued"
        await lan.clock.advance(1.5)
        info = await job.info()
        assert (info["state"], info["reason"]) == ("expired", "not started in time")

    async def test_is_let_be_once_it_has_started(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        await lan.clock.advance(1)
        job = await node.options(expires_in=10).submit("a")
        await lan.clock.advance(30)
        worker.go.set()
        assert await lan.until(job.result()) == 1

    async def test_never_starts_late_when_a_place_gets_free(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 1}})
        first = await node.submit("a")
        second = await node.options(expires_in="5s").submit("a")
        await lan.clock.advance(20)
        worker.go.set()
        await lan.until(first.result())
        await lan.clock.advance(1)
        assert await state(second) == "expired"
        assert worker.runs == 1

    async def test_expires_although_its_worker_took_it_and_fell_silent(
        self, lan: Lan, worker: Worker
    ) -> None:
        node, peer = await lan.node(), await lan.node(worker.app)
        lan.hold("taken", "holding")
        lan.hold("offer")
        job = await node.options(expires_in="5s").submit("a")
        await lan.clock.advance(7)
        lan.cut(node, peer)
        lan.heal()
        await lan.clock.advance(2)
        assert await state(job) == "expired"
        assert worker.runs == 0

    async def test_expires_on_time_while_the_instance_is_down(self, lan: Lan) -> None:
        node = await lan.node()
        job = await node.options(expires_in="1m").submit("a")
        await lan.crash(node)
        await lan.clock.advance(120)
        node = await lan.restart(node)
        await lan.clock.advance(1)
        assert (await node.describe(job.id))["state"] == "expired"


class TestAJobWithADeadline:
    """C021+: ``deadline_in``: not finished by then, it is stopped and EXPIRED."""

    async def test_is_stopped_where_it_runs(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        job = await node.options(deadline_in="10s").submit("a")
        await lan.clock.advance(9)
        assert await state(job) == "active"
        await lan.clock.advance(2)
        end = await lan.until(job.wait())
        assert (end["state"], end["reason"]) == ("expired", "not finished by its deadline")
        assert worker.cancelled.is_set()

    async def test_is_stopped_at_a_peer(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node()
        await lan.node(worker.app)
        job = await node.options(deadline_in="10s").submit("a")
        await lan.clock.advance(11)
        end = await lan.until(job.wait())
        assert end["state"] == "expired"
        assert worker.cancelled.is_set()
        worker.go.set()
        await lan.clock.advance(60)
        assert await state(job) == "expired"

    @pytest.mark.parametrize("at_a_peer", [False, True])
    @pytest.mark.parametrize("isolate", ["coroutine", "thread"])
    async def test_is_over_though_its_consumer_takes_no_notice(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch, isolate: str, at_a_peer: bool
    ) -> None:
        """The grace of one that is stopped does not come on top of its deadline."""
        patient = partialmethod(Executors.__init__, grace_s=3600.0)
        monkeypatch.setattr(Executors, "__init__", patient)
        deaf = Deaf()
        patience = {"lease": "1h"}
        node = await lan.node(None if at_a_peer else deaf.app, timing=patience)
        if at_a_peer:
            await lan.node(deaf.app, timing=patience)
        job = await node.options(deadline_in="10s").submit(f"deaf/{isolate}")
        try:
            await lan.until(asyncio.to_thread(deaf.begun.wait))
            await lan.clock.advance(11)
            end = await lan.until(job.wait(), within_s=600)
        finally:
            deaf.enough.set()
        assert (end["state"], end["reason"]) == ("expired", "not finished by its deadline")

    async def test_expires_while_it_waits_for_a_retry(self, lan: Lan) -> None:
        app = App()

        @app.consumer("a")
        async def a() -> None:
            raise ValueError("no")

        node = await lan.node(app, queues={"main": {"retry_delay": "1h"}})
        job = await node.options(deadline_in="10s").submit("a")
        await lan.clock.advance(11)
        assert await state(job) == "expired"

    async def test_is_done_if_it_ends_in_time(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        worker.go.set()
        job = await node.options(deadline_in="10s").submit("a")
        assert await lan.until(job.result()) == 1
        await lan.clock.advance(20)
        assert await state(job) == "succeeded"

    async def test_that_a_person_stops_is_stopped(self, lan: Lan) -> None:
        node = await lan.node()
        job = await node.options(deadline_in="10s").submit("a")
        assert await job.stop()
        await lan.clock.advance(20)
        assert await state(job) == "stopped"


class TestADelayedStart:
    async def test_in_steady_time_ignores_the_wall_clock(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        worker.go.set()
        await node.options(run_after="1h").submit("a")
        lan.clock.set_wall(lan.clock.wall() + 86_400)
        await lan.clock.advance(3_590)
        assert worker.runs == 0
        await lan.clock.advance(15)
        assert worker.runs == 1

    async def test_at_a_moment_follows_the_wall_clock(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        worker.go.set()
        at = datetime.fromtimestamp(lan.clock.wall() + 86_400, UTC)
        job = await node.options(run_at=at).submit("a")
        await lan.clock.advance(60)
        lan.clock.set_wall(at.timestamp() - 30)
        await lan.clock.advance(20)
        assert (worker.runs, await state(job)) == (0, "queued")
        await lan.clock.advance(15)
        assert worker.runs == 1

    async def test_waits_longer_if_the_wall_clock_is_put_back(
        self, lan: Lan, worker: Worker
    ) -> None:
        node = await lan.node(worker.app)
        worker.go.set()
        await node.options(run_at=lan.clock.wall() + 60).submit("a")
        await lan.clock.advance(30)
        lan.clock.set_wall(lan.clock.wall() - 3_600)
        await lan.clock.advance(3_600)
        assert worker.runs == 0
        await lan.clock.advance(35)
        assert worker.runs == 1

    async def test_at_a_moment_that_has_passed_is_now(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        worker.go.set()
        assert await lan.until(node.options(run_at="2001-01-01T00:00:00").offload("a")) == 1

    async def test_survives_a_restart(self, lan: Lan, worker: Worker) -> None:
        """C038: what waits is in the store, and so is its time."""
        node = await lan.node(worker.app)
        worker.go.set()
        await node.options(run_after="10m").submit("a")
        await lan.clock.advance(300)
        await lan.restart(node)
        await lan.clock.advance(295)
        assert worker.runs == 0
        await lan.clock.advance(10)
        assert worker.runs == 1


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"expires_in": "soon"}, "expires_in: 'soon' is no duration"),
        ({"expires_in": 0}, "expires_in: must be above 0"),
        ({"deadline_in": "5s", "run_after": "10s"}, "deadline_in: is over before"),
        ({"run_at": "tomorrow"}, "run_at: 'tomorrow' is no moment"),
        ({"run_at": 5e9, "run_after": 1}, "run_at: give this or run_after"),
        ({"dead_line": 5}, "options.dead_line: unknown"),
    ],
)
async def test_a_wrong_wish_is_refused_by_its_name(
    lan: Lan, wishes: dict[str, Any], words: str
) -> None:
    node = await lan.node()
    with pytest.raises(UsageError, match=words):
        await node.options(**wishes).submit("a")


async def test_a_thousand_limits_cost_one_look(lan: Lan) -> None:
    node: Node = await lan.node()
    options = Options(expires_in_s=5.0, delivery=Delivery.AT_LEAST_ONCE)
    await asyncio.gather(
        *(node.submit_encoded(f"t/{n % 10}", encode({}), options) for n in range(1_000))
    )
    await lan.clock.advance(6)
    assert (await node.status())["jobs"]["expired"] == 1_000


async def test_a_description_tells_the_limits(lan: Lan) -> None:
    node = await lan.node()
    job = await node.options(deadline_in=60, run_after=5, order_by="x").submit("a")
    info = await job.info()
    created = datetime.fromisoformat(info["created"])
    assert (datetime.fromisoformat(info["deadline"]) - created).total_seconds() == 60
    assert (datetime.fromisoformat(info["not_before"]) - created).total_seconds() == 5
    assert (info["expires"], info["order_by"], info["delivery"]) == (None, "x", "exclusive")
