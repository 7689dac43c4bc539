"""One live job per key, and jobs that run one after the other (issue: uniqueness and order)."""

import asyncio
from typing import Any

import pytest

from offload import App, Job, Node
from offload.errors import Conflict, KeyTaken, UsageError
from offload.testing import Lan


class Worker:
    """A consumer whose jobs end when the test lets them."""

    def __init__(self) -> None:
        self.app = App()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.fails: set[str] = set()
        self.together = 0

        @self.app.consumer("**", isolate="coroutine")
        async def run(name: str) -> str:
            self.begun.append(name)
            self.together = max(self.together, len(self.begun) - len(self.ended))
            try:
                if name in self.gates:
                    await self.gates[name].wait()
                if name in self.fails:
                    self.fails.remove(name)
                    raise ValueError("once")
                return name
            finally:
                self.ended.append(name)


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def state(job: Job) -> str:
    text: str = (await job.info())["state"]
    return text


async def results(lan: Lan, jobs: list[Job]) -> list[Any]:
    return list(await lan.until(asyncio.gather(*(job.result() for job in jobs))))


class TestAKeyThatIsTakenByALiveJob:
    @pytest.fixture
    async def node(self, lan: Lan) -> Node:
        """Has a job of key ``k`` that waits, since nobody runs it."""
        node = await lan.node()
        self.first = await node.options(key="k").submit("a", name="first")
        return node

    async def test_finds_the_existing_one_whatever_its_content(self, node: Node) -> None:
        found = await node.options(key="k", if_key="existing").submit("b", name="other")
        assert found.id == self.first.id
        assert (await node.status())["jobs"]["queued"] == 1

    async def test_refuses_a_second_one(self, node: Node) -> None:
        with pytest.raises(KeyTaken, match=f"job {self.first.id}, which has not ended"):
            await node.options(key="k", if_key="refuse").submit("a", name="first")

    async def test_has_it_replaced(self, node: Node) -> None:
        second = await node.options(key="k", if_key="replace").submit("a", name="second")
        first = await self.first.info()
        assert first["state"] == "stopped"
        assert second.id in first["reason"]
        assert await state(second) == "queued"

    async def test_without_a_wish_means_the_same_job_or_a_conflict(self, node: Node) -> None:
        same = await node.options(key="k").submit("a", name="first")
        assert same.id == self.first.id
        with pytest.raises(Conflict, match="other content"):
            await node.options(key="k").submit("a", name="second")

    async def test_gives_one_job_to_many_who_ask_at_once(self, node: Node) -> None:
        submits = [
            node.options(key="new", if_key="existing").submit("a", name=str(n)) for n in range(50)
        ]
        assert len({job.id for job in await asyncio.gather(*submits)}) == 1

    async def test_leaves_one_of_many_that_replace_each_other(self, node: Node) -> None:
        wishes = node.options(key="k", if_key="replace")
        jobs = await asyncio.gather(*(wishes.submit("a", name=str(n)) for n in range(20)))
        states = [await state(job) for job in jobs]
        assert sorted(states) == ["queued", *["stopped"] * 19]


class TestAKeyWhoseJobHasEnded:
    @pytest.mark.parametrize("if_key", ["existing", "replace", "refuse"])
    async def test_is_free_again(self, lan: Lan, worker: Worker, if_key: str) -> None:
        node = await lan.node(worker.app)
        wishes = node.options(key="k", if_key=if_key)
        first = await wishes.submit("a", name="first")
        assert await lan.until(first.result()) == "first"
        second = await wishes.submit("a", name="second")
        assert await lan.until(second.result()) == "second"
        assert await state(first) == "succeeded"


class TestAJobThatIsReplacedWhileItRuns:
    @pytest.mark.parametrize("away", [False, True], ids=["here", "at a peer"])
    async def test_is_stopped(self, lan: Lan, worker: Worker, away: bool) -> None:
        node = await lan.node(None if away else worker.app)
        if away:
            await lan.node(worker.app)
        worker.gates["first"] = asyncio.Event()
        first = await node.options(key="k").submit("a", name="first")
        await lan.clock.advance(2)
        assert worker.begun == ["first"]
        second = await node.options(key="k", if_key="replace").submit("a", name="second")
        assert await lan.until(second.result()) == "second"
        assert (await lan.until(first.wait()))["state"] == "stopped"
        assert worker.ended[0] == "first"


async def test_a_way_to_treat_keys_needs_a_key(lan: Lan) -> None:
    node = await lan.node()
    with pytest.raises(UsageError, match="if_key: needs a key"):
        await node.options(if_key="replace").submit("a")
    with pytest.raises(UsageError, match="if_key: must be one of"):
        await node.options(key="k", if_key="maybe").submit("a")


class TestJobsWithTheSameOrder:
    async def test_run_one_after_the_other_and_others_beside_them(
        self, lan: Lan, worker: Worker
    ) -> None:
        node = await lan.node(worker.app)
        for who in "ab":
            worker.gates[f"{who}0"] = asyncio.Event()
        jobs = [
            await node.options(order_by=who).submit(f"t/{n}", name=f"{who}{n}")
            for n in range(3)
            for who in "ab"
        ]
        jobs.append(await node.submit("t/0", name="free"))
        await lan.clock.advance(1)
        assert sorted(worker.begun) == ["a0", "b0", "free"]
        worker.gates["b0"].set()
        await lan.clock.advance(1)
        assert worker.begun[3:] == ["b1", "b2"]
        worker.gates["a0"].set()
        await results(lan, jobs)
        assert [name for name in worker.begun if name[0] == "a"] == ["a0", "a1", "a2"]

    async def test_wait_for_a_retry_of_the_one_before(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        worker.fails = {"0"}
        wishes = node.options(order_by="ada")
        jobs = [await wishes.submit("t", name=str(n)) for n in range(3)]
        await results(lan, jobs)
        assert worker.begun == ["0", "0", "1", "2"]

    @pytest.mark.usefixtures("endable")
    async def test_are_never_two_at_once_wherever_they_run(self, lan: Lan) -> None:
        """They imply exclusive delivery (DESIGN §5)."""
        node = await lan.node()
        workers = [Worker() for _ in range(3)]
        nodes = [await lan.node(worker.app) for worker in workers]
        wishes = node.options(order_by="ada")
        jobs = [await wishes.submit("t", name=str(n)) for n in range(12)]
        await lan.crash(nodes[0])
        await results(lan, jobs)
        begun = sorted(name for worker in workers[1:] for name in worker.begun)
        assert set(begun) >= {str(n) for n in range(1, 12)}
        assert max(worker.together for worker in workers) == 1

    async def test_do_not_hide_the_others_behind_them(self, lan: Lan, worker: Worker) -> None:
        """C020: a thousand that wait for one are no obstacle for the next."""
        node = await lan.node(worker.app, queues={"main": {"max_parallel": 2}})
        await node.suspend_queue("main")
        wishes = node.options(order_by="ada")
        await asyncio.gather(*(wishes.submit("t", name="ada") for n in range(1_000)))
        job = await node.options(order_by="bob").submit("t", name="bob")
        await node.resume_queue("main")
        await lan.until(job.result())
        assert "bob" in worker.begun[:2]

    async def test_keep_their_order_over_a_restart(self, lan: Lan, worker: Worker) -> None:
        node = await lan.node(worker.app)
        worker.gates["0"] = asyncio.Event()
        wishes = node.options(order_by="ada")
        jobs = [await wishes.submit("t", name=str(n)) for n in range(4)]
        await lan.clock.advance(1)
        node = await lan.restart(node)
        worker.gates["0"].set()
        await results(lan, [await node.job(job.id) for job in jobs])
        assert worker.begun == ["0", "0", "1", "2", "3"]

    async def test_go_on_when_the_first_is_stopped_requeued_and_removed(
        self, lan: Lan, worker: Worker
    ) -> None:
        node = await lan.node(worker.app)
        worker.gates["0"] = asyncio.Event()
        wishes = node.options(order_by="ada")
        jobs = [await wishes.submit("t", name=str(n)) for n in range(3)]
        await lan.clock.advance(1)
        assert await jobs[0].stop()
        await results(lan, jobs[1:])
        assert (await lan.until(jobs[0].wait()))["state"] == "stopped"
        assert worker.begun == ["0", "1", "2"]
