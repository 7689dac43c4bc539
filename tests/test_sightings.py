"""What happened in the topology, and how it is shown (issue 4, line 7)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from offload import App, Node
from offload.cli import drawing, shell
from offload.client import connect
from offload.sightings import KEPT
from offload.testing import Lan
from offload.web.control import Control

Command = Callable[..., Awaitable[int]]


def told(node: Node, name: str) -> list[tuple[str, str]]:
    """Return what ``node`` tells of the instance ``name``: kind and text."""
    return [(e["kind"], e["text"]) for e in node.topology_history(KEPT) if e["name"] == name]


class TestTheHistory:
    async def test_tells_who_came_and_went_and_why(self, lan: Lan) -> None:
        node = await lan.node(name="desk")
        peer = await lan.node(App(), name="peer")
        await lan.clock.advance(2)
        await lan.crash(peer)
        await lan.clock.advance(2)
        happened = [entry for entry in told(node, "peer") if entry[0] != "leader"]
        assert [kind for kind, _ in happened[:4]] == ["linked", "appeared", "unlinked", "gone"]
        assert happened[3] == ("gone", "its host refuses")

    async def test_tells_of_a_goodbye(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="peer")
        lan._nodes.remove(peer)
        await peer.__aexit__(None, None, None)
        await lan.settle()
        assert ("unlinked", "it said goodbye") in told(node, "peer")
        assert ("gone", "left") in told(node, "peer")

    async def test_tells_of_silence_and_of_another_life(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="peer")
        lan.cut(peer)
        await lan.clock.advance(8)
        assert "silent" in dict(told(node, "peer"))
        lan.heal()
        await lan.clock.advance(3)
        assert "heard" in dict(told(node, "peer"))
        await lan.restart(peer)
        await lan.clock.advance(1)
        assert ("restarted", "boot 2") in told(node, "peer")

    async def test_tells_what_has_changed(self, lan: Lan) -> None:
        app = App()

        @app.consumer("mail")
        async def mail() -> None:
            return None

        node, peer = await lan.node(name="desk"), await lan.node(app, name="peer")
        await peer.topics.disable("mail")
        await lan.settle()
        peer.add_properties(lambda: {"sun": True})
        await lan.clock.advance(1)
        app.remove(mail)
        await lan.clock.advance(1)
        changes = [text for kind, text in told(node, "peer") if kind == "changed"]
        assert "topic mail removed; topic mail disabled" in changes
        assert "property sun" in changes
        assert "topic mail enabled" in changes  # it is not there any more

    async def test_tells_who_leads(self, lan: Lan) -> None:
        first = await lan.node(name="first")
        await lan.clock.advance(3)
        node = await lan.node(name="desk")
        await lan.clock.advance(3)
        await lan.crash(first)
        await lan.clock.advance(4)
        leaders = [e["name"] for e in node.topology_history() if e["kind"] == "leader"]
        assert leaders[-2:] == ["first", "desk"]

    async def test_is_bounded_and_keeps_what_is_restless_once(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="peer")
        for step in range(50):
            peer._house.membership.announce(properties={"step": step})
            await lan.settle()
        assert [text for kind, text in told(node, "peer") if kind == "changed"] == ["property step"]
        first = node.topology_history()[0]
        for _ in range(KEPT):  # of two, in turns: the other changes are not drowned
            node._house.sightings._note("changed", node.id, "property step")
            node._house.sightings._note("changed", peer.id, "property step")
        assert node.topology_history(KEPT)[0] == first
        for step in range(2 * KEPT):
            node._house.sightings._note("changed", peer.id, str(step))
        assert len(node.topology_history(10 * KEPT)) == KEPT
        assert [e["text"] for e in node.topology_history(1)] == [str(2 * KEPT - 1)]


class TestALink:
    async def test_is_described(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="peer")
        await lan.clock.advance(3)
        shown = {i["name"]: i for i in node.topology_json()["instances"]}
        link = shown["peer"]["link"]
        assert (link["rtt_s"], link["clock_ahead_s"]) == (0.0, 0.0)
        assert link["protocol"] == [1, 1]
        assert shown["desk"]["link"] is None
        assert shown["desk"]["trust"] == "own"
        assert shown["peer"]["trust"] == "insecure"  # links in memory are plain
        assert (shown["desk"]["links"], shown["peer"]["links"]) == ([peer.id], [])

    async def test_is_described_by_those_at_its_ends(self, lan: Lan) -> None:
        """A chain: desk - near - far."""
        desk = await lan.node(name="desk")
        far_app = App()
        near = await lan.node(name="near")
        lan.cut(desk)
        lan._switch.cuts.discard(frozenset((desk.id, near.id)))
        far = await _node_behind(lan, far_app, desk, near)
        await lan.clock.advance(3)
        shown = {i["name"]: i for i in desk.topology_json()["instances"]}
        assert not shown["far"]["linked"]
        assert shown["near"]["links"] == [far.id]
        lines = drawing.tree(desk.topology_json())
        assert lines[0].startswith("desk (own")
        assert lines[1].startswith("└─ near")
        assert lines[2].startswith("   └─ far")
        assert "no link from here" in lines[2]
        edges = [line for line in drawing.dot(desk.topology_json()).splitlines() if "--" in line]
        assert len(edges) == 2


async def _node_behind(lan: Lan, app: App, desk: Node, near: Node) -> Node:
    """Open a node that ``desk`` cannot reach."""
    watched = lan._switch.is_cut

    def is_cut(one: str, other: str) -> bool:
        known = {desk.id, near.id}
        return watched(one, other) or (desk.id in (one, other) and not {one, other} <= known)

    lan._switch.is_cut = is_cut  # type: ignore[method-assign]
    return await lan.node(app, name="far")


class TestFromOutside:
    @pytest.fixture
    async def node(self, lan: Lan) -> AsyncIterator[Node]:
        node = await lan.node(name="desk")
        await lan.node(name="peer")
        await lan.clock.advance(3)
        async with Control(node):
            yield node

    @pytest.fixture
    def offload(self, node: Node) -> Command:
        async def command(*args: str) -> int:
            where = ("--data-dir", str(node.data_dir.path))
            return await asyncio.to_thread(shell.run, [*args, *where])

        return command

    async def test_the_history_is_a_table_and_json(
        self, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("topology", "history") == 0
        assert "peer      appeared" in capsys.readouterr().out
        assert await offload("topology", "history", "--json", "--limit", "2") == 0
        found = json.loads(capsys.readouterr().out)
        assert len(found) == 2
        assert set(found[0]) == {"n", "at", "kind", "instance", "name", "text"}

    async def test_the_topology_is_a_tree_and_a_graph(
        self, node: Node, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("topology", "--tree") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("desk (own")
        assert lines[1].startswith("└─ peer")
        assert "0.0 ms" in lines[1]
        assert "clock +0.0 s" in lines[1]
        assert await offload("topology", "--dot") == 0
        graph = capsys.readouterr().out
        assert graph.startswith("graph topology {")
        assert f'"{node.id}" [label=' in graph
        assert graph.count(" -- ") == 1

    async def test_one_way_of_showing_is_enough(
        self, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("topology", "--tree", "--json") == 2
        assert "choose one" in capsys.readouterr().err

    async def test_a_clock_that_is_far_off_is_told_of(self, node: Node) -> None:
        view = node.topology_json()
        peer: dict[str, Any] = next(i for i in view["instances"] if not i["own"])
        assert list(drawing.clocks(view)) == []
        peer["link"]["clock_ahead_s"] = -400.0
        assert list(drawing.clocks(view)) == ["the clock of peer is 400 s behind ours"]

    async def test_the_client_has_the_history(self, node: Node) -> None:
        async with connect(node.data_dir.path) as client:
            history = await client.topology_history(1)
        assert len(history) == 1


class TestATreeOfAChain:
    def test_shows_by_whom_the_far_end_is_heard_of(self) -> None:
        """Nobody tells us what links those have that we are not linked with."""
        link = {
            "address": "192.0.2.2:4711",
            "dialled": True,
            "rtt_s": 0.001,
            "clock_ahead_s": -0.04,
        }
        marks = {"own": False, "leader": False, "silent": False, "draining": False, "linked": False}
        view = {
            "own": "a",
            "instances": [
                {**marks, "id": "a", "name": "ann", "own": True, "links": ["b"]},
                {**marks, "id": "b", "name": "bob", "linked": True, "link": link, "links": ["c"]},
                {**marks, "id": "c", "name": "cid", "via": "b"},
                {**marks, "id": "d", "name": "dan", "via": "b"},
                {**marks, "id": "e", "name": "eve", "via": ""},
            ],
        }
        ann, bob, cid, dan, eve = drawing.tree(view)
        assert ann.startswith("ann (own)")
        assert bob.startswith("├─ bob  we dialled 192.0.2.2:4711  1.0 ms")
        assert "clock +0.0 s" in bob
        assert cid == "│  ├─ cid  no link from here"
        assert dan == "│  └─ dan  no link from here  bob hears of it"
        assert eve == "└─ eve  no link from here"


async def test_a_clock_that_is_far_off_is_said_once_in_the_log(
    lan: Lan, caplog: pytest.LogCaptureFixture
) -> None:
    """C061: 10 minutes of skew change nothing but a warning."""
    node, peer = await lan.node(name="desk"), await lan.node(name="peer")
    wall = lan.clock.wall

    class Fast:
        def __getattr__(self, name: str) -> Any:
            return getattr(lan.clock, name)

        def wall(self) -> float:
            return wall() + 600

    peer._house.membership._clock = Fast()  # type: ignore[assignment]
    node._house.membership._pulses.forget(peer.id)
    await lan.clock.advance(5)
    assert caplog.text.count("the clock of peer is 600 s ahead of ours") == 1
    assert node.topology.get(peer.id) is not None
