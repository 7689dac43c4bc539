"""Instances that tell each other of themselves and of others (C050-C063), on a LAN in memory."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import pytest

from offload.errors import ConfigError, Malformed
from offload.events import Bus
from offload.peers.membership import Membership
from offload.peers.topology import (
    Announcement,
    Fact,
    Gone,
    Heard,
    Kind,
    LoadChanged,
    Restarted,
    Silent,
    Topology,
    TopologyEvent,
)
from offload.peers.transport import Hello, LinkDown, LinkUp

TICK_S = 0.25


class HandClock:
    """Time moves when the test says so."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now(self) -> float:
        return self.time_s

    def wall(self) -> float:
        return self.time_s

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError(
            f"the room sleeps {delay_s} s, but no test runs it: they turn it by hand"
        )


class Instance:
    """A membership whose links are the LAN's, and what it told."""

    def __init__(self, lan: "Lan", name: str, boot: int) -> None:
        self.lan, self.name, self.boot = lan, name, boot
        self.born_s = lan.clock.now()
        self.awake = True
        self.linked: set[str] = set()
        self.bus = Bus()
        topology = Topology(Announcement(name, name.title(), boot), lan.clock.now())
        self.membership = Membership(topology, self, self.bus, lan.clock, event_delay_s=1.0)
        self.handlers = self.membership.handlers()
        self.facts: list[Fact] = []
        self.bus.listen(Fact, self.facts.append)

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        if peer not in self.linked:
            return False
        self.lan.outbox.append((self, self.lan.instances[peer], kind, fields))
        return True

    def drop(self, peer: str, reason: str) -> None:
        self.lan.cut(self.name, peer, reason)

    def release(self, peer: str) -> None:
        self.lan.cut(self.name, peer, "not needed", spare=True)

    def up(self, peer: "Instance") -> None:
        uptime_s = self.lan.clock.now() - peer.born_s
        hello = Hello((1, 1), peer.name, peer.name, "s", peer.boot, "r", 4711, uptime_s)
        self.linked.add(peer.name)
        self.bus.publish(LinkUp(peer.name, hello, "127.0.0.1:4711", dialled=True))

    def down(self, peer: str, reason: str, *, goodbye: bool = False, spare: bool = False) -> None:
        if peer in self.linked:
            self.linked.discard(peer)
            self.bus.publish(LinkDown(peer, reason, goodbye, spare))

    @property
    def members(self) -> list[str]:
        return [i.id for i in self.membership.view.instances]

    def told(self, *kinds: type) -> list[Fact]:
        return [fact for fact in self.facts if isinstance(fact, kinds)]


class Lan:
    """Links in memory; the frames of one instance to another of one kind travel together."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.instances: dict[str, Instance] = {}
        self.outbox: deque[tuple[Instance, Instance, str, dict[str, Any]]] = deque()
        self.frames = 0
        self.kinds: Counter[str] = Counter()

    def start(self, name: str, boot: int = 1) -> Instance:
        self.instances[name] = Instance(self, name, boot)
        return self.instances[name]

    def link(self, one: str, other: str) -> None:
        a, b = self.instances[one], self.instances[other]
        a.up(b)
        b.up(a)
        self.settle()

    def mesh(self, names: Iterable[str]) -> None:
        for name in names:
            self.start(name)
            for other in list(self.instances)[:-1]:
                self.link(other, name)
            self.pass_s(2)

    def cut(
        self, one: str, other: str, reason: str = "connection lost", *, spare: bool = False
    ) -> None:
        for here, there in ((one, other), (other, one)):
            if self.instances[here].awake:
                self.instances[here].down(there, reason, spare=spare)

    def kill(self, name: str) -> None:
        """Its host ends every connection, and refuses new ones."""
        self.instances[name].awake = False
        near = [i for i in self.instances.values() if name in i.linked]
        for instance in near:
            instance.down(name, "connection lost")
            instance.membership.refused(name)
        self.settle()

    def leave(self, name: str) -> None:
        self.instances[name].awake = False
        for instance in list(self.instances.values()):
            instance.down(name, "it leaves", goodbye=True)
        self.settle()

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        for _ in range(1000):
            if not self.outbox:
                return
            messages: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
            while self.outbox:
                source, target, kind, fields = self.outbox.popleft()
                messages.setdefault((source.name, target.name, kind), []).append(fields)
                self.frames += 1
                self.kinds[kind] += 1
            for (name, target_name, kind), frames in messages.items():
                target = self.instances[target_name]
                if target.awake and name in target.linked:
                    target.handlers[kind](name, frames)
        raise AssertionError("frames go round for ever")

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.clock.time_s += TICK_S
            for instance in list(self.instances.values()):
                if instance.awake:
                    instance.membership.tick()
            self.settle()


@pytest.fixture
def lan() -> Lan:
    return Lan()


@pytest.fixture
def trio(lan: Lan) -> Lan:
    """Ann, bob and cid, started in that order, all linked with each other."""
    lan.mesh(["ann", "bob", "cid"])
    for instance in lan.instances.values():
        instance.facts.clear()
    return lan


@pytest.fixture
def chain(lan: Lan) -> Lan:
    """Ann - bob - cid, by static links."""
    for name in ("ann", "bob", "cid"):
        lan.start(name)
    lan.link("ann", "bob")
    lan.link("bob", "cid")
    lan.pass_s(3)
    return lan


class TestThreeInstances:
    def test_see_each_other_in_the_order_of_their_coming(self, trio: Lan) -> None:
        """C056."""
        assert [i.members for i in trio.instances.values()] == [["ann", "bob", "cid"]] * 3

    def test_stay_as_they_are_while_nothing_happens(self, trio: Lan) -> None:
        trio.pass_s(60)
        assert [i.told(Fact) for i in trio.instances.values()] == [[], [], []]

    def test_send_a_beat_a_second_over_each_link_and_no_more(self, trio: Lan) -> None:
        trio.frames = 0
        trio.pass_s(10)
        assert trio.frames == 6 * 10

    def test_answer_a_beat_of_the_lowest_id_by_theirs(self, trio: Lan) -> None:
        """So one packet carries both the beat and the receipt of the other."""
        trio.pass_s(2)
        trio.kinds.clear()
        trio.clock.time_s += 1.0
        trio.instances["ann"].membership.tick()
        trio.settle()
        assert trio.kinds["beat"] == 2 + 2

    def test_hear_of_new_capabilities_at_once(self, trio: Lan) -> None:
        """C062."""
        ann, bob, _ = trio.instances.values()
        ann.membership.announce(capabilities=[("media/*", "main")])
        trio.settle()
        assert [i.id for i in bob.membership.view.with_topic("media/x")] == ["ann"]

    def test_hear_of_a_change_once(self, trio: Lan) -> None:
        trio.frames = 0
        trio.instances["ann"].membership.announce(draining=True)
        trio.settle()
        assert trio.frames == 2

    def test_hear_of_the_load_that_is_meant_for_them(self, trio: Lan) -> None:
        ann, bob, cid = trio.instances.values()
        ann.membership.set_load(lambda peer: {"free": len(peer), "to": peer})
        trio.pass_s(1)
        assert bob.membership.view.get("ann").load == {"free": 3, "to": "bob"}
        assert cid.membership.view.get("ann").load == {"free": 3, "to": "cid"}
        assert bob.told(LoadChanged) == [LoadChanged("ann")]


class TestAMemberThatDies:
    def test_is_gone_at_once_when_its_host_refuses(self, trio: Lan) -> None:
        """C080: confirmed; all neighbours come to it, no time passes."""
        trio.kill("cid")
        for name in ("ann", "bob"):
            assert trio.instances[name].told(Gone) == [
                Gone("cid", "its host refuses", confirmed=True)
            ]

    def test_hands_the_lead_to_the_next(self, trio: Lan) -> None:
        """C056."""
        trio.kill("ann")
        assert trio.instances["cid"].members == ["bob", "cid"]

    def test_comes_back_at_the_end(self, trio: Lan) -> None:
        """C056."""
        trio.kill("ann")
        trio.pass_s(5)
        trio.start("ann", boot=2)
        trio.link("ann", "bob")
        trio.link("ann", "cid")
        trio.pass_s(5)
        assert [i.members for i in trio.instances.values()] == [["bob", "cid", "ann"]] * 3
        assert trio.instances["bob"].told(Restarted) == [Restarted("ann", 2)]

    def test_comes_back_at_the_end_even_before_it_was_missed(self, trio: Lan) -> None:
        trio.cut("ann", "bob")
        trio.cut("ann", "cid")
        trio.start("ann", boot=2)
        trio.link("ann", "bob")
        trio.link("ann", "cid")
        trio.pass_s(5)
        assert [i.members for i in trio.instances.values()] == [["bob", "cid", "ann"]] * 3


class TestARestoredDataDirectory:
    """It counts boots that have been, and its peers would listen to the former life for ever."""

    @pytest.fixture
    def known(self, lan: Lan) -> Lan:
        """Ann and bob know cid in his fifth boot, in which he has beaten thirty times."""
        for name, boot in (("ann", 1), ("bob", 1), ("cid", 5)):
            lan.start(name, boot)
        lan.link("ann", "bob")
        lan.link("bob", "cid")
        lan.pass_s(30)
        lan.cut("bob", "cid")
        return lan

    @pytest.mark.parametrize("boot", [2, 5])
    @pytest.mark.parametrize("gone", [True, False])
    def test_takes_a_boot_that_nobody_knows(self, known: Lan, boot: int, gone: bool) -> None:
        if gone:
            known.kill("cid")
        known.start("cid", boot)
        known.instances["cid"].membership.announce(properties={"restored": True})
        known.link("bob", "cid")
        known.pass_s(3)
        for name in ("ann", "bob"):
            cid = known.instances[name].membership.view.get("cid")
            assert (cid.boot, cid.properties) == (6, {"restored": True})
            assert known.instances[name].told(Restarted) == [Restarted("cid", 6)]
        known.pass_s(20)
        assert known.instances["ann"].members[-1] == "cid"

    def test_raises_nothing_when_it_only_lost_a_link(self, known: Lan) -> None:
        known.link("bob", "cid")
        known.pass_s(3)
        assert known.instances["cid"].membership.own.boot == 5


def test_a_member_that_leaves_is_gone_at_once(trio: Lan) -> None:
    trio.leave("bob")
    assert trio.instances["ann"].told(Gone) == [Gone("bob", "left", confirmed=True)]
    assert trio.instances["ann"].members == ["ann", "cid"]


class TestAMemberThatFreezes:
    @pytest.fixture
    def frozen(self, trio: Lan) -> Lan:
        trio.instances["cid"].awake = False
        return trio

    def test_is_silent_within_six_seconds(self, frozen: Lan) -> None:
        frozen.pass_s(6)
        assert frozen.instances["ann"].told(Silent) == [Silent("cid", "no beats")]

    def test_has_its_link_cut_so_that_a_new_one_can_be_made(self, frozen: Lan) -> None:
        frozen.pass_s(6)
        assert frozen.instances["ann"].linked == {"bob"}

    def test_is_gone_when_its_lease_is_over(self, frozen: Lan) -> None:
        frozen.pass_s(16)
        assert [type(f) for f in frozen.instances["ann"].told(Fact)] == [Silent, Gone]
        assert not frozen.instances["ann"].told(Gone)[0].confirmed  # type: ignore[attr-defined]

    def test_is_a_member_as_before_when_it_wakes_in_time(self, frozen: Lan) -> None:
        """C085: a cable that is out for 8 s changes nothing."""
        frozen.pass_s(8)
        self.wake(frozen)
        frozen.pass_s(10)
        assert [type(f) for f in frozen.instances["ann"].told(Fact)] == [Silent, Heard]
        assert [i.members for i in frozen.instances.values()] == [["ann", "bob", "cid"]] * 3
        assert frozen.instances["cid"].told(Gone, Silent) == []

    @pytest.mark.parametrize("asleep_s", [60, 8 * 3600])
    def test_comes_back_at_the_end_when_it_wakes_late(self, trio: Lan, asleep_s: float) -> None:
        """C056: the one that was away yields, even if it led."""
        trio.instances["ann"].awake = False
        trio.pass_s(30)
        trio.clock.time_s += asleep_s - 30
        trio.pass_s(1)
        self.wake(trio, "ann")
        trio.pass_s(10)
        # to the one that slept the others were never gone: they tell it that it was
        assert [i.members for i in trio.instances.values()] == [["bob", "cid", "ann"]] * 3

    @staticmethod
    def wake(lan: Lan, name: str = "cid") -> None:
        sleeper = lan.instances[name]
        sleeper.awake = True
        for peer in sorted(sleeper.linked):
            sleeper.down(peer, "connection lost")
        for peer in lan.instances:
            if peer != name:
                lan.link(peer, name)


class TestAMemberThatIsSuspected:
    """Ann and dan have lost their link, and hear nothing of each other for a while."""

    @pytest.fixture
    def doubted(self, lan: Lan) -> Lan:
        lan.mesh(["ann", "bob", "cid", "dan"])
        for instance in lan.instances.values():
            instance.facts.clear()
        return lan

    def test_is_asked_for_through_two_others(self, doubted: Lan) -> None:
        doubted.instances["dan"].awake = False
        doubted.pass_s(6)
        doubted.instances["ann"].membership.tick()
        doubted.kinds.clear()
        doubted.pass_s(1)
        # ann, bob and cid ask the two others each, and all have lost him
        assert (doubted.kinds["suspect"], doubted.kinds["seen"]) == (6, 6)

    def test_is_gone_when_they_have_lost_it_too(self, doubted: Lan) -> None:
        doubted.instances["dan"].awake = False
        doubted.pass_s(12)
        for name in ("ann", "bob", "cid"):
            assert doubted.instances[name].told(Gone) == [
                Gone("dan", "silent, and 2 others have lost it too", confirmed=False)
            ]

    def test_learns_of_it_and_refutes_it(self, doubted: Lan) -> None:
        """All learn by a higher incarnation that it lives; nobody has lost it."""
        suspicion = {"id": "dan", "boot": 1, "incarnation": 0, "number": 999}
        doubted.instances["ann"].send("bob", "suspect", suspicion)
        doubted.settle()
        assert doubted.instances["dan"].membership.own.incarnation == 1
        for name in ("ann", "bob", "cid"):
            instance = doubted.instances[name]
            assert instance.membership.view.get("dan") is not None
            assert instance.told(Silent, Gone) == []

    def test_refutes_each_suspicion_once(self, doubted: Lan) -> None:
        suspicion = {"id": "dan", "boot": 1, "incarnation": 0, "number": 999}
        for _ in range(3):
            doubted.instances["ann"].send("dan", "suspect", suspicion)
            doubted.settle()
        assert doubted.instances["dan"].membership.own.incarnation == 1


class TestAWordThatWasLost:
    def test_is_found_by_comparing_sums(self, trio: Lan) -> None:
        """An announcement that never arrived, however that came about, is asked for."""
        trio.instances["ann"].membership.announce(properties={"gpu": True})
        trio.outbox.clear()
        trio.pass_s(6)
        for name in ("bob", "cid"):
            assert trio.instances[name].membership.view.get("ann").properties == {"gpu": True}


class TestAPartitionThatHeals:
    def test_puts_the_smaller_part_at_the_end(self, lan: Lan) -> None:
        """C056: who was cut off does not take the lead back."""
        lan.mesh(["ann", "bob", "cid", "dan", "eve"])
        for lone in ("ann", "bob"):
            for other in ("cid", "dan", "eve"):
                lan.cut(lone, other)
        lan.pass_s(20)
        assert lan.instances["bob"].members == ["ann", "bob"]
        assert lan.instances["dan"].members == ["cid", "dan", "eve"]
        for lone in ("ann", "bob"):
            for other in ("cid", "dan", "eve"):
                lan.link(lone, other)
        lan.pass_s(5)
        assert {tuple(i.members) for i in lan.instances.values()} == {
            ("cid", "dan", "eve", "ann", "bob")
        }


class TestAChain:
    def test_shows_each_end_to_the_other(self, chain: Lan) -> None:
        """C059."""
        assert [i.members for i in chain.instances.values()] == [["ann", "bob", "cid"]] * 3

    def test_carries_a_change_to_the_other_end_at_once(self, chain: Lan) -> None:
        """C059, C058."""
        chain.instances["cid"].membership.announce(properties={"gpu": "rtx4090"})
        chain.settle()
        assert chain.instances["ann"].membership.view.get("cid").properties == {"gpu": "rtx4090"}

    def test_keeps_both_ends_alive(self, chain: Lan) -> None:
        chain.pass_s(60)
        assert chain.instances["ann"].told(Silent, Gone) == []

    @pytest.mark.parametrize("how", ["kill", "leave"])
    def test_tells_the_end_of_one_end_to_the_other(self, chain: Lan, how: str) -> None:
        """C059: cid dies: gone from ann's view."""
        getattr(chain, how)("cid")
        assert chain.instances["ann"].members == ["ann", "bob"]
        assert [fact.confirmed for fact in chain.instances["ann"].told(Gone)] == [True]  # type: ignore[attr-defined]

    def test_lets_a_frozen_end_go_with_its_lease(self, chain: Lan) -> None:
        chain.instances["cid"].awake = False
        chain.pass_s(18)
        assert chain.instances["ann"].members == ["ann", "bob"]

    def test_shows_one_that_comes_back(self, chain: Lan) -> None:
        chain.kill("cid")
        chain.pass_s(3)
        chain.start("cid", boot=2)
        chain.link("bob", "cid")
        chain.pass_s(3)
        assert chain.instances["ann"].members == ["ann", "bob", "cid"]

    def test_loses_both_ends_when_the_middle_dies(self, chain: Lan) -> None:
        chain.kill("bob")
        chain.pass_s(18)
        assert chain.instances["ann"].members == ["ann"]
        assert chain.instances["cid"].members == ["cid"]


class TestARing:
    @pytest.fixture
    def ring(self, chain: Lan) -> Lan:
        chain.link("cid", "ann")
        chain.pass_s(3)
        return chain

    def test_shows_every_instance_once(self, ring: Lan) -> None:
        """C059."""
        assert [sorted(i.members) for i in ring.instances.values()] == [["ann", "bob", "cid"]] * 3

    @pytest.mark.parametrize("refuses", [False, True])
    def test_loses_nobody_when_a_link_is_cut(self, ring: Lan, refuses: bool) -> None:
        """C059: nor when a firewall refuses in the place of the other end."""
        ring.cut("cid", "ann")
        for second in range(30):
            if refuses:
                ring.instances["ann"].membership.refused("cid")
                ring.instances["cid"].membership.refused("ann")
            ring.pass_s(1)
            assert [len(i.members) for i in ring.instances.values()] == [3] * 3, second
        assert ring.instances["ann"].told(Gone, Silent) == []

    def test_lets_a_dead_one_go(self, ring: Lan) -> None:
        ring.kill("cid")
        assert ring.instances["ann"].members == ["ann", "bob"]
        assert ring.instances["bob"].members == ["ann", "bob"]


class TestALongRing:
    def test_carries_a_change_around_once(self, lan: Lan) -> None:
        names = [f"i{n}" for n in range(8)]
        for name in names:
            lan.start(name)
        for one, other in zip(names, [*names[1:], names[0]], strict=True):
            lan.link(one, other)
        lan.pass_s(5)
        lan.frames = 0
        lan.instances["i3"].membership.announce(draining=True)
        lan.settle()
        assert all(i.membership.view.get("i3").draining for i in lan.instances.values())
        assert lan.frames <= 2 * len(names)


def test_a_hub_with_fifty_spokes_shows_everyone_to_everyone(lan: Lan) -> None:
    """C060."""
    lan.start("hub")
    for n in range(50):
        lan.start(f"s{n}")
        lan.link("hub", f"s{n}")
    lan.pass_s(2)
    assert {len(i.members) for i in lan.instances.values()} == {51}
    assert len({tuple(i.members) for i in lan.instances.values()}) == 1
    assert lan.instances["s7"].members[0] == "hub"


def test_an_instance_with_many_messages_is_judged_by_its_beats_only(trio: Lan) -> None:
    """C063: a property that changes all the time disturbs nobody."""
    for step in range(100):
        trio.instances["ann"].membership.announce(properties={"step": step})
        trio.pass_s(0.25)
    assert trio.instances["bob"].membership.view.get("ann").properties == {"step": 99}
    assert trio.instances["bob"].told(Silent, Gone) == []


class TestAnInstanceWhoseLoopStoodStill:
    def test_declares_nobody_silent(self, trio: Lan) -> None:
        trio.clock.time_s += 8 * 3600
        trio.instances["ann"].membership.tick()
        trio.settle()
        assert trio.instances["ann"].told(Silent, Gone) == []

    def test_makes_up_for_no_beats(self, trio: Lan) -> None:
        trio.clock.time_s += 8 * 3600
        trio.frames = 0
        trio.instances["ann"].membership.tick()
        trio.instances["ann"].membership.tick()
        assert len(trio.outbox) == 2


class TestFramesThatAreMalformed:
    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            ("announce", {}),
            ("announce", {"announcement": {"id": "x y"}}),
            ("announce", {"announcement": {"id": "dan", "name": "Dan"}, "knew": [1, 2]}),
            ("announce", {"announcement": {"id": "dan", "name": "Dan"}, "part": [1]}),
            ("beat", {"number": -1}),
            ("beat", {"number": 1, "load": 7}),
            ("beat", {"number": 1, "others": {"cid": [1]}}),
            ("beat", {"number": 1, "others": [1]}),
            ("beat", {"number": 1, "links": {"cid": 1}}),
            ("beat", {"number": 1, "links": [7]}),
            ("forget", {"id": "cid", "boot": "x"}),
            ("forget", {"id": "cid", "reason": 7}),
            ("beat", {"number": 1, "sums": [1, 2]}),
            ("beat", {"number": 1, "sums": ["x"] * 16}),
            ("suspect", {"id": "x y"}),
            ("suspect", {"id": "cid", "boot": -1}),
            ("seen", {"id": "cid", "boot": 1, "number": 1}),
            ("digest", {"buckets": [1]}),
            ("digest", {"buckets": 1, "known": {}}),
            ("digest", {"buckets": [1], "known": {"cid": [1, 2]}}),
            ("pull", {"ids": 7}),
        ],
        ids=str,
    )
    def test_are_refused_and_change_nothing(
        self, trio: Lan, kind: str, fields: dict[str, Any]
    ) -> None:
        ann = trio.instances["ann"]
        with pytest.raises(Malformed):
            ann.handlers[kind]("bob", [fields])
        assert ann.members == ["ann", "bob", "cid"]

    def test_do_not_spoil_the_others_of_the_message(self, trio: Lan) -> None:
        ann = trio.instances["ann"]
        good = {"announcement": Announcement("dan", "Dan", 1).to_wire(), "number": 1}
        with pytest.raises(Malformed):
            ann.handlers["announce"]("bob", [{}, good])
        assert "dan" in ann.members


class TestAListener:
    def test_has_init_at_once_and_first(self, trio: Lan) -> None:
        """C050, C051."""
        told: list[TopologyEvent] = []
        trio.instances["ann"].membership.listen(told.append)
        assert [e.kind for e in told] == [Kind.INIT]

    def test_has_init_at_the_end_of_a_change_under_way(self, trio: Lan) -> None:
        """C051: INIT, not CHANGED."""
        told: list[TopologyEvent] = []
        trio.kill("cid")
        trio.instances["ann"].membership.listen(told.append)
        assert told == []
        trio.pass_s(2)
        assert [e.kind for e in told] == [Kind.INIT]

    def test_has_a_view_that_is_not_current_while_a_change_is_under_way(self, trio: Lan) -> None:
        trio.kill("cid")
        assert not trio.instances["ann"].membership.view.current
        trio.pass_s(2)
        assert trio.instances["ann"].membership.view.current

    def test_has_events_once_though_it_was_bound_twice(self, trio: Lan) -> None:
        """C050."""
        told: list[TopologyEvent] = []
        membership = trio.instances["ann"].membership
        listener = told.append
        membership.listen(listener)
        membership.listen(listener)
        trio.kill("cid")
        trio.pass_s(2)
        assert [e.kind for e in told] == [Kind.INIT, Kind.CHANGING, Kind.CHANGED]

    def test_that_raises_breaks_no_other(self, trio: Lan, caplog: pytest.LogCaptureFixture) -> None:
        """C050."""
        told: list[TopologyEvent] = []

        def broken(_event: TopologyEvent) -> None:
            raise RuntimeError("broken")

        membership = trio.instances["ann"].membership
        membership.listen(broken)
        membership.listen(told.append)
        trio.instances["bob"].membership.announce(draining=True)
        trio.settle()
        assert [e.kind for e in told] == [Kind.INIT, Kind.PROPERTIES_CHANGED]
        assert "a listener of topology events failed" in caplog.text

    def test_that_changes_something_leaves_the_order_to_the_others(self, trio: Lan) -> None:
        """C050: the same order for all listeners."""
        membership = trio.instances["ann"].membership
        told: list[str] = []

        def meddler(event: TopologyEvent) -> None:
            if event.kind is Kind.CHANGED:
                membership.announce(draining=True)

        membership.listen(meddler)
        membership.listen(lambda event: told.append(event.kind))
        trio.kill("cid")
        trio.pass_s(2)
        assert told == ["init", "changing", "changed", "properties_changed"]

    def test_that_comes_while_others_are_told_begins_with_init(self, trio: Lan) -> None:
        """C050, C051."""
        membership = trio.instances["ann"].membership
        told: list[str] = []
        late = lambda event: told.append(event.kind)  # noqa: E731 - it needs a name to be bound
        membership.listen(lambda event: event.kind is Kind.CHANGED and membership.listen(late))
        trio.kill("cid")
        trio.pass_s(2)
        membership.announce(draining=True)
        assert told == ["init", "properties_changed"]

    def test_has_no_more_events_when_it_has_ended(self, trio: Lan) -> None:
        told: list[TopologyEvent] = []
        stop = trio.instances["ann"].membership.listen(told.append)
        stop()
        trio.kill("cid")
        assert [e.kind for e in told] == [Kind.INIT]

    async def test_may_take_its_time_as_an_iterator(self, trio: Lan) -> None:
        """C050: a slow one delays no other."""
        events = trio.instances["ann"].membership.events()
        assert (await anext(events)).kind is Kind.INIT
        trio.kill("cid")
        trio.pass_s(2)
        assert [(await anext(events)).kind for _ in range(2)] == [Kind.CHANGING, Kind.CHANGED]
        await events.aclose()  # type: ignore[attr-defined]


class TestABeatAtOnce:
    async def test_is_sent_once_however_often_it_is_asked_for(self, trio: Lan) -> None:
        ann, bob, _ = trio.instances.values()
        ann.membership.set_load(lambda _peer: {"free": 9})
        for _ in range(100):
            ann.membership.beat_now("bob")
        await asyncio.sleep(0)
        assert len(trio.outbox) == 1
        trio.settle()
        assert bob.membership.view.get("ann").load == {"free": 9}

    async def test_is_not_sent_to_one_without_a_link(self, trio: Lan) -> None:
        trio.instances["ann"].membership.beat_now("nobody")
        await asyncio.sleep(0)
        assert not trio.outbox


def test_a_bad_property_is_refused_and_nothing_said(trio: Lan) -> None:
    """C058."""
    with pytest.raises(ConfigError):
        trio.instances["ann"].membership.announce(properties={"a b": 1})
    assert not trio.outbox
