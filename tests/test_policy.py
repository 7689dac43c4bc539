"""The owner's word, among instances: conditions and snoozing (issue 4, line 6)."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from offload import App, Node, sync
from offload.cli import shell
from offload.client import connect
from offload.config import WhenConfig
from offload.errors import UsageError
from offload.owner import Sample
from offload.testing import Lan
from offload.web.control import Control

AWAY = {"policy": {"when": {"idle": "10m"}}}


class Desk:
    """A machine whose owner comes and goes as the test says."""

    def __init__(self) -> None:
        self.idle_s = 3600.0
        self.looks = 0

    def look(self, when: WhenConfig) -> Sample:
        self.looks += 1
        return Sample(minute=0, idle_s=self.idle_s)


class Work:
    """A consumer that waits until it may end; ``go`` lets it."""

    def __init__(self, delivery: str | None = None) -> None:
        self.app = App()
        self.runs: list[int] = []
        self.stopped = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()

        @self.app.consumer("work", delivery=delivery)
        async def work(number: int) -> str:
            self.runs.append(number)
            self.begun.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
            return "done"


@pytest.fixture
def desk(lan: Lan) -> Desk:
    desk = Desk()
    lan._parts = replace(lan._parts, machine=lambda: desk)
    return desk


def closed(seen_by: Node, of: Node) -> str:
    """Return what ``seen_by`` shows of why ``of`` takes nothing."""
    instances = seen_by.topology_json()["instances"]
    return str(next(i for i in instances if i["id"] == of.id)["closed"])


class TestAMachineWhoseOwnerIsThere:
    async def test_announces_no_places(self, lan: Lan, desk: Desk) -> None:
        desk.idle_s = 5.0
        work = Work()
        origin, peer = await lan.node(), await lan.node(work.app, **AWAY)
        job = await origin.submit("work", number=1)
        await lan.clock.advance(10)
        assert closed(origin, peer) == closed(peer, peer) == "busy: its owner is here"
        assert (await job.info())["attempt"] == 0
        told = await origin.explain(job.id)
        assert ["busy: its owner is here"] in [c["reasons"] for c in told["candidates"]]
        desk.idle_s = 601.0
        work.go.set()
        assert await lan.until(job.result(), within_s=8) == "done"
        assert closed(origin, peer) == ""

    async def test_works_for_its_owner(self, lan: Lan, desk: Desk) -> None:
        desk.idle_s = 5.0
        work = Work()
        peer = await lan.node(work.app, **AWAY)
        work.go.set()
        assert await lan.until(peer.offload("work", number=1), within_s=2) == "done"

    async def test_refuses_what_is_offered_all_the_same(self, lan: Lan, desk: Desk) -> None:
        work = Work()
        origin = await lan.node()
        await lan.node(work.app, **AWAY)
        await lan.clock.advance(6)
        lan.hold("beat")  # its origin does not hear of it
        desk.idle_s = 5.0
        await lan.clock.advance(2)
        assert not work.runs
        await lan.clock.advance(3)
        job = await origin.submit("work", number=1)
        await lan.clock.advance(0.5)
        assert not work.runs
        assert "its owner is here" in (await job.info())["reason"]
        lan.heal()

    async def test_lets_what_runs_finish(self, lan: Lan, desk: Desk) -> None:
        work = Work()
        origin = await lan.node()
        await lan.node(work.app, **AWAY)
        job = await origin.submit("work", number=1)
        await lan.until(work.begun.wait())
        desk.idle_s = 5.0
        await lan.clock.advance(30)
        work.go.set()
        assert await lan.until(job.result(), within_s=1) == "done"
        assert work.stopped == 0

    async def test_hands_back_what_runs_if_that_is_wished(self, lan: Lan, desk: Desk) -> None:
        """At no cost: no retry is used up, no crash counted."""
        first, second = Work(), Work()
        origin = await lan.node(queues={"main": {"retries": 0}})
        peer = await lan.node(first.app, policy={**AWAY["policy"], "on_return": "hand-back"})
        job = await origin.submit("work", number=1)
        await lan.until(first.begun.wait())
        desk.idle_s = 5.0
        await lan.clock.advance(8)
        assert (first.stopped, (await job.info())["state"]) == (1, "queued")
        await lan.node(second.app)
        second.go.set()
        info = await lan.until(job.wait(), within_s=2)
        assert (info["state"], info["failures"], info["crashes"]) == ("succeeded", 0, 0)
        assert [a["result"] for a in info["attempts"]] == ["refused", "succeeded"]
        assert (await peer.status())["held"] == 0

    async def test_never_starts_twice_what_must_not(self, lan: Lan, desk: Desk) -> None:
        work = Work(delivery="at-most-once")
        origin = await lan.node()
        await lan.node(work.app, policy={**AWAY["policy"], "on_return": "hand-back"})
        job = await origin.options(delivery="at-most-once").submit("work", number=1)
        await lan.until(work.begun.wait())
        desk.idle_s = 5.0
        await lan.clock.advance(8)
        work.go.set()
        assert await lan.until(job.result(), within_s=1) == "done"
        assert (work.runs, work.stopped) == ([1], 0)

    async def test_is_not_looked_at_without_conditions(self, lan: Lan, desk: Desk) -> None:
        node = await lan.node(Work().app)
        await lan.clock.advance(30)
        assert desk.looks == 0
        assert (await node.status())["policy"] == {
            "open": True,
            "reason": "",
            "snooze_until": None,
            "on_return": "finish",
        }

    async def test_follows_conditions_that_are_loaded_anew(self, lan: Lan, desk: Desk) -> None:
        desk.idle_s = 5.0
        origin, peer = await lan.node(), await lan.node(Work().app)
        await lan.clock.advance(2)
        config = peer.config.model_copy(update={"policy": (await lan.node(**AWAY)).config.policy})
        assert await peer.reload(config) == {"applied": ["policy"], "restart": []}
        await lan.clock.advance(2)
        assert closed(origin, peer) == "busy: its owner is here"
        await peer.reload(peer.config.model_copy(update={"policy": origin.config.policy}))
        await lan.clock.advance(2)
        assert closed(origin, peer) == ""


class TestAMachineThatSnoozes:
    async def test_starts_nothing_until_its_time(self, lan: Lan) -> None:
        work = Work()
        origin, peer = await lan.node(), await lan.node(work.app)
        work.go.set()
        said = await peer.snooze("10m")
        assert not said["open"]
        jobs = [await node.submit("work", number=1) for node in (origin, peer)]
        await lan.clock.advance(60)
        assert closed(origin, peer).startswith("snoozing until ")
        assert [(await job.info())["state"] for job in jobs] == ["queued", "queued"]
        await lan.clock.advance(530)
        assert work.runs == []
        await lan.clock.advance(15)
        assert [await lan.until(job.result(), within_s=2) for job in jobs] == ["done", "done"]

    async def test_lets_own_jobs_go_elsewhere(self, lan: Lan) -> None:
        away, here = Work(), Work()
        peer = await lan.node(here.app)
        await lan.node(away.app)
        away.go.set()
        await peer.snooze("1h")
        assert await lan.until(peer.offload("work", number=1), within_s=2) == "done"
        assert (here.runs, away.runs) == ([], [1])

    async def test_goes_on_snoozing_after_a_restart(self, lan: Lan) -> None:
        work = Work()
        origin, peer = await lan.node(), await lan.node(work.app)
        work.go.set()
        await peer.snooze(3600)
        peer = await lan.restart(peer)
        job = await origin.submit("work", number=1)
        await lan.clock.advance(60)
        assert closed(origin, peer).startswith("snoozing until ")
        assert work.runs == []
        said = await peer.wake()
        assert said["open"]
        assert await lan.until(job.result(), within_s=2) == "done"
        peer = await lan.restart(peer)
        assert (await peer.status())["policy"]["open"]

    @pytest.mark.parametrize("note", ["1e18", "-1e18", "inf", "nan", "soon"])
    async def test_does_not_once_nobody_can_read_until_when(self, lan: Lan, note: str) -> None:
        node = await lan.node()
        await node.snooze(3600)
        await lan.crash(node)
        with closing(sqlite3.connect(node.data_dir.store / "store.db")) as connection:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'note:snooze'", (note,))
            connection.commit()
        node = await lan.restart(node)
        assert (await node.status())["policy"]["open"]

    async def test_hands_back_own_jobs_too_if_that_is_wished(self, lan: Lan) -> None:
        here, away = Work(), Work()
        peer = await lan.node(here.app, policy={"on_return": "hand-back"})
        job = await peer.submit("work", number=1)
        await lan.until(here.begun.wait())
        await lan.node(away.app)
        away.go.set()
        await peer.snooze("1h")
        info = await lan.until(job.wait(), within_s=8)
        assert (info["state"], info["failures"], away.runs) == ("succeeded", 0, [1])

    async def test_lets_own_jobs_finish_otherwise(self, lan: Lan) -> None:
        here = Work()
        peer = await lan.node(here.app)
        job = await peer.submit("work", number=1)
        await lan.until(here.begun.wait())
        await peer.snooze("1h")
        await lan.clock.advance(10)
        here.go.set()
        assert await lan.until(job.result(), within_s=1) == "done"

    @pytest.mark.parametrize("duration", ["soon", "", -1, 0, "0s"])
    async def test_is_told_for_how_long(self, lan: Lan, duration: Any) -> None:
        node = await lan.node()
        with pytest.raises(UsageError, match="snooze: "):
            await node.snooze(duration)

    async def test_gives_back_what_a_former_boot_had_taken(self, lan: Lan) -> None:
        """Taken, not begun; restarted and snoozing, it does not run there."""
        one, two = Work(), Work()
        few: dict[str, Any] = {"queues": {"main": {"max_parallel": 1}}}
        origin, peer = await lan.node(), await lan.node(one.app, **few)
        await peer.submit("work", number=0)
        await lan.until(one.begun.wait())
        lan.hold("beat")
        job = await origin.submit("work", number=1)
        await lan.clock.advance(1)
        assert (await job.info())["state"] == "assigned"  # in line at the peer
        lan.heal()
        await peer._house.store.keep_note("snooze", str(lan.clock.wall() + 3600))
        await lan.restart(peer)
        await lan.node(two.app)
        two.go.set()
        assert await lan.until(job.result(), within_s=2) == "done"
        assert (one.runs, two.runs[0]) == ([0], 1)


class TestFromOutside:
    @pytest.fixture
    def offload(self) -> Callable[..., Awaitable[int]]:
        async def command(node: Node, *args: str) -> int:
            where = ("--data-dir", str(node.data_dir.path))
            return await asyncio.to_thread(shell.run, [*args, *where])

        return command

    async def test_the_command_snoozes_and_wakes(
        self,
        lan: Lan,
        offload: Callable[..., Awaitable[int]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        node = await lan.node(Work().app)
        async with Control(node):
            assert await offload(node, "snooze", "90m") == 0
            assert capsys.readouterr().out.startswith("snoozing until ")
            assert await offload(node, "topology") == 0
            assert "snoozing until" in capsys.readouterr().out
            assert await offload(node, "status") == 0
            assert "works       snoozing until" in capsys.readouterr().out
            assert await offload(node, "snooze", "--json") == 0
            assert json.loads(capsys.readouterr().out)["snooze_until"]
            assert await offload(node, "snooze", "off") == 0
            assert capsys.readouterr().out == "does not snooze\n"
            await node.set_processing(enabled=False)
            assert await offload(node, "status") == 0
            assert "works       for nobody: processing is off" in capsys.readouterr().out
            assert await offload(node, "snooze", "soon") == 2
            assert "snooze: 'soon' is no duration" in capsys.readouterr().err

    async def test_clients_have_the_same(self, lan: Lan) -> None:
        node = await lan.node(Work().app)

        def program() -> bool:
            with sync.connect(node.data_dir.path) as client:
                client.snooze("1h")
                return bool(client.wake()["open"])

        async with Control(node):
            assert await asyncio.to_thread(program)
            async with connect(node.data_dir.path) as client:
                assert not (await client.snooze(60))["open"]
                with pytest.raises(UsageError, match="is missing"):
                    await client.snooze(None)  # type: ignore[arg-type]
