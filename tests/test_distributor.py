"""Jobs between instances, on a LAN in memory with the real rooms (DESIGN §5, CONFORMANCE E)."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from offload import App, Context, File, Job, JobFailed, Node, distributor
from offload.errors import DiskFull
from offload.payload import encode
from offload.testing import Lan
from offload.work.jobs import Outcome, Result

LEASE_S = 15 * 1.02 + 3  # what an origin waits for a sign of life


class Worker:
    """
    Consumers that note what they do, and end when the test says so.

    Attributes:
        runs: What was called: its argument, or its number.
        begun: Set by the first call.
        go: Set it, and calls of ``work/wait`` return.
    """

    def __init__(self, name: str = "worker") -> None:
        self.app = App()
        self.runs: list[int] = []
        self.ended: list[int] = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.fails = 0

        @self.app.consumer("work/wait")
        async def wait() -> str:
            self.runs.append(len(self.runs) + 1)
            self.begun.set()
            await self.go.wait()
            self.ended.append(len(self.runs))
            return name

        @self.app.consumer("work/polite")
        async def polite(context: Context) -> None:
            self.runs.append(context.attempt)
            self.begun.set()
            await self.go.wait()
            self.ended.append(context.attempt)

        @self.app.consumer("work/count")
        async def count(number: int) -> int:
            self.runs.append(number)
            if self.fails:
                self.fails -= 1
                raise ValueError("not yet")
            return number

        @self.app.consumer("work/copy")
        async def copy(source: File, context: Context) -> File:
            self.runs.append(len(self.runs) + 1)
            target = context.folder / "copy.txt"
            target.write_text(f"{source.path.name}: {source.path.read_text()}")
            return File(target)


def results(info: dict[str, Any]) -> list[str]:
    return [attempt["result"] for attempt in info["attempts"]]


async def at_rest(*nodes: Node) -> bool:
    """Say whether nobody holds anything of another any more."""
    told = [await node.status() for node in nodes]
    return all(status["held"] == status["outbox"]["jobs"] == 0 for status in told)


async def ended(lan: Lan, jobs: Sequence[Job], within_s: float = 120) -> list[dict[str, Any]]:
    return [await lan.until(job.wait(), within_s) for job in jobs]


class TestAJobForATopicOfAPeer:
    async def test_runs_there_and_its_value_comes_home(self, lan: Lan) -> None:
        """C001 over two instances."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        assert await lan.until(desk.offload("work/count", number=7)) == 7
        await lan.settle()
        assert await at_rest(desk, peer)

    async def test_waits_for_an_instance_that_has_it(self, lan: Lan) -> None:
        """C072, C006."""
        desk = await lan.node()
        job = await desk.submit("work/count", number=1)
        await lan.clock.advance(60)
        assert (await job.info())["state"] == "queued"
        await lan.node(Worker().app)
        assert await lan.until(job.result(), within_s=1) == 1

    async def test_shares_the_places_with_the_jobs_of_others(self, lan: Lan) -> None:
        worker = Worker()
        one, other = await lan.node(), await lan.node()
        await lan.node(worker.app, queues={"main": {"max_parallel": 2}})
        jobs = [await node.submit("work/wait") for node in (one, one, one, other) for _ in range(3)]
        await lan.until(worker.begun.wait())
        await lan.clock.advance(2)
        assert len(worker.runs) == 2
        worker.go.set()
        assert {info["state"] for info in await ended(lan, jobs)} == {"succeeded"}
        assert len(worker.runs) == len(jobs)

    async def test_that_fails_is_tried_again_after_the_delay(self, lan: Lan) -> None:
        """C004, C038: the origin's queue decides."""
        worker = Worker()
        worker.fails = 1
        desk = await lan.node(queues={"main": {"retry_delay": "20s"}})
        await lan.node(worker.app)
        job = await desk.submit("work/count", number=1)
        await lan.clock.advance(19)
        assert len(worker.runs) == 1
        info = await lan.until(job.wait(), within_s=3)
        assert (info["state"], info["failures"]) == ("succeeded", 1)
        assert results(info) == ["failed", "succeeded"]

    async def test_that_failed_goes_to_one_that_has_not_failed_it(self, lan: Lan) -> None:
        """C073."""
        bad, good = Worker(), Worker()
        bad.fails = 100
        desk, peer = await lan.node(), await lan.node(bad.app)
        jobs = [await desk.submit("work/count", number=n) for n in range(5)]
        await lan.clock.advance(1)
        spare = await lan.node(good.app)
        infos = await ended(lan, jobs)
        assert {tuple(results(info)) for info in infos} == {("failed", "succeeded")}
        assert {info["attempts"][0]["worker"] for info in infos} == {peer.id}
        assert {info["attempts"][1]["worker"] for info in infos} == {spare.id}


class TestFiles:
    async def test_travel_both_ways(self, lan: Lan, tmp_path: Path) -> None:
        """C100."""
        (tmp_path / "note.txt").write_text("hello")
        desk, peer = await lan.node(), await lan.node(Worker().app)
        options = desk.options(into=str(tmp_path / "out"))
        made = await lan.until(
            options.offload("work/copy", source=File(tmp_path / "note.txt")),
        )
        assert made.path == tmp_path / "out" / "copy.txt"
        assert made.path.read_text() == "note.txt: hello"
        await lan.settle()
        assert await at_rest(desk, peer)
        assert list(peer.data_dir.work.glob("*")) == []  # C105

    async def test_wait_while_their_origin_is_cut_off(self, lan: Lan, tmp_path: Path) -> None:
        """C083: the worker keeps them until they are acknowledged."""
        (tmp_path / "note.txt").write_text("hello")
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        lan.hold("outcome")
        job = await desk.submit("work/copy", source=File(tmp_path / "note.txt"))
        await lan.clock.advance(2)
        peer = await lan.restart(peer)
        await lan.clock.advance(60)
        assert (await peer.status())["outbox"]["jobs"] == 1
        lan.heal()
        assert (await lan.until(job.result())).path.read_text() == "note.txt: hello"
        assert worker.runs == [1]


class TestAWorkerThatCrashes:
    async def test_loses_its_jobs_to_another_at_once(self, lan: Lan) -> None:
        """C080: no lease is waited for."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.clock.advance(1)  # it has said that it started
        spare = await lan.node(second.app)
        second.go.set()
        await lan.crash(peer)
        info = await lan.until(job.wait(), within_s=1.5)
        assert (info["state"], info["value"], info["crashes"]) == ("succeeded", "second", 1)
        assert results(info) == ["unreachable", "succeeded"]
        assert [a["worker"] for a in info["attempts"]] == [peer.id, spare.id]
        assert "gone" in info["attempts"][0]["reason"]

    async def test_while_it_is_given_a_job_loses_it_at_once_too(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        second = Worker("second")
        desk, peer = await lan.node(), await lan.node(Worker().app)
        commit, nodes = desk._house.store.change, [peer]

        async def change(steps: Any, *told: Any) -> Any:
            answers = await commit(steps, *told)
            if nodes and steps:
                await lan.crash(nodes.pop())
            return answers

        monkeypatch.setattr(desk._house.store, "change", change)
        job = await desk.submit("work/wait")
        await lan.settle()
        second.go.set()
        await lan.node(second.app)
        assert await lan.until(job.result(), within_s=1.5) == "second"

    async def test_and_comes_back_says_what_died_with_it(self, lan: Lan) -> None:
        """Rule 3: what was STARTED in an earlier boot is never resumed."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        lan.cut(peer)  # so that nobody sees it go
        job = await desk.submit("work/wait")
        lan.heal()
        await lan.until(worker.begun.wait())
        lan.cut(peer)
        await lan.crash(peer)
        lan.heal()
        worker.go.set()
        await lan.restart(peer)
        info = await lan.until(job.wait())
        assert (info["state"], results(info)) == ("succeeded", ["crashed", "succeeded"])
        assert info["crashes"] == 1
        first, second = (attempt["run_s"] for attempt in info["attempts"])
        assert first is None, "nobody knows how long it ran"
        assert second is not None

    async def test_and_is_back_at_once_keeps_what_it_is_given_then(self, lan: Lan) -> None:
        """What is said of the attempt that died meets the offer of the next one (C089)."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        await lan.clock.advance(1)
        await lan.crash(peer)
        lan.hold("answer", "offer")
        worker.go.set()
        await lan.restart(peer)
        await lan.clock.advance(0.5)
        lan._switch._stuck.sort(key=lambda frame: frame.kind == "answer")
        lan.heal()
        info = await lan.until(job.wait(), within_s=5)
        assert results(info) == ["unreachable", "succeeded"], "no lease had to end"

    async def test_again_and_again_with_one_job_ends_it(self, lan: Lan) -> None:
        """C017: a poison job ends, wherever it runs."""
        desk, worker = await lan.node(queues={"main": {"max_crashes": 2}}), Worker()
        peer = await lan.node(worker.app)
        job = await desk.submit("work/wait")
        for _ in range(2):
            await lan.until(worker.begun.wait())
            worker.begun.clear()
            await lan.clock.advance(1)
            peer = await lan.restart(peer)
        info = await lan.until(job.wait())
        assert (info["state"], info["crashes"], worker.runs) == ("given_up", 2, [1, 2])

    async def test_before_it_began_what_it_took_runs_it_later(self, lan: Lan) -> None:
        worker = Worker()
        desk = await lan.node()
        peer = await lan.node(worker.app, queues={"main": {"max_parallel": 1}})
        jobs = [await desk.submit("work/wait") for _ in range(2)]
        await lan.until(worker.begun.wait())
        lan.cut(peer)
        await lan.crash(peer)
        lan.heal()
        worker.go.set()
        await lan.restart(peer)
        infos = await ended(lan, jobs)
        assert [info["state"] for info in infos] == ["succeeded", "succeeded"]
        assert infos[1]["crashes"] == 0


class TestAWorkerThatIsCutOff:
    async def test_for_less_than_its_lease_keeps_its_job(self, lan: Lan) -> None:
        """C085, G08: a cable out for 8 s re-runs nothing."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        lan.cut(peer)
        await lan.clock.advance(8)
        lan.heal()
        await lan.clock.advance(60)
        first.go.set()
        assert await lan.until(job.result()) == "first"
        assert second.runs == []

    async def test_for_longer_loses_it_and_its_late_outcome_changes_nothing(self, lan: Lan) -> None:
        """C081, C089, G07: the late outcome is acknowledged, not applied."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        lan.cut(peer)
        await lan.clock.advance(LEASE_S - 6)
        assert second.runs == []
        second.go.set()
        info = await lan.until(job.wait(), within_s=12)
        assert (info["value"], results(info)) == ("second", ["unreachable", "succeeded"])
        first.go.set()
        await lan.clock.advance(5)
        assert (await peer.status())["outbox"]["jobs"] == 1
        lan.heal()
        await lan.clock.advance(60)
        assert await at_rest(desk, peer)
        assert results(await job.info()) == results(info)
        assert (await job.info())["value"] == "second"

    async def test_and_is_the_first_to_succeed_ends_the_job_all_the_same(self, lan: Lan) -> None:
        """Rule 8: the first complete outcome wins, of whichever attempt."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.submit("work/wait")
        await lan.until(first.begun.wait())
        spare = await lan.node(second.app)
        lan.cut(peer)
        await lan.until(second.begun.wait())
        first.go.set()
        await lan.clock.advance(1)
        lan.heal()
        assert await lan.until(job.result()) == "first"
        await lan.clock.advance(10)
        assert second.ended == []  # told to drop it
        assert await at_rest(desk, peer, spare)

    async def test_for_ever_takes_a_job_with_it_for_a_lease_only(self, lan: Lan) -> None:
        """C085: nothing is lost."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        lan.cut(peer)
        await lan.crash(peer)  # without power: no host that refuses
        second.go.set()
        assert await lan.until(job.result(), within_s=LEASE_S + 3) == "second"


class TestAnOriginThatCrashes:
    async def test_picks_up_what_runs_elsewhere(self, lan: Lan) -> None:
        """C082: it is not started twice."""
        worker = Worker()
        desk, _ = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        desk = await lan.restart(desk)
        await lan.clock.advance(60)
        worker.go.set()
        info = await lan.until((await desk.job(job.id)).wait())
        assert (info["state"], info["attempt"], worker.runs) == ("succeeded", 1, [1])

    async def test_finds_the_outcome_waiting(self, lan: Lan) -> None:
        """C083: over a restart of the worker too."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        await lan.crash(desk)
        worker.go.set()
        await lan.clock.advance(600)
        peer = await lan.restart(peer)
        assert (await peer.status())["outbox"]["jobs"] == 1
        desk = await lan.restart(desk)
        assert await lan.until((await desk.job(job.id)).result(), within_s=1) == "worker"
        await lan.settle()
        assert await at_rest(peer)
        assert worker.runs == [1]

    async def test_right_after_add_has_the_job(self, lan: Lan) -> None:
        """C082."""
        desk = await lan.node()
        job = await desk.submit("work/count", number=3)
        desk = await lan.restart(desk)
        await lan.node(Worker().app)
        assert await lan.until((await desk.job(job.id)).result()) == 3

    async def test_before_its_offer_was_heard_offers_it_anew(self, lan: Lan) -> None:
        worker = Worker()
        desk, _ = await lan.node(), await lan.node(worker.app)
        lan.lose(1.0, "offer")
        job = await desk.submit("work/count", number=3)
        await lan.clock.advance(1)
        await lan.crash(desk)
        lan.heal()
        desk = await lan.restart(desk)
        assert await lan.until((await desk.job(job.id)).result()) == 3
        assert worker.runs == [3]


class TestMessages:
    """C084, C089, G24: every one of them may be lost, doubled or late."""

    KINDS = ("offer", "taken", "holding", "answer", "outcome", "ack")

    @pytest.mark.parametrize("kind", KINDS)
    async def test_that_are_lost_are_said_again(self, lan: Lan, kind: str) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        lan.lose(0.7, kind, seed=5)
        jobs = [await desk.submit("work/count", number=n) for n in range(6)]
        infos = await ended(lan, jobs)
        assert [info["value"] for info in infos] == [*range(6)]
        await lan.clock.advance(120)
        assert sorted(worker.runs) == [*range(6)]
        assert await at_rest(desk, peer)

    @pytest.mark.parametrize("kind", [*KINDS, "cancel", "cancelled"])
    async def test_that_are_doubled_have_no_second_effect(self, lan: Lan, kind: str) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        lan.double(1.0, kind)
        stopped = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        jobs = [await desk.submit("work/count", number=n) for n in range(6)]
        assert await stopped.stop()
        infos = await ended(lan, [*jobs, stopped])
        assert [info["state"] for info in infos] == ["succeeded"] * 6 + ["stopped"]
        assert {tuple(results(info)) for info in infos[:6]} == {("succeeded",)}
        assert sorted(worker.runs) == [0, 1, 1, 2, 3, 4, 5]
        await lan.settle()
        assert await at_rest(desk, peer)

    async def test_that_come_minutes_late_are_as_good(self, lan: Lan) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        lan.hold("outcome")
        job = await desk.submit("work/count", number=1)
        await lan.clock.advance(300)
        assert (await job.info())["attempt"] == 1  # its HOLDING keeps it
        lan.heal()
        assert results(await lan.until(job.wait(), within_s=1)) == ["succeeded"]
        await lan.settle()
        assert (await at_rest(desk, peer), worker.runs) == (True, [1])

    @pytest.mark.usefixtures("endable")
    async def test_that_answer_for_an_earlier_attempt_say_nothing_of_this_one(
        self, lan: Lan
    ) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        lan.hold("answer")
        job = await desk.options(delivery="exclusive").submit("work/wait")
        await lan.clock.advance(1)
        lan.cut(peer)
        await lan.clock.advance(LEASE_S)
        lan.heal()
        lan.hold("answer")  # DROP, for the first attempt
        await lan.clock.advance(4)
        assert (await job.info())["attempt"] == 2
        lan.heal()
        worker.go.set()
        assert results(await lan.until(job.wait(), within_s=10)) == ["unreachable", "succeeded"]

    async def test_that_say_what_was_held_before_it_was_taken_move_nothing(self, lan: Lan) -> None:
        worker = Worker()
        desk = await lan.node()
        lan.hold("holding")
        await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        lan.heal()  # the HOLDING of link-up: nothing
        await lan.clock.advance(30)
        worker.go.set()
        assert results(await lan.until(job.wait())) == ["succeeded"]
        assert worker.runs == [1]

    async def test_that_say_failed_twice_use_up_one_retry(self, lan: Lan) -> None:
        """C092."""
        worker = Worker()
        worker.fails = 1
        desk, _ = await lan.node(), await lan.node(worker.app)
        lan.hold("ack")  # so that the outcome comes again, while the next attempt waits or runs
        job = await desk.submit("work/count", number=1)
        info = await lan.until(job.wait())
        await lan.clock.advance(60)
        assert (info["failures"], results(info)) == (1, ["failed", "succeeded"])
        lan.heal()
        await lan.clock.advance(60)
        assert results(await job.info()) == ["failed", "succeeded"]

    @pytest.mark.parametrize("seed", range(3))
    async def test_that_all_suffer_at_once_lose_no_job(self, lan: Lan, seed: int) -> None:
        """C086."""
        workers = Worker(), Worker()
        nodes = [await lan.node(), *[await lan.node(worker.app) for worker in workers]]
        lan.lose(0.2, seed=seed)
        lan.double(0.2, seed=seed + 1)
        jobs = [await nodes[0].submit("work/count", number=n) for n in range(20)]
        infos = await ended(lan, jobs, within_s=300)
        assert [info["value"] for info in infos] == [*range(20)]
        lan.heal()
        await lan.clock.advance(60)
        assert await at_rest(*nodes)


class TestStoppingAJob:
    async def test_that_runs_elsewhere_reaches_it(self, lan: Lan) -> None:
        """C019."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        assert await job.stop()
        info = await lan.until(job.wait(), within_s=1)
        worker.go.set()
        await lan.settle()
        assert (info["state"], worker.ended) == ("stopped", [])
        assert await at_rest(desk, peer)

    async def test_whose_worker_is_cut_off_holds_whatever_it_says_later(self, lan: Lan) -> None:
        """G19: True means that no outcome is applied."""
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        lan.cut(peer)
        assert await job.stop()
        assert (await job.info())["state"] == "stopping"
        worker.go.set()
        await lan.clock.advance(1)
        lan.heal()
        info = await lan.until(job.wait())
        assert (info["state"], info["value"]) == ("stopped", None)
        await lan.clock.advance(40)
        assert await at_rest(desk, peer)

    async def test_whose_worker_never_answers_ends_with_the_lease(self, lan: Lan) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        options = desk.options(delivery="at-most-once")
        jobs = [await desk.submit("work/wait"), await options.submit("work/wait")]
        await lan.clock.advance(1)
        lan.cut(peer)
        for job in jobs:
            assert await job.stop()
        infos = [await lan.until(job.wait(), within_s=LEASE_S + 1) for job in jobs]
        assert [info["state"] for info in infos] == ["stopped", "stopped"]

    async def test_that_has_ended_is_too_late(self, lan: Lan) -> None:
        desk = await lan.node(Worker().app)
        job = await desk.submit("work/count", number=1)
        await lan.until(job.wait())
        assert not await job.stop()


class TestARefusal:
    async def test_costs_the_job_nothing(self, lan: Lan) -> None:
        worker, other = Worker(), Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        worker.app._consumers.clear()  # and nobody is told
        job = await desk.submit("work/count", number=1)
        await lan.clock.advance(2)
        info = await job.info()
        assert (info["state"], info["failures"], info["crashes"]) == ("queued", 0, 0)
        assert "no consumer" in info["reason"]
        explained = await desk.explain(job.id)
        assert any("refused" in r for c in explained["candidates"] for r in c["reasons"])
        spare = await lan.node(other.app)
        info = await lan.until(job.wait())
        assert set(results(info)[:-1]) == {"refused"}
        assert [a["worker"] for a in info["attempts"]][-1] == spare.id
        assert (await peer.status())["held"] == 0

    async def test_is_repeated_less_and_less_often(self, lan: Lan) -> None:
        worker = Worker()
        desk, _ = await lan.node(), await lan.node(worker.app)
        worker.app._consumers.clear()
        job = await desk.submit("work/count", number=1)
        await lan.clock.advance(120)
        assert 5 <= len((await job.info())["attempts"]) <= 10


class TestAFullDisk:
    """C087: a state, not an end; when there is room, all goes on by itself."""

    async def test_anywhere_stops_nobody(self, lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
        desk, peer = await lan.node(), await lan.node(Worker().app)
        jobs = [await desk.submit("work/count", number=n) for n in range(3)]
        with monkeypatch.context() as patch:
            for node in (desk, peer):
                patch.setattr(node._house.store, "change", no_room)
                patch.setattr(node._house.store, "change_held", no_room)
            jobs += [await desk.submit("work/count", number=n) for n in range(3, 6)]
            await lan.clock.advance(20)
        infos = await ended(lan, jobs)
        assert [info["value"] for info in infos] == [*range(6)]
        await lan.settle()
        assert await at_rest(desk, peer)

    async def test_at_a_worker_in_the_middle_loses_no_outcome(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        with monkeypatch.context() as patch:
            patch.setattr(peer._house.store, "change_held", no_room)
            worker.go.set()
            await lan.clock.advance(30)
        assert results(await lan.until(job.wait())) == ["succeeded"]
        assert worker.runs == [1]


async def no_room(steps: list[object], *_: object) -> list[object]:
    if steps:
        raise DiskFull
    return []


@pytest.mark.usefixtures("endable")
class TestAnExclusiveJob:
    """Never two at once (DESIGN §5, Delivery)."""

    async def test_runs_once_its_origin_said_so(self, lan: Lan) -> None:
        """Rule 4: an OFFER gives no running time."""
        worker = Worker()
        desk, _ = await lan.node(), await lan.node(worker.app)
        lan.hold("answer")
        job = await desk.options(delivery="exclusive").submit("work/wait")
        await lan.clock.advance(3)
        assert worker.runs == []
        lan.heal()
        worker.go.set()
        assert await lan.until(job.result()) == "worker"

    async def test_waits_for_the_lease_of_a_crashed_worker(self, lan: Lan) -> None:
        """C080: it moves after the lease, not before."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.options(delivery="exclusive").submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        second.go.set()
        await lan.crash(peer)
        await lan.clock.advance(LEASE_S - 6)
        assert second.runs == []
        assert await lan.until(job.result(), within_s=12) == "second"

    async def test_ends_at_its_worker_before_it_begins_at_another(self, lan: Lan) -> None:
        """C081: the worker stops it by its own clock."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.options(delivery="exclusive").submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        lan.cut(peer)
        await lan.until(second.begun.wait())
        assert (await peer.status())["running"] == []
        first.go.set()
        second.go.set()
        lan.heal()
        assert await lan.until(job.result()) == "second"
        assert first.ended == []

    async def test_is_not_asked_to_stop_but_ended_when_its_lease_is_over(self, lan: Lan) -> None:
        first = Worker("first")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.options(delivery="exclusive").submit("work/polite")
        await lan.until(first.begun.wait())
        lan.cut(peer)
        await lan.clock.advance(LEASE_S)
        first.go.set()  # a grace that it may not have
        lan.heal()
        assert results(await lan.until(job.wait())) == ["unreachable", "succeeded"]
        assert first.ended == [2]


class TestAnAtMostOnceJob:
    """C085: never started twice; a fate that stays unknown is reported."""

    async def test_whose_worker_crashed_is_lost_in_the_end(self, lan: Lan) -> None:
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        job = await desk.options(delivery="at-most-once").submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        await lan.crash(peer)
        await lan.clock.advance(LEASE_S + 1)
        assert "unreachable" in (await job.info())["reason"]
        await lan.clock.advance(590)
        assert (await job.info())["state"] == "active"
        info = await lan.until(job.wait(), within_s=20)
        assert (info["state"], second.runs) == ("lost", [])

    async def test_whose_taken_was_lost_is_started_once(self, lan: Lan) -> None:
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        lan.lose(1.0, "taken", "holding", "outcome")
        job = await desk.options(delivery="at-most-once").submit("work/wait")
        await lan.until(first.begun.wait())
        await lan.node(second.app)
        first.go.set()
        await lan.clock.advance(60)
        lan.heal()
        assert await lan.until(job.result()) == "first"
        assert (first.runs, second.runs) == ([1], [])
        await lan.settle()
        assert await at_rest(desk, peer)

    async def test_that_fails_is_not_tried_again(self, lan: Lan) -> None:
        worker = Worker()
        worker.fails = 1
        desk, _ = await lan.node(), await lan.node(worker.app)
        job = await desk.options(delivery="at-most-once").submit("work/count", number=1)
        with pytest.raises(JobFailed, match="not yet"):
            await lan.until(job.result())
        assert worker.runs == [1]

    async def test_that_is_refused_goes_elsewhere(self, lan: Lan) -> None:
        worker, other = Worker(), Worker()
        desk, _ = await lan.node(), await lan.node(worker.app)
        worker.app._consumers.clear()
        job = await desk.options(delivery="at-most-once").submit("work/count", number=1)
        await lan.clock.advance(1)
        await lan.node(other.app)
        assert await lan.until(job.result()) == 1


class TestAWorkerThatDrains:
    @pytest.mark.parametrize("drains_first", [False, True])
    async def test_in_a_hurry_takes_no_deaf_consumer_for_a_crash(
        self, lan: Lan, drains_first: bool
    ) -> None:
        """C088: a consumer that may ask whether to stop, and does not, costs its job nothing."""
        worker = Worker()
        node = await lan.node(worker.app, node={"drain_timeout": 60})
        job = await node.submit("work/polite")
        await lan.until(worker.begun.wait())
        if drains_first:
            draining = asyncio.ensure_future(node.drain())
            await asyncio.sleep(0)
            node.hurry()
        else:
            node.hurry()
            draining = asyncio.ensure_future(node.drain())
        await lan.until(draining)
        info = await job.info()
        assert (info["state"], info["crashes"], results(info)) == ("queued", 0, ["refused"])

    async def test_in_a_hurry_waits_no_longer_for_an_origin_that_is_deaf(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Issue 3, line 10: a second SIGTERM ends every wait; the outcome is in the outbox."""
        monkeypatch.setattr(distributor, "HAND_BACK_S", 3600.0)
        monkeypatch.setattr(distributor, "HURRIED_S", 0.0)
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        lan.lose(1.0, "ack")
        worker.go.set()
        await lan.until(job.result())
        draining = asyncio.ensure_future(peer.drain())
        await lan.clock.advance(1)
        assert not draining.done()
        peer.hurry()
        await lan.until(draining)
        assert (await peer.status())["outbox"]["jobs"] == 1

    async def test_hands_back_at_no_cost(self, lan: Lan) -> None:
        """C088, G04."""
        first, second = Worker("first"), Worker("second")
        desk = await lan.node()
        peer = await lan.node(
            first.app, node={"drain_timeout": 0.05}, queues={"main": {"max_parallel": 1}}
        )
        jobs = [await desk.submit("work/wait") for _ in range(2)]
        await lan.until(first.begun.wait())
        await lan.clock.advance(1)
        spare = await lan.node(second.app)
        second.go.set()
        await lan.until(peer.drain())
        infos = await ended(lan, jobs)
        assert {info["state"] for info in infos} == {"succeeded"}
        assert {(info["failures"], info["crashes"]) for info in infos} == {(0, 0)}
        assert {info["attempts"][-1]["worker"] for info in infos} == {spare.id}
        assert await at_rest(peer)

    async def test_stays_until_its_last_outcome_is_home(
        self, lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C088: else the job would run once more, elsewhere."""
        first, second = Worker("first"), Worker("second")
        desk, peer = await lan.node(), await lan.node(first.app)
        outgoing = desk._house.distributor._outgoing
        fetch, asked, may = outgoing._fetch, asyncio.Event(), asyncio.Event()

        async def slow(*args: Any) -> None:
            asked.set()
            await may.wait()
            await fetch(*args)

        monkeypatch.setattr(outgoing, "_fetch", slow)
        source = tmp_path / "a.txt"
        source.write_text("moon")
        job = await desk.submit("work/copy", source=File(source))
        await lan.until(asked.wait())
        await lan.node(second.app)
        draining = asyncio.ensure_future(peer.drain())
        await lan.settle()
        assert not draining.done()
        may.set()
        await lan.until(draining)
        info = await lan.until(job.wait())
        assert (results(info), first.runs, second.runs) == (["succeeded"], [1], [])
        assert await at_rest(peer)

    async def test_lets_what_runs_end(self, lan: Lan) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app)
        job = await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        draining = asyncio.ensure_future(peer.drain())
        await lan.settle()
        later = await desk.submit("work/count", number=1)
        await lan.clock.advance(5)
        assert (await later.info())["state"] == "queued"
        worker.go.set()
        await lan.until(draining)
        assert results(await lan.until(job.wait())) == ["succeeded"]


class TestALongJobOfATopicNeverRun:
    async def test_goes_to_the_idle_instance_rather_than_stand_in_line(self, lan: Lan) -> None:
        """DESIGN §4: late binding; short jobs of another topic say nothing of this one."""
        first, second = Worker("first"), Worker("second")
        queue = {"main": {"max_parallel": 2}}
        desk = await lan.node()
        await lan.node(first.app, name="first", queues=queue)
        short = [await desk.submit("work/count", number=n) for n in range(6)]
        await ended(lan, short)
        await lan.node(second.app, name="second", queues=queue)
        await lan.clock.advance(3)
        jobs = [await desk.submit("work/wait") for _ in range(6)]
        await lan.clock.advance(1)
        assert (len(first.runs) - 6, len(second.runs)) == (2, 2)
        states = [(await job.info())["state"] for job in jobs]
        assert states.count("queued") == 2
        first.go.set()
        second.go.set()
        await ended(lan, jobs)


class TestAForgedMessage:
    async def test_about_an_attempt_nobody_was_given_changes_nothing(self, lan: Lan) -> None:
        """G24, DESIGN §5 rule 10."""
        worker, forger = Worker(), App()
        desk, _ = await lan.node(), await lan.node(worker.app)
        stranger = await lan.node(forger)
        job = await desk.submit("work/wait")
        await lan.clock.advance(1)
        store_id = (await desk.status())["store_id"]
        outcome = Outcome(Result.SUCCEEDED, value=encode("forged").data).to_wire()
        about = {"job": [store_id, job.id], "attempt": 77}
        stranger._house.transport.send(desk.id, "outcome", {**about, "outcome": outcome})
        await lan.clock.advance(1)
        assert (await job.info())["state"] == "active"
        worker.go.set()
        assert (await ended(lan, [job]))[0]["value"] == "worker"

    async def test_of_a_holding_far_ahead_spoils_no_later_attempt(self, lan: Lan) -> None:
        worker = Worker()
        desk, stranger = await lan.node(), await lan.node(App())
        job = await desk.submit("work/count", number=3)
        store_id = (await desk.status())["store_id"]
        line = {job.id: [2**31 - 1, "have", False]}
        fields = {"store": store_id, "jobs": line, "sent_at": 1.0, "full": False}
        stranger._house.transport.send(desk.id, "holding", fields)
        await lan.clock.advance(1)
        await lan.node(worker.app)
        assert await lan.until(job.result()) == 3
