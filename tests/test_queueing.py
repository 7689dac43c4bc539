"""Queues: their types, what people may do with them, over several instances and restarts."""

import asyncio
from collections import Counter
from typing import Any, ClassVar

import pytest

from offload import App, Context, Job, Node
from offload.errors import JobFailed, UsageError
from offload.testing import Lan


class Stage:
    """Consumers whose jobs run until they are let go, and what was seen of them."""

    def __init__(self) -> None:
        self.app = App()
        self.order: list[Any] = []
        self.runs: Counter[Any] = Counter()
        self.now = self.most = 0
        self.gate: asyncio.Event | None = None
        self.fails: dict[Any, int] = {}
        self.takes_s = 0.0

        @self.app.consumer("**", isolate="coroutine")
        async def any_topic(number: int, context: Context) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(number)
            self.runs[number] += 1
            try:
                await asyncio.sleep(self.takes_s)
                if self.gate is not None:
                    await self.gate.wait()
                if self.fails.get(number, 0) >= self.runs[number]:
                    raise ValueError("not yet")
                return number
            finally:
                self.now -= 1


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def queue(node: Node, name: str) -> dict[str, Any]:
    return next(q for q in await node.queues() if q["name"] == name)


async def all_done(lan: Lan, jobs: list[Any], within_s: float = 120.0) -> list[str]:
    ends = await lan.until(asyncio.gather(*(job.wait() for job in jobs)), within_s)
    return [end["state"] for end in ends]


ORDERED = {"ot": {"topics": ["ot/*"], "type": "ordered", "retries": 2}}


class TestAnOrderedQueue:
    async def test_runs_one_after_the_other_as_they_were_added(
        self, lan: Lan, stage: Stage
    ) -> None:
        """C007: a failing job is retried before the next starts."""
        node = await lan.node(stage.app, queues=ORDERED)
        await node.suspend_queue("ot")
        stage.fails = {n: 1 for n in range(30) if n % 10 == 1}
        jobs = [await node.submit(f"ot/sub{n % 10}", number=n) for n in range(30)]
        await lan.clock.advance(5)
        assert stage.order == []
        assert (await queue(node, "ot"))["depth"] == 30
        await node.resume_queue("ot")
        assert await all_done(lan, jobs) == ["succeeded"] * 30
        assert stage.order == sorted([*range(30), 1, 11, 21])
        assert stage.most == 1
        assert sum([(await job.info())["failures"] for job in jobs]) == 3

    async def test_is_not_held_up_by_a_job_that_is_removed_or_given_up(
        self, lan: Lan, stage: Stage
    ) -> None:
        node = await lan.node(stage.app, queues=ORDERED)
        await node.suspend_queue("ot")
        stage.fails = {1: 9}
        jobs = [await node.submit("ot/a", number=n) for n in range(4)]
        assert await node.remove(jobs[0].id)
        await node.resume_queue("ot")
        states = await all_done(lan, jobs)
        assert states == ["dropped", "given_up", "succeeded", "succeeded"]
        assert stage.order == [1, 1, 1, 2, 3]

    async def test_goes_on_in_order_after_a_restart(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node(stage.app, queues=ORDERED)
        stage.gate = asyncio.Event()
        jobs = [await node.submit("ot/a", number=n) for n in range(5)]
        await lan.clock.advance(1)
        node = await lan.restart(node)
        stage.gate.set()
        jobs = [await node.job(job.id) for job in jobs]
        assert await all_done(lan, jobs) == ["succeeded"] * 5
        assert stage.order == [0, 0, 1, 2, 3, 4]

    @pytest.mark.usefixtures("endable")
    async def test_has_one_target_and_goes_on_when_that_dies(self, lan: Lan) -> None:
        """C074, and C014: never two at once, wherever they run."""
        stages = Stage(), Stage()
        origin = await lan.node(queues=ORDERED)
        workers = [await lan.node(stage.app, queues=ORDERED) for stage in stages]
        for stage in stages:
            stage.gate = asyncio.Event()
        jobs = [await origin.submit(f"ot/sub{n}", number=n) for n in range(6)]
        await lan.clock.advance(2)
        [busy] = [n for n, stage in enumerate(stages) if stage.order]
        await lan.crash(workers[busy])
        for stage in stages:
            assert stage.gate is not None
            stage.gate.set()
        assert await all_done(lan, jobs) == ["succeeded"] * 6
        assert stages[busy].order == [0]
        assert stages[1 - busy].order == [0, 1, 2, 3, 4, 5]
        assert stages[1 - busy].most == 1

    @pytest.mark.usefixtures("endable")
    async def test_keeps_its_target_while_others_are_free(self, lan: Lan) -> None:
        stages = Stage(), Stage(), Stage()
        origin = await lan.node(queues=ORDERED)
        for stage in stages:
            await lan.node(stage.app, queues=ORDERED)
        jobs = [await origin.submit(f"ot/sub{n % 3}", number=n) for n in range(12)]
        await all_done(lan, jobs)
        assert sorted(stage.order for stage in stages) == [[], [], list(range(12))]


class TestATopicRoundRobinQueue:
    RULES: ClassVar = {"rr": {"topics": ["rr/*"], "type": "topic-round-robin", "max_parallel": 1}}

    async def test_takes_one_of_each_topic_in_turn(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node(stage.app, queues=self.RULES)
        await node.suspend_queue("rr")
        jobs = [
            await node.submit(f"rr/{t}", number=10 * t + n) for t in (1, 2, 3) for n in range(3)
        ]
        await node.resume_queue("rr")
        await all_done(lan, jobs)
        assert stage.order == [10, 20, 30, 11, 21, 31, 12, 22, 32]

    async def test_never_runs_more_than_it_may(self, lan: Lan, stage: Stage) -> None:
        """C014: round robin with max parallel 3, while others come and go."""
        rules = {"rr": {**self.RULES["rr"], "max_parallel": 3}}
        stage.takes_s = 0.01
        node = await lan.node(stage.app, queues=rules)
        jobs = [await node.submit(f"rr/{n % 5}", number=n) for n in range(40)]
        for _ in range(3):
            guest = await lan.node()
            await lan.clock.advance(0.3)
            await lan.crash(guest)
        assert await all_done(lan, jobs) == ["succeeded"] * 40
        assert stage.most == 3


class TestASuspendedQueue:
    async def test_stays_so_over_a_restart(self, lan: Lan, stage: Stage) -> None:
        """C018."""
        node = await lan.node(stage.app)
        await node.suspend_queue("main")
        job = await node.submit("a", number=1)
        node = await lan.restart(node)
        await lan.clock.advance(3_600)
        assert (await queue(node, "main"))["state"] == "suspended"
        assert stage.order == []
        assert "suspended" in (await node.explain(job.id))["sentence"]
        await node.resume_queue("main")
        assert await lan.until((await node.job(job.id)).result()) == 1
        assert (await queue(node, "main"))["state"] == "open"

    async def test_lets_what_runs_finish(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node(stage.app)
        stage.gate = asyncio.Event()
        job = await node.submit("a", number=1)
        await lan.clock.advance(1)
        await node.suspend_queue("main")
        stage.gate.set()
        assert await lan.until(job.result()) == 1

    async def test_of_a_worker_takes_no_jobs_and_hands_back_what_waits(
        self, lan: Lan, stage: Stage
    ) -> None:
        """C018: the origin's job goes elsewhere."""
        rules = {"main": {"max_parallel": 1}}
        origin, worker = await lan.node(), await lan.node(stage.app, queues=rules)
        await worker.suspend_queue("main")
        await lan.clock.advance(2)
        job = await origin.submit("a", number=1)
        await lan.clock.advance(5)
        assert (await job.info())["state"] == "queued"
        other = Stage()
        await lan.node(other.app)
        assert await lan.until(job.result()) == 1
        assert (stage.order, other.order) == ([], [1])

    async def test_starts_nothing_that_was_just_to_be_sent_off(
        self, lan: Lan, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C018: it was suspended while a place was found for the job."""
        node = await lan.node(stage.app)
        ahead = node._house.distributor._matching._ahead
        specs_of = ahead.specs

        async def suspended_meanwhile(jobs: Any) -> Any:
            monkeypatch.undo()  # once: it is looked for a place again whenever a queue moves
            await node.suspend_queue("main")
            return await specs_of(jobs)

        monkeypatch.setattr(ahead, "specs", suspended_meanwhile)
        job = await node.options(key="a place is looked for").submit("a", number=1)
        await lan.clock.advance(5)
        assert ((await job.info())["state"], (await job.info())["attempt"]) == ("queued", 0)
        await node.resume_queue("main")
        assert await lan.until(job.result()) == 1

    async def test_starts_nothing_that_was_just_being_stored(
        self, lan: Lan, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C018: it had its place when it was added, and was to begin once it is on disk."""
        node = await lan.node(stage.app)
        store = node._house.store
        insert = store.insert

        async def suspended_meanwhile(*args: Any) -> Any:
            await node.suspend_queue("main")
            return await insert(*args)

        monkeypatch.setattr(store, "insert", suspended_meanwhile)
        job = await node.submit("a", number=1)
        await lan.clock.advance(5)
        assert ((await job.info())["state"], stage.order) == ("queued", [])
        await node.resume_queue("main")
        assert await lan.until(job.result()) == 1

    async def test_does_not_hold_up_other_queues(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node(stage.app, queues=ORDERED)
        await node.suspend_queue("ot")
        await node.submit("ot/a", number=1)
        assert await lan.until(node.offload("b", number=2)) == 2

    async def test_of_a_name_that_is_none_is_refused(self, lan: Lan) -> None:
        node = await lan.node(queues={"photo-{0}": {"topics": ["photo/*"]}})
        await node.suspend_queue("photo-large")
        for name in ("fast", "photo-", ""):
            with pytest.raises(UsageError, match="known are"):
                await node.suspend_queue(name)
        with pytest.raises(UsageError, match=r"stands for several queues; .* photo-NAME"):
            await node.suspend_queue("photo-{0}")


async def test_the_priority_of_a_queue_is_that_of_jobs_that_wish_none(lan: Lan) -> None:
    node = await lan.node(queues={"urgent": {"topics": ["urgent/*"], "priority": 5}})
    for wishes in ({}, {"priority": 0}, {"priority": -1}):
        await node.options(**wishes).submit("urgent/nobody")
    assert [job["priority"] for job in reversed(await node.jobs())] == [5, 0, -1]


async def test_a_flood_of_jobs_holds_up_neither_the_first_nor_the_last(
    lan: Lan, stage: Stage
) -> None:
    """C020+, 1 000 of its 10 000: the first starts at once, all get done, no more run than may."""
    node = await lan.node(stage.app, queues={"main": {"max_parallel": 5}})
    stage.gate = asyncio.Event()
    jobs = await asyncio.gather(*(node.submit("a", number=n) for n in range(500)))
    await lan.settle()
    assert stage.order == [0, 1, 2, 3, 4]
    stage.gate.set()
    jobs += await asyncio.gather(*(node.submit("a", number=n) for n in range(500, 1_000)))
    assert await all_done(lan, jobs) == ["succeeded"] * 1_000
    assert stage.most == 5
    assert stage.order == list(range(1_000))


class TestAJobThatIsStoppedInLine:
    """What was read ahead of it is forgotten: it takes nobody's place, and may come back."""

    @pytest.fixture(params=["unordered", "topic-round-robin"])
    async def node(self, lan: Lan, stage: Stage, request: pytest.FixtureRequest) -> Node:
        rules = {"main": {"type": request.param, "max_parallel": 1}}
        return await lan.node(stage.app, queues=rules)

    @pytest.fixture
    async def jobs(self, lan: Lan, stage: Stage, node: Node) -> list[Job]:
        """The first of three topics runs, the others wait; all were seen at once."""
        await node.suspend_queue("main")
        jobs = [await node.submit(topic, number=n) for n, topic in enumerate("abc")]
        stage.gate = asyncio.Event()
        await node.resume_queue("main")
        await lan.clock.advance(10)
        assert stage.order == [0]
        return jobs

    async def test_holds_up_nobody(self, lan: Lan, stage: Stage, jobs: list[Job]) -> None:
        assert await jobs[1].stop()
        assert stage.gate is not None
        stage.gate.set()
        await lan.until(jobs[0].result())
        assert await lan.until(jobs[2].result(), within_s=0.5) == 2
        assert stage.order == [0, 2]

    async def test_starts_when_it_goes_again(
        self, lan: Lan, stage: Stage, node: Node, jobs: list[Job]
    ) -> None:
        assert await jobs[1].stop()
        await node.requeue(jobs[1].id)
        assert stage.gate is not None
        stage.gate.set()
        await lan.until(asyncio.gather(*(job.result() for job in jobs)), within_s=1)
        assert sorted(stage.order) == [0, 1, 2]


class TestAClearedQueue:
    async def test_drops_what_waits_and_nothing_else(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node(stage.app, queues={**ORDERED, "main": {"max_parallel": 1}})
        stage.gate = asyncio.Event()
        running = await node.submit("a", number=0)
        await lan.clock.advance(1)
        waiting = [await node.submit(f"b/{n % 3}", number=n) for n in range(20)]
        await node.suspend_queue("ot")
        other = await node.submit("ot/a", number=99)
        assert await node.clear_queue("main") == 20
        assert await all_done(lan, waiting) == ["dropped"] * 20
        assert (await other.info())["state"] == "queued"
        stage.gate.set()
        assert await lan.until(running.result()) == 0


class TestAnInstanceThatProcessesNothing:
    async def test_runs_all_when_it_is_enabled_again(self, lan: Lan, stage: Stage) -> None:
        """C015."""
        node = await lan.node(stage.app)
        await node.set_processing(enabled=False)
        jobs = [await node.submit("a", number=n) for n in range(10)]
        await lan.clock.advance(60)
        assert stage.order == []
        assert (await queue(node, "main"))["state"] == "disabled"
        node = await lan.restart(node)
        await lan.clock.advance(60)
        assert stage.order == []
        await node.set_processing(enabled=True)
        jobs = [await node.job(job.id) for job in jobs]
        assert await all_done(lan, jobs) == ["succeeded"] * 10

    async def test_says_so_to_whoever_looks(self, lan: Lan, stage: Stage) -> None:
        node, peer = await lan.node(stage.app), await lan.node()
        await node.set_processing(enabled=False)
        status = await node.status()
        assert (status["processing"], status["closed"]) == (False, "processing is disabled")
        await lan.clock.advance(2.0)
        [seen] = (await peer.status())["peers"]
        assert seen["closed"] == "processing is disabled"

    async def test_loses_and_doubles_nothing_while_it_is_toggled(
        self, lan: Lan, stage: Stage
    ) -> None:
        """C015+: toggling three times while they run leaks no slot."""
        stage.takes_s = 0.01
        node = await lan.node(stage.app, queues={"main": {"max_parallel": 2}})
        jobs = [await node.submit("a", number=n) for n in range(30)]
        for _ in range(3):
            await node.set_processing(enabled=False)
            await asyncio.sleep(0.02)
            await node.set_processing(enabled=True)
            await asyncio.sleep(0.02)
        assert await all_done(lan, jobs) == ["succeeded"] * 30
        assert set(stage.runs.values()) == {1}
        assert (await node.status())["queues"]["main"]["running"] == 0


class TestWhatIsToldOfQueues:
    async def test_names_depth_running_and_the_oldest(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node(stage.app, queues={**ORDERED, "main": {"max_parallel": 2}})
        stage.gate = asyncio.Event()
        jobs = [await node.submit("a", number=n) for n in range(5)]
        for n in range(4):
            await node.submit("ot/a", number=n)
        await lan.clock.advance(1)
        main, ordered = await queue(node, "main"), await queue(node, "ot")
        assert (main["depth"], main["running"], main["max_parallel"]) == (3, 2, 2)
        assert main["oldest_job"] == jobs[2].id
        assert (ordered["type"], ordered["depth"], ordered["running"]) == ("ordered", 3, 1)
        stage.gate.set()
        await all_done(lan, jobs)
        assert (await queue(node, "main"))["oldest"] is None

    async def test_counts_what_runs_elsewhere_as_under_way(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node()
        await lan.node(stage.app)
        stage.gate = asyncio.Event()
        job = await node.submit("a", number=1)
        await lan.clock.advance(1)
        main = await queue(node, "main")
        assert (main["running"], main["under_way"]) == (0, 1)
        stage.gate.set()
        await lan.until(job.result())


async def test_a_queue_that_prefers_the_creator_keeps_its_jobs_here(lan: Lan) -> None:
    """C014: prefer the instance of creation."""
    here, there = Stage(), Stage()
    rules = {"main": {"prefer_creator": True}}
    far = {"policy": "remote-first"}
    node = await lan.node(here.app, queues=rules, offloading=far)
    await lan.node(there.app)
    await lan.until(node.offload("a", number=1))
    assert (here.order, there.order) == ([1], [])


async def test_a_job_that_fails_for_good_says_so(lan: Lan, stage: Stage) -> None:
    node = await lan.node(stage.app, queues={"main": {"retries": 0}})
    stage.fails = {1: 9}
    with pytest.raises(JobFailed):
        await lan.until(node.offload("a", number=1))


class TestAQueueWithARate:
    async def test_starts_no_more_in_any_such_time(self, lan: Lan) -> None:
        starts: list[float] = []
        app = App()

        @app.consumer("a")
        async def a() -> None:
            starts.append(lan.clock.now())

        rules = {"main": {"rate": "5/2s", "max_parallel": 100}}
        node = await lan.node(app, queues=rules)
        jobs = [await node.submit("a") for _ in range(23)]
        await all_done(lan, jobs)
        assert [n for n, at in enumerate(starts[5:]) if at - starts[n] < 2.0] == []
        assert starts[-1] - starts[0] < 9.0

    async def test_may_count_each_key_apart(self, lan: Lan, stage: Stage) -> None:
        rules = {"main": {"rate": "1/m", "rate_per": "key"}}
        node = await lan.node(stage.app, queues=rules)
        for n in range(4):
            await node.options(order_by="ada" if n % 2 else "bob").submit("a", number=n)
        await lan.clock.advance(10)
        assert sorted(stage.order) == [0, 1]
        await lan.clock.advance(55)
        assert sorted(stage.order) == [0, 1, 2, 3]

    async def test_holds_over_a_crash(self, lan: Lan, stage: Stage) -> None:
        """What had started counts, by queue and by key, also if its job is no longer there."""
        rules = {
            "main": {"rate": "3/h"},
            "keyed": {"topics": ["k"], "rate": "1/h", "rate_per": "key"},
        }
        node = await lan.node(stage.app, queues=rules)
        jobs = [await node.submit("a", number=n) for n in range(2)]
        jobs.append(await node.options(order_by="ada").submit("k", number=10))
        assert await all_done(lan, jobs) == ["succeeded"] * 3
        await lan.clock.advance(600)
        assert await node.remove(jobs[0].id)
        node = await lan.restart(node)
        for n in range(2, 6):
            await node.submit("a", number=n)
        for n, name in ((11, "ada"), (12, "bob")):
            await node.options(order_by=name).submit("k", number=n)
        await lan.clock.advance(2_900)
        assert sorted(stage.order) == [0, 1, 2, 10, 12]
        await lan.clock.advance(200)
        assert sorted(stage.order) == [0, 1, 2, 3, 4, 10, 11, 12]

    async def test_does_not_hold_up_others(self, lan: Lan, stage: Stage) -> None:
        node = await lan.node(stage.app, queues={"slow": {"topics": ["slow"], "rate": "1/h"}})
        for n in range(3):
            await node.submit("slow", number=n)
        assert await lan.until(node.offload("a", number=9)) == 9
        await lan.clock.advance(3_000)
        assert stage.order.count(1) == 0
