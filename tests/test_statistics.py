"""What is counted and measured of jobs, per queue and topic, and the events it is fed from."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from offload import App, Context
from offload.statistics import LINES_LIMIT, OTHERS, SAMPLES, Rate, Spread, Statistics
from offload.testing import Lan
from offload.work.jobs import Attempt, Job, Result, State
from offload.work.manager import JobAdded, JobChanged

app = App()


@app.consumer("do/well")
async def well(ctx: Context) -> None:
    ctx.log("well done")


@app.consumer("do/badly")
async def badly() -> None:
    raise ValueError("badly")


@app.consumer("do/nothing")
async def nothing() -> None:
    await asyncio.Event().wait()


class TestADuration:
    def test_counts_in_the_average_for_ever_and_in_percentiles_for_a_while(self) -> None:
        spread = Spread()
        for number in range(SAMPLES):
            spread.add(number, 1000.0)
        for number in range(1, SAMPLES + 1):
            spread.add(SAMPLES + number, float(number))
        shown = spread.as_json()
        assert (shown["p50_s"], shown["p95_s"], shown["p99_s"]) == (256, 487, 507)
        assert shown["average_s"] == pytest.approx((1000 + (SAMPLES + 1) / 2) / 2)

    def test_that_was_never_measured_is_0(self) -> None:
        assert set(Spread().as_json().values()) == {0.0}


class TestARate:
    def test_is_that_of_the_last_minute(self) -> None:
        rate = Rate(0.0)
        for second in range(600):
            rate.add(float(second))
            rate.add(float(second))
        assert rate.per_s(600.0) == pytest.approx(2.0, rel=0.1)
        assert rate.per_s(700.0) == 0.0

    def test_of_a_short_time_is_that_of_the_time_that_was(self) -> None:
        rate = Rate(1000.0)
        for _ in range(20):
            rate.add(1005.0)
        assert rate.per_s(1010.0) == pytest.approx(2.0)


class TestStatistics:
    async def test_of_a_new_instance_are_all_0_and_never(self, lan: Lan) -> None:
        """C040: new → all 0 / never."""
        node = await lan.node(app)
        found = await node.statistics()
        total = found["total"]
        assert (found["queues"], found["topics"]) == ({}, {})
        assert total.pop("last_activated") is total.pop("last_finished") is None
        assert total.pop("ended") == {}
        assert {*total.pop("waiting").values(), *total.pop("processing").values()} == {0.0}
        assert set(total.values()) == {0}

    async def test_of_300_jobs_count_300(self, lan: Lan) -> None:
        """C002: 300 jobs, exactly 300 finished notifications, statistics.finished = 300."""
        node = await lan.node(app)
        told: list[Any] = []
        node.bus.listen(JobChanged, told.append)
        jobs = [await node.submit("do/well") for _ in range(300)]
        await lan.until(asyncio.gather(*(job.result() for job in jobs)))
        found = await node.statistics()
        finished = [event.job.id for event in told if event.job.state is State.SUCCEEDED]
        assert sorted(finished) == sorted(job.id for job in jobs)
        for line in (found["total"], found["queues"]["main"], found["topics"]["do/well"]):
            assert (line["added"], line["finished"], line["processed"]) == (300, 300, 300)
            assert (line["failed"], line["cancelled"], line["jobs"]) == (0, 0, 0)
            assert line["last_activated"]
            assert line["last_finished"]

    async def test_tell_failed_attempts_from_cancelled_jobs(self, lan: Lan) -> None:
        node = await lan.node(app, queues={"main": {"retries": 2, "retry_delay": "1s"}})
        job = await node.submit("do/badly")
        await lan.until(job.wait())
        line = (await node.statistics())["topics"]["do/badly"]
        assert (line["failed"], line["cancelled"], line["ended"]) == (2, 1, {"given_up": 1})
        assert (line["finished"], line["last_finished"]) == (0, None)
        assert set(line["processing"].values()) == {0.0}

    async def test_keep_what_waits_and_runs_when_they_are_reset(self, lan: Lan) -> None:
        """C040: reset keeps active and queued."""
        node = await lan.node(app)
        done = await node.submit("do/well")
        await lan.until(done.result())
        for _ in range(2):
            await node.submit("do/nothing")
        await node.submit("nobody")
        await lan.clock.advance(1)
        await node.reset_statistics()
        found = await node.statistics()
        assert (found["total"]["queued"], found["total"]["active"]) == (1, 2)
        assert (found["total"]["added"], found["total"]["finished"]) == (0, 0)
        assert found["topics"]["do/nothing"]["active"] == 2
        assert "do/well" not in found["topics"]

    async def test_measure_waiting_from_when_a_job_could_start(self, lan: Lan) -> None:
        """C040: waiting and processing averages, of successes only."""
        node = await lan.node(app)
        statistics = Statistics(node.bus, lan.clock, node._house.store)
        plain = Job("1", "t", "q", State.SUCCEEDED, created_at=100.0, started_at=103.0)
        late = Job("2", "t", "q", State.SUCCEEDED, created_at=1, waits_since=98, started_at=99)
        for job, run_s in ((plain, 4.0), (late, 6.0)):
            attempt = Attempt(1, "w", Result.SUCCEEDED, "", 0.0, run_s)
            node.bus.publish(JobChanged(job, State.ACTIVE, attempt))
        failed = Job("3", "t", "q", State.GIVEN_UP, started_at=900.0, finished_at=999.0)
        attempt = Attempt(1, "w", Result.FAILED, "", 0.0, 99.0)
        node.bus.publish(JobChanged(failed, State.ACTIVE, attempt))
        line = (await statistics.as_json())["queues"]["q"]
        assert (line["waiting"]["average_s"], line["processing"]["average_s"]) == (2.0, 5.0)

    async def test_do_not_count_a_delay_as_waiting(self, lan: Lan) -> None:
        """Neither one that the submitter wished, nor one before a retry."""
        tries = []
        app = App()

        @app.consumer("a")
        async def second_time_lucky() -> None:
            tries.append(1)
            if len(tries) % 2:
                raise ValueError("not yet")

        node = await lan.node(app, queues={"main": {"retry_delay": "20s"}})
        job = await node.options(run_after="20s").submit("a")
        await lan.until(job.result(), within_s=120)
        assert (await node.statistics())["topics"]["a"]["waiting"]["average_s"] < 5.0

    async def test_of_a_queue_are_the_sum_of_its_topics(self, lan: Lan) -> None:
        node = await lan.node()
        for number in range(1, 2 * SAMPLES + 1):  # the last ones run longer
            topic = "often" if number % 4 else "now and then"
            job = Job(str(number), topic, "q", State.SUCCEEDED, finished_wall=float(number))
            node.bus.publish(JobAdded(job._replace(state=State.QUEUED)))
            attempt = Attempt(1, "w", Result.SUCCEEDED, "", 0.0, float(number))
            node.bus.publish(JobChanged(job, State.ACTIVE, attempt))
        found = await node.statistics()
        queue, rare = found["queues"]["q"], found["topics"]["now and then"]
        assert (queue["added"], queue["finished"]) == (2 * SAMPLES, 2 * SAMPLES)
        assert (rare["added"], rare["finished"]) == (SAMPLES / 2, SAMPLES / 2)
        assert queue["processing"]["average_s"] == pytest.approx(SAMPLES + 0.5)
        assert queue["processing"]["p50_s"] == 1.5 * SAMPLES  # of the last ones of both
        assert rare["processing"]["p50_s"] == SAMPLES
        assert queue["added_per_s"] == pytest.approx(4 * rare["added_per_s"])
        assert queue["last_finished"] == datetime.fromtimestamp(2 * SAMPLES, UTC).isoformat(
            timespec="milliseconds"
        )
        assert queue == found["total"]

    async def test_stay_small_however_many_topics_there_are(self, lan: Lan) -> None:
        node = await lan.node()
        for number in range(LINES_LIMIT + 5):
            node.bus.publish(JobAdded(Job("x", f"t/{number}", "main")))
        topics = (await node.statistics())["topics"]
        assert len(topics) == LINES_LIMIT + 1
        assert topics[OTHERS]["added"] == 5


async def heard(events: AsyncIterator[Any], into: list[Any]) -> None:
    async for event in events:
        into += [event]


class TestEvents:
    @pytest.fixture
    async def told(self) -> AsyncIterator[Any]:
        tasks = []

        async def listen(events: AsyncIterator[Any]) -> list[Any]:
            into: list[Any] = []
            tasks.append(asyncio.create_task(heard(events, into)))
            await asyncio.sleep(0)
            return into

        yield listen
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def test_are_every_change_of_a_job(self, lan: Lan, told: Any) -> None:
        node = await lan.node(app)
        lines = await told(node.event_lines())
        job = await node.submit("do/well")
        await lan.until(job.result())
        await node.remove(job.id)
        await lan.settle()
        kinds = [line["state"] if line["kind"] == "state" else line["kind"] for line in lines]
        assert kinds == ["added", "active", "log", "succeeded", "removed"]
        assert {line["id"] for line in lines} == {job.id}

    async def test_say_when_it_happened(self, lan: Lan, told: Any) -> None:
        node = await lan.node(app, queues={"main": {"retries": 0}})
        job = await node.submit("a")
        lines = await told(node.event_lines())
        await lan.clock.advance(100)
        await node.set_priority(job.id, 3)
        await lan.clock.advance(100)
        await node.suspend_queue("main")
        await node.clear_queue("main")
        await lan.settle()
        since = (await job.info())["created"]
        passed = [line["wall"] - datetime.fromisoformat(since).timestamp() for line in lines]
        assert passed == [pytest.approx(100, abs=5), pytest.approx(200, abs=5)]

    async def test_are_heard_by_topic_pattern(self, lan: Lan, told: Any) -> None:
        """Subscribed by topic pattern; also what a job says, which names no topic itself."""
        node = await lan.node(app)
        few, all_ = await told(node.event_lines("do/*")), await told(node.event_lines())
        well, other = await node.submit("do/well"), await node.submit("some/where/else")
        await lan.until(well.result())
        await lan.settle()
        assert {line["id"] for line in few} == {well.id}
        assert "log" in {line["kind"] for line in few}
        assert {line["id"] for line in all_} == {well.id, other.id}

    async def test_tell_of_another_priority(self, lan: Lan, told: Any) -> None:
        node = await lan.node()
        job = await node.submit("a")
        lines = await told(node.event_lines())
        await node.set_priority(job.id, 3)
        await lan.settle()
        assert [(line["kind"], line["priority"]) for line in lines] == [("altered", 3)]
