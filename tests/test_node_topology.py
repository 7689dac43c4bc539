"""What a node tells of the topology: its view, its events, its listeners (C050-C056)."""

import asyncio

from offload import App
from offload.peers.topology import Kind, TopologyEvent, changes
from offload.testing import Lan


class TestANode:
    async def test_shows_who_is_there(self, lan: Lan) -> None:
        """Issue: instances, leader, own, find by predicate, by topic."""
        app = App()
        app.consumer("text/shout", isolate="thread")(shout)
        ada = await lan.node(name="ada")
        await lan.clock.advance(2)
        bob = await lan.node(app, name="bob")
        await lan.clock.advance(2)
        view = ada.topology
        assert [i.name for i in view.instances] == ["ada", "bob"]
        assert (view.own.name, view.leader.name, view.current) == ("ada", "ada", True)
        assert [i.name for i in view.find(lambda i: not i.own)] == ["bob"]
        assert [i.name for i in view.with_topic("text/shout")] == ["bob"]
        assert view.get(bob.id) in view.instances

    async def test_tells_a_listener_what_changes(self, lan: Lan) -> None:
        """C050: INIT, then CHANGING and CHANGED; the difference says what it was."""
        ada, told = await lan.node(name="ada"), list[TopologyEvent]()
        stop = ada.on_topology(told.append)
        await lan.node(name="bob")
        await lan.clock.advance(2)
        assert [event.kind for event in told[:3]] == [Kind.INIT, Kind.CHANGING, Kind.CHANGED]
        found = changes(told[2].old, told[2].new)
        assert [i.name for i in found.joined] == ["bob"]
        stop()
        await lan.node(name="cid")
        await lan.clock.advance(2)
        assert len(told) == 3

    async def test_yields_the_same_as_an_iterator(self, lan: Lan) -> None:
        ada = await lan.node(name="ada")
        events = ada.topology_events()
        assert (await anext(events)).kind is Kind.INIT
        await lan.node(name="bob")
        await lan.clock.advance(2)
        assert [(await anext(events)).kind for _ in range(2)] == [Kind.CHANGING, Kind.CHANGED]

    async def test_tells_a_listener_that_takes_its_time_all_and_delays_no_other(
        self, lan: Lan
    ) -> None:
        """C050: one that is ``async`` has its own turn; that it fails ends nothing."""
        ada, slow, quick = await lan.node(name="ada"), list[Kind](), list[TopologyEvent]()
        free = asyncio.Event()

        async def listener(event: TopologyEvent) -> None:
            await free.wait()
            slow.append(event.kind)
            raise ValueError(event.kind)

        stop = ada.on_topology(listener)
        assert ada.on_topology(listener) is not None  # once is enough
        ada.on_topology(quick.append)
        await lan.node(name="bob")
        await lan.clock.advance(2)
        assert slow == []
        free.set()
        await lan.settle()
        assert slow == [event.kind for event in quick]
        stop()
        stop()
        await lan.node(name="cid")
        await lan.clock.advance(2)
        assert slow == [event.kind for event in quick[: len(slow)]] != [e.kind for e in quick]

    async def test_alone_leads_and_runs_its_own_jobs(self, lan: Lan) -> None:
        """C055."""
        app = App()
        app.consumer("text/shout", isolate="thread")(shout)
        ada = await lan.node(app, name="ada")
        assert ada.topology.current
        assert ada.topology.leader is ada.topology.own
        assert await lan.until(ada.offload("text/shout", text="hey")) == "HEY"


def shout(text: str) -> str:
    return text.upper()
