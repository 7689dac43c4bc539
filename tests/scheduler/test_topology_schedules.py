"""
Schedules of the whole topology: each firing makes one job, whoever leads and whoever dies (C044).

Every minute on the minute; the LAN's clock begins 40 s before one.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from offload import App, Node
from offload.config import Config
from offload.errors import PeerUnreachable, Refused, UsageError
from offload.node.house import House
from offload.scheduler.accord import GATHER_S
from offload.scheduler.records import Condition, name_of
from offload.testing import Lan
from offload.work.jobs import Options

EVERY = {"every": "1m", "scope": "topology"}


class Three:
    """Ada, who leads, Bob and Cleo; what is scheduled runs where it is made."""

    def __init__(self, lan: Lan, count: Any) -> None:
        self.lan, self.count, self.nodes = lan, count, dict[str, Node]()

    async def open(self, *names: str, **config: Any) -> None:
        kept = {"main": {"keep": True}}  # so that it shows who has made which job
        for name in names:
            node = await self.lan.node(self.count.app, name=name, queues=kept, **config)
            self.nodes[name] = node
            await self.lan.clock.advance(GATHER_S)  # the longest-standing one leads

    def __getattr__(self, name: str) -> Node:
        return self.nodes[name]

    async def crash(self, name: str) -> None:
        await self.lan.crash(self.nodes[name])

    async def restart(self, name: str) -> None:
        self.nodes[name] = await self.lan.restart(self.nodes[name])

    async def to_the_firing(self, more_s: float = 0.0) -> None:
        """Let time pass until the next full minute."""
        left = -self.lan.clock.wall() % 60
        await self.lan.clock.advance((left or 60.0) + more_s)

    @property
    def ran(self) -> int:
        return len(self.count.ran)


@pytest.fixture
async def three(lan: Lan, count: Any) -> Three:
    nodes = Three(lan, count)
    await nodes.open("ada", "bob", "cleo")
    assert nodes.cleo.topology.leader.name == "ada"
    return nodes


class TestAScheduleOfTheTopology:
    async def test_is_known_to_all_and_fired_by_the_leader(self, three: Three) -> None:
        made = await three.cleo.schedule("count/it", **EVERY)
        await three.lan.settle()
        for node in three.nodes.values():
            [known] = await node.schedules()
            assert (known["id"], known["fires_name"]) == (made["id"], "ada")
        for n in range(3):
            await three.to_the_firing(1)
            assert three.ran == n + 1
        assert [len(await node.jobs()) for node in three.nodes.values()] == [3, 0, 0]

    async def test_reaches_those_who_come_later(self, three: Three) -> None:
        await three.ada.schedule("count/it", **EVERY)
        await three.open("dora")
        assert len(await three.dora.schedules()) == 1

    async def test_is_suspended_resumed_and_removed_from_anywhere(self, three: Three) -> None:
        made = await three.ada.schedule("count/it", **EVERY)
        await three.lan.settle()
        await three.bob.suspend_schedule(made["id"])
        await three.to_the_firing(1)
        assert three.ran == 0
        await three.cleo.resume_schedule(made["id"])
        await three.to_the_firing(1)
        assert three.ran == 1
        await three.bob.remove_schedule(made["id"])
        await three.to_the_firing(1)
        assert (three.ran, await three.ada.schedules()) == (1, [])

    async def test_that_was_removed_is_not_brought_back_by_one_who_was_away(
        self, three: Three
    ) -> None:
        made = await three.ada.schedule("count/it", **EVERY)
        await three.lan.settle()
        await three.crash("cleo")
        await three.ada.remove_schedule(made["id"])
        await three.restart("cleo")
        await three.to_the_firing(10)
        found = [await node.schedules() for node in three.nodes.values()]
        assert (three.ran, found) == (0, [[], [], []])

    async def test_of_one_moment_vanishes_everywhere(self, three: Three) -> None:
        """C010."""
        await three.bob.schedule("count/it", at="2023-11-14T22:14Z", scope="topology")
        await three.lan.settle()
        await three.to_the_firing(1)
        assert three.ran == 1
        assert [await node.schedules() for node in three.nodes.values()] == [[], [], []]
        for name in three.nodes:
            await three.restart(name)
        await three.lan.clock.advance(30)
        assert three.ran == 1

    async def test_takes_nothing_that_names_a_place_on_one_disk(self, three: Three) -> None:
        with pytest.raises(UsageError, match=r"^into: "):
            await three.ada.options(into="/tmp").schedule("count/it", **EVERY)


class TestTheLeaderDies:
    """C044: no double, and no miss longer than detection + 1 s."""

    @pytest.fixture
    async def planned(self, three: Three) -> Three:
        await three.cleo.schedule("count/it", **EVERY)
        await three.lan.settle()
        return three

    async def test_between_two_firings(self, planned: Three) -> None:
        await planned.to_the_firing(1)
        await planned.crash("ada")
        await planned.to_the_firing(1)
        assert planned.ran == 2
        assert (await planned.cleo.schedules())[0]["fires_name"] == "bob"

    async def test_and_the_next_and_all_come_back(self, planned: Three) -> None:
        for n, name in enumerate(("ada", "bob", "cleo")):
            await planned.to_the_firing(1)
            assert planned.ran == n + 1
            await planned.crash(name)
            if name != "cleo":
                await planned.lan.clock.advance(1)
        for name in planned.nodes:
            await planned.restart(name)
        await planned.to_the_firing(10)
        assert planned.ran == 4

    async def test_just_before_a_firing(self, planned: Three) -> None:
        await planned.to_the_firing(-0.01)
        await planned.crash("ada")
        await planned.lan.clock.advance(1)
        assert planned.ran == 1

    async def test_before_anybody_heard_of_the_firing(self, planned: Three) -> None:
        planned.lan.hold("firing")
        await planned.to_the_firing()
        assert planned.ran == 0
        await planned.crash("ada")
        planned.lan.heal()
        await planned.lan.clock.advance(1)
        assert planned.ran == 1
        await planned.restart("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 1, "back again, it makes what it began if nobody else has"
        await planned.to_the_firing(1)
        assert planned.ran == 2

    async def test_and_hears_of_what_the_others_did_by_asking_only(self, planned: Three) -> None:
        planned.lan.hold("firing")
        await planned.to_the_firing()
        await planned.crash("ada")
        planned.lan.heal()
        await planned.lan.clock.advance(1)
        planned.lan.lose(1.0, "schedule")
        await planned.restart("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 1

    async def test_before_the_others_allow_it(self, planned: Three) -> None:
        planned.lan.hold("allowed")
        await planned.to_the_firing()
        assert planned.ran == 0
        await planned.crash("ada")
        planned.lan.heal()
        await planned.lan.clock.advance(1)
        assert planned.ran == 1
        await planned.restart("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 1

    async def test_before_it_told_anybody_that_all_have_allowed_it(
        self, planned: Three, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accord = planned.ada._house.scheduler._accord
        ask = accord.agreed

        async def mute(firings: Any, *, sure: bool = False) -> set[tuple[str, float]]:
            if sure:
                await planned.lan.clock.sleep(1e6)
            return await ask(firings, sure=sure)

        monkeypatch.setattr(accord, "agreed", mute)
        await planned.to_the_firing()
        await planned.crash("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 1, "the next leader made it"
        await planned.restart("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 1

    async def test_when_one_alone_knows_that_it_is_sure(
        self, planned: Three, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        links = planned.ada._house.scheduler._accord._links
        send = links.send

        def to_cleo(peer: str, kind: str, fields: dict[str, Any]) -> bool:
            if kind == "firing" and fields["sure"] and peer != planned.cleo.id:
                return True
            return send(peer, kind, fields)

        monkeypatch.setattr(links, "send", to_cleo)
        await planned.to_the_firing()
        await planned.crash("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 0, "perhaps it was made: Bob, who leads now, has learned so of Cleo"
        await planned.restart("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 1

    async def test_after_it_has_decided(
        self, planned: Three, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def stuck(*_args: Any) -> None:
            await planned.lan.clock.sleep(1e6)

        monkeypatch.setattr(planned.ada._house.scheduler, "_add_job", stuck)
        await planned.to_the_firing()
        await planned.crash("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 0, "the job is on its disk, as any that it was given"
        await planned.restart("ada")
        await planned.lan.clock.advance(20)
        assert planned.ran == 1

    async def test_with_the_only_one_that_heard(self, planned: Three) -> None:
        planned.lan.cut(planned.ada, planned.cleo)
        planned.lan.hold("allowed")
        await planned.to_the_firing()
        await planned.crash("ada")
        planned.lan.heal()
        await planned.crash("bob")
        await planned.lan.clock.advance(1)
        assert planned.ran == 1
        for name in ("ada", "bob"):
            await planned.restart(name)
        await planned.lan.clock.advance(20)
        assert planned.ran == 1

    async def test_with_doubled_and_lost_frames(self, planned: Three) -> None:
        kinds = ("firing", "allowed", "schedule")
        planned.lan.double(0.5, *kinds)
        planned.lan.lose(0.3, *kinds)
        for n in range(5):
            await planned.to_the_firing(5)
            assert planned.ran == n + 1


class TestAChangeOfLeader:
    async def test_by_leaving_is_smooth(self, three: Three) -> None:
        await three.ada.schedule("count/it", **EVERY)
        await three.lan.settle()
        three.ada._house.membership.announce(draining=True)
        await three.to_the_firing(1)
        assert [len(await node.jobs()) for node in three.nodes.values()] == [0, 1, 0]

    async def test_while_it_was_frozen_is_noticed(
        self, three: Three, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C081: it wakes late, and asks before it makes up for what it has missed."""
        await three.ada.schedule("count/it", **EVERY)
        await three.lan.settle()
        scheduler = three.ada._house.scheduler
        frozen = True

        async def freeze(rest: Callable[..., Any], wait_s: float) -> None:
            await rest(wait_s)
            while frozen:
                await three.lan.clock.sleep(1)

        rest = scheduler._rest
        monkeypatch.setattr(scheduler, "_rest", lambda wait_s: freeze(rest, wait_s))
        scheduler._wake.set()
        three.lan.cut(three.ada)
        await three.lan.clock.advance(100)  # bob leads, and fires twice
        assert three.ran == 2
        three.lan.heal()
        await three.lan.settle()
        frozen = False
        await three.lan.clock.advance(15)
        assert three.ran == 2

    async def test_when_parts_meet_again_goes_on_once(self, three: Three) -> None:
        await three.ada.schedule("count/it", **EVERY)
        await three.lan.settle()
        three.lan.cut(three.ada)
        await three.lan.clock.advance(120)
        three.lan.heal()
        await three.lan.settle()
        before = three.ran
        for n in range(3):
            await three.to_the_firing(5)
            assert three.ran == before + n + 1

    async def test_does_not_happen_to_one_that_starts(self, three: Three) -> None:
        """Alone in its first moments, it leads only itself, and waits for the others."""
        await three.ada.schedule("count/it", **EVERY)
        await three.lan.settle()
        await three.crash("cleo")
        await three.to_the_firing(30)
        await three.restart("cleo")
        await three.lan.clock.advance(10)
        assert three.ran == 1


class TestAChain:
    """C059: ada and cleo are not linked; bob passes on."""

    @pytest.fixture
    async def chain(self, three: Three, monkeypatch: pytest.MonkeyPatch) -> Three:
        for one, other in (("ada", "cleo"), ("cleo", "ada")):
            ends = three.nodes[one], three.nodes[other].id
            monkeypatch.setattr(ends[0]._house.transport, "dial", _refusing(ends))
        three.ada._house.transport.drop(three.cleo.id, "a chain")
        await three.lan.settle()
        assert three.cleo.id not in three.ada.topology_json()["instances"][0]
        assert three.cleo.id not in three.ada._house.transport.peers()
        return three

    async def test_knows_what_is_scheduled_at_its_end(self, chain: Three) -> None:
        await chain.cleo.schedule("count/it", **EVERY)
        await chain.lan.settle()
        assert len(await chain.ada.schedules()) == 1
        await chain.to_the_firing(1)
        assert chain.ran == 1
        assert (await chain.cleo.schedules())[0]["last"] == "2023-11-14T22:14:00+00:00"


def _refusing(ends: tuple[Node, str]) -> Any:
    node, barred = ends
    dial = node._house.transport.dial

    async def picky(host: str, port: int, want: str | None = None) -> str:
        if want == barred:
            raise PeerUnreachable(f"{host}:{port}", "there is no way")
        return await dial(host, port, want)

    return picky


class TestAConfiguredOne:
    TABLE = {"topic": "count/it", "every": "1m", "scope": "topology"}  # noqa: RUF012

    async def test_on_all_fires_once(self, lan: Lan, count: Any) -> None:
        three = Three(lan, count)
        await three.open("ada", "bob", "cleo", schedules=[self.TABLE])
        for n in range(2):
            await three.to_the_firing(1)
            assert three.ran == n + 1

    async def test_on_one_is_fired_by_the_leader_too(self, lan: Lan, count: Any) -> None:
        three = Three(lan, count)
        await three.open("ada")
        await three.open("bob", schedules=[self.TABLE])
        await three.to_the_firing(1)
        assert [len(await node.jobs()) for node in three.nodes.values()] == [1, 0]
        assert [s["declared"] for s in await three.ada.schedules()] == [False]

    async def test_comes_to_all_without_a_restart(self, lan: Lan, count: Any) -> None:
        three = Three(lan, count)
        await three.open("ada", "bob")
        bob = three.nodes["bob"]
        config = bob.config.model_copy(
            update={"schedules": Config.make(schedules=[self.TABLE]).schedules}
        )
        await bob.reload(config)
        await three.to_the_firing(1)
        assert [len(await node.jobs()) for node in three.nodes.values()] == [1, 0]
        await bob.reload(bob.config.model_copy(update={"schedules": ()}))
        await lan.clock.advance(1)
        assert await three.ada.schedules() == []

    async def test_outlives_its_removal_elsewhere(self, lan: Lan, count: Any) -> None:
        three = Three(lan, count)
        await three.open("ada")
        await three.open("bob", schedules=[self.TABLE])
        [made] = await three.ada.schedules()
        with pytest.raises(Refused, match="configuration"):
            await three.bob.remove_schedule(made["id"])
        await three.ada.remove_schedule(made["id"])
        await lan.settle()
        assert [len(await node.schedules()) for node in three.nodes.values()] == [1, 1]

    async def test_goes_when_nobody_declares_it(self, lan: Lan, count: Any) -> None:
        three = Three(lan, count)
        await three.open("ada")
        await three.open("bob", schedules=[self.TABLE])
        three.bob._rules.follow(three.bob.config.model_copy(update={"schedules": ()}))
        await three.restart("bob")
        assert [len(await node.schedules()) for node in three.nodes.values()] == [0, 0]


class TestWhatAPeerSays:
    """C115, C116: it makes no instance read or write a place of the peer's choice."""

    @pytest.fixture
    async def pair(self, lan: Lan) -> tuple[Node, Node]:
        return await lan.node(App(), name="ada"), await lan.node(App(), name="bob")

    @pytest.mark.parametrize(
        "change",
        [
            {"files": [["/etc/passwd", "x"]]},
            {"options": {"into": "/etc"}},
            {"options": {"key": "x"}},
            {"options": {"policy": "moon-first"}},
            {"options": {"timeout_s": float("nan")}},
            {"options": {"needs": 5}},
            {"scope": "instance"},
            {"kind": "sometimes"},
            {"value": "99:99"},
            {"zone": "../../etc/passwd"},
            {"payload": b"x" * 100_000},
            {"version": -1},
            {"since": float("nan")},
            {"topic": "a//b"},
            {"fields": {"a": []}},
        ],
        ids=str,
    )
    async def test_is_ignored_if_it_is_wrong(
        self, lan: Lan, pair: tuple[Node, Node], change: dict[str, Any]
    ) -> None:
        ada, bob = pair
        await ada.schedule("count/it", daily="10:05", scope="topology")
        wire = ada._house.book.all()[0].schedule.to_wire()
        await lan.crash(bob)
        bob = await lan.restart(bob)
        sent = {"id": "x", "fired": 0.0, "by": "", "sure": True, "schedule": wire | {"topic": "o"}}
        sent["schedule"] |= change
        assert ada._house.transport.send(bob.id, "schedule", sent)
        await lan.settle()
        assert [s["topic"] for s in await bob.schedules()] == ["count/it"]

    async def test_is_not_taken_in_if_it_was_removed_long_ago(
        self, lan: Lan, pair: tuple[Node, Node]
    ) -> None:
        """Else those who have forgotten it would go on telling it to each other."""
        ada, bob = pair
        await ada.schedule("count/it", daily="10:05", scope="topology")
        [entry] = ada._house.book.all()
        for days, taken in ((31, False), (29, True)):
            removed_at = lan.clock.wall() - days * 86_400
            removed = replace(entry.schedule.changed(Condition.REMOVED, removed_at), topic="o")
            merged = bob._house.book.merge(replace(removed, id=name_of(removed)))
            assert (merged is not None) is taken

    async def test_is_answered_if_it_makes_no_sense(
        self, lan: Lan, pair: tuple[Node, Node]
    ) -> None:
        ada, bob = pair
        for kind in ("schedule", "firing", "allowed"):
            for fields in ({}, {"id": 7}, {"id": "x", "due": "now", "fired": None, "by": ""}):
                ada._house.transport.send(bob.id, kind, fields)
        await lan.settle()
        assert await bob.schedules() == []
        assert ada.topology.get(bob.id) is not None


class TestWhateverHappens:
    @pytest.mark.parametrize("seed", range(8))
    async def test_each_firing_makes_one_job(
        self, lan: Lan, count: Any, made: set[tuple[str, str]], seed: int
    ) -> None:
        """C044: deaths at any step of the agreement, lost answers, and leaders that come back."""
        chance = random.Random(seed)
        three = Three(lan, count)
        await three.open("ada", "bob", "cleo")
        await three.ada.schedule("count/it", every="10s", scope="topology", misfire="all")
        await lan.settle()
        start, down = lan.clock.wall(), set[str]()
        for _ in range(25):
            lan.hold(*chance.choice(((), ("firing",), ("allowed",), ("schedule",))))
            await lan.clock.advance(-lan.clock.wall() % 10 or 10.0)
            await lan.clock.advance(chance.choice((0.0, 0.0, 0.3, 0.6, 3.0)))
            name = chance.choice(sorted(three.nodes))
            if name in down:
                down.discard(name)
                lan.heal()
                await three.restart(name)
            elif len(down) < 2 and chance.random() < 0.7:
                down.add(name)
                await three.crash(name)
            lan.heal()
            await lan.clock.advance(chance.choice((0.0, 1.0, 5.0)))
        for name in sorted(down):
            await three.restart(name)
        await lan.clock.advance(67 - lan.clock.wall() % 10)
        span = range(int(start // 10) + 1, int(lan.clock.wall() // 10) + 1)
        moments = [datetime.fromtimestamp(n * 10, UTC).isoformat() for n in span]
        assert sorted(at for at, _ in made) == moments


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Is added to with each job for a schedule: the moment that it is for, and who made it."""
    found: set[tuple[str, str]] = set()
    add = House.add

    async def noting(self: House, topic: str, encoded: Any, options: Options) -> Any:
        job = await add(self, topic, encoded, options)
        found.add((options.key.split("/")[-1], self.id))
        return job

    monkeypatch.setattr(House, "add", noting)
    return found
