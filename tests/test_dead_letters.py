"""Outcomes that nobody takes are kept where a person sees them (DESIGN §5, rules 9 and 11)."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from offload import App, Context, File, Node
from offload.errors import LetterNotFound
from offload.testing import Lan

DAYS = 0.001  # of an outbox that does not wait long
DAYS_S = DAYS * 86_400
LOOK_S = 61  # so often the worker looks what waits too long


class Worker:
    """Consumers that end when the test says so."""

    def __init__(self) -> None:
        self.app = App()
        self.runs = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()

        @self.app.consumer("work/wait")
        async def wait() -> str:
            self.runs += 1
            self.begun.set()
            await self.go.wait()
            return "done"

        @self.app.consumer("work/file")
        async def file(context: Context) -> File:
            self.runs += 1
            self.begun.set()
            await self.go.wait()
            (context.folder / "out.txt").write_text("made")
            return File(context.folder / "out.txt")


async def _peer(lan: Lan, worker: Worker, **limits: int) -> Node:
    offloading = {"outbox_days": DAYS}
    return await lan.node(worker.app, name="peer", offloading=offloading, limits=limits)


async def letters(lan: Lan, node: Node, count: int) -> list[dict[str, Any]]:
    """Let time pass until ``node`` has so many dead letters."""
    for _ in range(900):
        found = await node.dead_letters()
        if len(found) == count:
            return found
        await lan.clock.advance(0.5)
    raise AssertionError(f"{len(found)} dead letters, not {count}")


async def in_outbox(lan: Lan, peer: Node) -> None:
    """Let time pass until ``peer`` has an outcome for an origin that is away."""
    for _ in range(100):
        if (await peer.status())["outbox"]["jobs"]:
            return
        await lan.clock.advance(0.5)
    raise AssertionError("nothing is in the outbox")


async def finished_for_nobody(
    lan: Lan, worker: Worker, topic: str = "work/wait", **options: str
) -> tuple[Node, Node, str]:
    """A worker that has finished a job of an origin that is gone: origin, worker, job id."""
    desk, peer = await lan.node(name="desk"), await _peer(lan, worker)
    job = await desk.options(**options).submit(topic)
    await lan.until(worker.begun.wait())
    await lan.clock.advance(1)
    await lan.crash(desk)
    worker.go.set()
    await in_outbox(lan, peer)
    return desk, peer, job.id


class TestAnOutcomeWhoseOriginStaysAway:
    async def test_becomes_a_dead_letter_after_the_days_that_are_set(self, lan: Lan) -> None:
        _, peer, job_id = await finished_for_nobody(lan, Worker())
        await lan.clock.advance(DAYS_S - 10)
        assert await peer.dead_letters() == []
        await lan.clock.advance(LOOK_S + 10)
        [letter] = await peer.dead_letters()
        assert (letter["job"], letter["result"], letter["value"]) == (job_id, "succeeded", "done")
        assert letter["reason"] == "its origin was away for 0.001 days"
        status = await peer.status()
        assert (status["outbox"]["jobs"], status["dead_letters"]) == (0, 1)

    async def test_is_brought_home_should_the_origin_return(self, lan: Lan) -> None:
        worker = Worker()
        desk, peer, job_id = await finished_for_nobody(lan, worker)
        await lan.clock.advance(DAYS_S)
        await letters(lan, peer, 1)
        peer = await lan.restart(peer)
        assert len(await peer.dead_letters()) == 1
        desk = await lan.restart(desk)
        info = await lan.until((await desk.job(job_id)).wait())
        assert (info["state"], info["value"], worker.runs) == ("succeeded", "done", 1)
        assert await letters(lan, peer, 0) == []

    async def test_is_brought_home_with_its_files_before_anything_runs_again(
        self, lan: Lan
    ) -> None:
        worker = Worker()
        desk, peer, job_id = await finished_for_nobody(lan, worker, "work/file")
        await lan.clock.advance(DAYS_S)
        await letters(lan, peer, 1)
        desk = await lan.restart(desk)
        info = await lan.until((await desk.job(job_id)).wait())
        assert (info["state"], info["attempt"]) == ("succeeded", 1)
        assert await letters(lan, peer, 0) == []

    async def test_keeps_its_files(self, lan: Lan) -> None:
        _, peer, _ = await finished_for_nobody(lan, Worker(), "work/file")
        await lan.clock.advance(DAYS_S)
        [letter] = await letters(lan, peer, 1)
        assert Path(letter["files"][0]["path"]).read_text() == "made"
        assert letter["files"][0]["name"] == "out.txt"

    async def test_goes_only_by_a_person(self, lan: Lan) -> None:
        _, peer, _ = await finished_for_nobody(lan, Worker())
        await lan.clock.advance(DAYS_S)
        [letter] = await letters(lan, peer, 1)
        assert await peer.dead_letter(letter["number"]) == letter
        await peer.remove_dead_letter(letter["number"])
        assert await peer.dead_letters() == []
        for act in (peer.dead_letter, peer.remove_dead_letter):
            with pytest.raises(LetterNotFound):
                await act(letter["number"])

    async def test_waits_longer_if_that_is_set(self, lan: Lan) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await lan.node(worker.app, offloading={"outbox_days": 1})
        await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        await lan.crash(desk)
        worker.go.set()
        await lan.clock.advance(DAYS_S + LOOK_S)
        assert (await peer.status())["outbox"]["jobs"] == 1


class TestALetterThatCannotBeRead:
    """C012: another version wrote it, or the disk has damaged it."""

    async def test_is_shown_as_unreadable_among_the_others_and_can_be_removed(
        self, lan: Lan
    ) -> None:
        _, peer, _ = await finished_for_nobody(lan, Worker())
        await lan.clock.advance(DAYS_S)
        [fine] = await letters(lan, peer, 1)
        with closing(sqlite3.connect(peer.data_dir.store / "store.db")) as connection:
            connection.execute(
                "INSERT INTO dead_letters SELECT number + 1, 's', 'j', attempt, sender, reason,"
                " kept_wall, x'81a178', origin, topic FROM dead_letters"
            )
            connection.commit()
        broken, other = await peer.dead_letters()
        assert other == fine
        assert (broken["result"], broken["number"]) == ("unreadable", fine["number"] + 1)
        assert broken["reason"].startswith("cannot be read: ")
        assert fine["reason"] in broken["reason"]
        assert await peer.dead_letter(broken["number"]) == broken
        await peer.remove_dead_letter(broken["number"])
        assert await peer.dead_letters() == [fine]
        with pytest.raises(LetterNotFound):
            await peer.dead_letter(broken["number"])


class TestAnOriginThatWasWiped:
    async def test_leaves_a_dead_letter_at_once(self, lan: Lan) -> None:
        """Rule 9."""
        desk, peer, _ = await finished_for_nobody(lan, Worker())
        shutil.rmtree(desk.data_dir.store)
        desk = await lan.restart(desk)
        [letter] = await letters(lan, peer, 1)
        assert letter["reason"] == "its origin came back with another store"
        assert letter["origin"] == desk.id
        desk = await lan.restart(desk)
        await lan.clock.advance(5)
        assert len(await peer.dead_letters()) == 1


class TestAnAtMostOnceJobThatWasLost:
    @pytest.mark.parametrize("topic", ["work/wait", "work/file"])
    async def test_keeps_a_later_outcome_as_a_dead_letter(self, lan: Lan, topic: str) -> None:
        """C085: it is acknowledged and never applied."""
        worker = Worker()
        desk = await lan.node(offloading={"lost_after": "2m"})
        peer = await lan.node(worker.app)
        job = await desk.options(delivery="at-most-once").submit(topic)
        await lan.until(worker.begun.wait())
        await lan.clock.advance(1)
        lan.cut(desk)
        await lan.clock.advance(110)
        assert (await job.info())["reason"].startswith("unreachable")
        await lan.clock.advance(60)
        assert (await job.info())["state"] == "lost"
        worker.go.set()
        await in_outbox(lan, peer)
        lan.heal()
        [letter] = await letters(lan, desk, 1)
        assert (letter["job"], letter["worker"]) == (job.id, peer.id)
        assert letter["reason"] == "it came when the job was LOST already"
        if topic == "work/file":
            assert Path(letter["files"][0]["path"]).read_text() == "made"
        else:
            assert letter["value"] == "done"
        assert ((await job.info())["state"], worker.runs) == ("lost", 1)
        await lan.clock.advance(2)
        assert (await peer.status())["outbox"]["jobs"] == 0

    async def test_keeps_it_once_though_it_comes_twice(self, lan: Lan) -> None:
        worker = Worker()
        desk = await lan.node(offloading={"lost_after": "30s"})
        peer = await lan.node(worker.app)
        await desk.options(delivery="at-most-once").submit("work/wait")
        await lan.until(worker.begun.wait())
        lan.cut(desk)
        await lan.clock.advance(120)
        worker.go.set()
        await in_outbox(lan, peer)
        lan.heal()
        lan.double(1.0, "outcome")
        await letters(lan, desk, 1)
        await lan.clock.advance(40)
        assert len(await desk.dead_letters()) == 1


class TestAQuota:
    async def test_lets_the_oldest_go(self, lan: Lan) -> None:
        worker = Worker()
        desk, peer = await lan.node(), await _peer(lan, worker, dead_letters=2)
        for _ in range(3):
            await desk.submit("work/wait")
        await lan.until(worker.begun.wait())
        await lan.clock.advance(1)
        await lan.crash(desk)
        worker.go.set()
        await letters(lan, peer, 3)
        await letters(lan, peer, 2)
