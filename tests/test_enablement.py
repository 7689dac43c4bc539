"""Topics switched on any instance from any instance (issue 4, line 5; C015, C062, C064)."""

import asyncio
from typing import Any

import pytest

from offload import App, Node
from offload.errors import InvalidTopic, PeerUnreachable, Refused, UsageError
from offload.testing import Lan

Apart = tuple[Node, Node, Node]


class Bench:
    """Consumers that count their runs; those of ``work/slow`` wait for ``go``."""

    def __init__(self) -> None:
        self.app = App()
        self.runs: list[int] = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()

        @self.app.consumer("work/count", version="2")
        async def count(number: int) -> int:
            self.runs.append(number)
            return number

        @self.app.consumer("work/slow")
        async def slow(number: int) -> int:
            self.runs.append(number)
            self.begun.set()
            await self.go.wait()
            return number

        @self.app.consumer("any/**")
        async def anything() -> str:
            return "any"


async def states(node: Node, topic: str) -> dict[str, str]:
    """Return how each instance is with ``topic``, as ``node`` sees it."""
    found = await node.topics.all()
    names = {i["id"]: i["name"] for i in found["instances"]}
    line = next(line for line in found["topics"] if line["topic"] == topic)
    return {names[i]: cell["state"] for i, cell in line["instances"].items()}


class TestTheMatrix:
    async def test_tells_enabled_disabled_and_not_there_apart(self, lan: Lan) -> None:
        desk = await lan.node(name="desk")
        await lan.node(Bench().app, name="one")
        await lan.node(Bench().app, name="two", capabilities={"deny": ["work/*"]})
        assert await states(desk, "work/count") == {
            "desk": "absent",
            "one": "enabled",
            "two": "disabled",
        }

    async def test_shows_versions_and_queues(self, lan: Lan) -> None:
        desk, peer = await lan.node(), await lan.node(Bench().app)
        found = await desk.topics.all()
        cells = {line["topic"]: line["instances"][peer.id] for line in found["topics"]}
        assert cells["work/count"] == {"state": "enabled", "queue": "main", "version": "2"}
        assert cells["any/**"]["version"] == ""

    async def test_names_what_is_disabled_within_a_wildcard(self, lan: Lan) -> None:
        desk = await lan.node(name="desk")
        await lan.node(Bench().app, name="one", capabilities={"deny": ["any/bad"]})
        assert (await states(desk, "any/**"))["one"] == "enabled"
        assert (await states(desk, "any/bad"))["one"] == "disabled"


class TestATopicOfAnother:
    async def test_is_disabled_when_the_call_returns(self, lan: Lan) -> None:
        desk, peer = await lan.node(name="desk"), await lan.node(Bench().app, name="peer")
        await lan.until(desk.topics.disable("work/count", on="peer"))
        assert (await states(desk, "work/count"))["peer"] == "disabled"
        assert not peer.topology.own.takes("work/count")

    async def test_stays_disabled_over_a_restart(self, lan: Lan) -> None:
        desk, peer = await lan.node(name="desk"), await lan.node(Bench().app, name="peer")
        await lan.until(desk.topics.disable("work/count", on="peer"))
        await lan.restart(peer)
        assert (await states(desk, "work/count"))["peer"] == "disabled"
        await lan.until(desk.topics.enable("work/count", on=peer.id[:8]))
        assert (await states(desk, "work/count"))["peer"] == "enabled"

    async def test_may_be_the_only_one(self, lan: Lan) -> None:
        desk = await lan.node(name="desk")
        for name in ("peer", "other"):
            await lan.node(Bench().app, name=name)
        await lan.until(desk.topics.only("work/count", on="peer"))
        assert await states(desk, "work/slow") == {
            "desk": "absent",
            "peer": "disabled",
            "other": "enabled",
        }
        await lan.until(desk.topics.reset(on="peer"))
        assert (await states(desk, "work/slow"))["peer"] == "enabled"

    async def test_is_known_to_all_within_a_second(self, lan: Lan) -> None:
        """C062: and pauses nothing elsewhere."""
        bench = Bench()
        desk, third = await lan.node(name="desk"), await lan.node(bench.app, name="third")
        await lan.node(Bench().app, name="peer")
        job = await desk.submit("work/slow", number=1)
        await lan.until(bench.begun.wait())
        await desk.topics.disable("work/slow", on="peer")
        await lan.clock.advance(1)
        assert (await states(third, "work/slow"))["peer"] == "disabled"
        assert (await job.info())["state"] == "active"
        bench.go.set()
        assert await lan.until(job.result(), within_s=1) == 1

    async def test_is_not_offered_to_it_any_more(self, lan: Lan) -> None:
        """C064: within a wildcard too, and its origin does not ask in vain."""
        desk, peer = await lan.node(), await lan.node(Bench().app)
        await lan.until(desk.topics.disable("any/x", on=peer.name))
        job = await desk.submit("any/x")
        await lan.clock.advance(5)
        info = await job.info()
        assert (info["state"], info["attempt"]) == ("queued", 0)
        told = await desk.explain(job.id)
        assert "disabled wherever it could run" in told["sentence"]
        assert await lan.until(desk.offload("any/y"), within_s=1) == "any"
        await lan.until(desk.topics.enable("any/x", on=peer.name))
        assert await lan.until(job.result(), within_s=1) == "any"


class TestATopicOfOneThatHasNoLinkWithUs:
    """Desk and peer do not reach each other; a third has a link to both."""

    @pytest.fixture
    async def apart(self, lan: Lan) -> Apart:
        desk, peer = await lan.node(name="desk"), await lan.node(Bench().app, name="peer")
        third = await lan.node(name="third")
        lan.cut(desk, peer)
        await lan.clock.advance(20)
        assert {i.name for i in desk.topology.instances} == {"desk", "peer", "third"}
        return desk, peer, third

    async def test_is_switched_by_way_of_others(self, lan: Lan, apart: Apart) -> None:
        desk, peer, _ = apart
        await lan.until(desk.topics.disable("work/count", on="peer"), within_s=1)
        assert (await states(desk, "work/count"))["peer"] == "disabled"
        assert not peer.topology.own.takes("work/count")

    async def test_is_switched_at_the_end_of_a_chain_too(self, lan: Lan, apart: Apart) -> None:
        desk, peer, third = apart
        fourth = await lan.node(name="fourth")
        lan.cut(fourth, desk)
        lan.cut(third, peer)
        await lan.clock.advance(20)
        await lan.until(desk.topics.disable("work/count", on="peer"), within_s=1)
        assert not peer.topology.own.takes("work/count")

    async def test_is_refused_with_the_words_of_its_owner(self, lan: Lan, apart: Apart) -> None:
        desk = apart[0]
        with pytest.raises(Refused, match="peer: has no consumer for work/cuont"):
            await lan.until(desk.topics.disable("work/cuont", on="peer"))

    async def test_is_not_switched_where_no_way_leads(self, lan: Lan, apart: Apart) -> None:
        desk, peer, third = apart
        lan.cut(third, peer)
        await lan.clock.advance(1)
        with pytest.raises((Refused, PeerUnreachable), match="peer: "):
            await lan.until(desk.topics.disable("work/count", on="peer"))


class TestOneWho:
    async def test_names_nobody_is_told_so(self, lan: Lan) -> None:
        desk = await lan.node()
        with pytest.raises(UsageError, match="'attic' is no instance"):
            await desk.topics.disable("work/count", on="attic")

    async def test_names_no_topic_is_told_so(self, lan: Lan) -> None:
        desk, peer = await lan.node(), await lan.node(Bench().app, name="peer")
        with pytest.raises(InvalidTopic):
            await desk.topics.disable("work//count", on=peer.name)
        with pytest.raises(UsageError, match="name 1 to 100 topics"):
            await desk.topics.disable(on=peer.name)
        with pytest.raises(Refused, match="peer: has no consumer for work/cuont"):
            await lan.until(desk.topics.disable("work/cuont", on=peer.name))

    async def test_may_not_hears_it_from_the_owner(self, lan: Lan) -> None:
        desk = await lan.node()
        peer = await lan.node(Bench().app, name="peer", capabilities={"remote": False})
        with pytest.raises(Refused, match=r"peer: its owner .*remote = false"):
            await lan.until(desk.topics.disable("work/count", on="peer"))
        await peer.topics.disable("work/count")
        await lan.settle()
        assert (await states(desk, "work/count"))["peer"] == "disabled"

    async def test_gets_no_answer_is_told_that_it_is_unsure(self, lan: Lan) -> None:
        desk, peer = await lan.node(), await lan.node(Bench().app, name="peer")
        lan.hold("switch")
        with pytest.raises(PeerUnreachable, match="no answer within 5 s; it may have been done"):
            await lan.until(desk.topics.disable("work/count", on="peer"))
        lan.heal()
        await lan.settle()
        assert not peer.topology.own.takes("work/count")

    async def test_asks_one_that_dies_is_told_at_once(self, lan: Lan) -> None:
        desk, peer = await lan.node(), await lan.node(Bench().app, name="peer")
        lan.hold("switch")
        asked = asyncio.ensure_future(desk.topics.disable("work/count", on="peer"))
        await lan.settle()
        await lan.crash(peer)
        with pytest.raises(PeerUnreachable, match=r"^peer: the link was lost before it"):
            await lan.until(asked, within_s=1)

    async def test_asks_a_silent_one_is_told_so(self, lan: Lan) -> None:
        desk, peer = await lan.node(), await lan.node(Bench().app, name="peer")
        lan.cut(peer)
        await lan.clock.advance(8)
        with pytest.raises(Refused, match="peer: it is silent, and could not confirm"):
            await desk.topics.disable("work/count", on="peer")


class TestJobsOfATopicThatIsToggled:
    @pytest.mark.parametrize("here", [True, False], ids=["here", "at a peer"])
    async def test_are_neither_lost_nor_run_twice(self, lan: Lan, here: bool) -> None:
        """C015: three times while they run; no slot leaks."""
        bench = Bench()
        queues = {"main": {"max_parallel": 2}}
        peer = await lan.node(bench.app, name="peer", queues=queues)
        desk = peer if here else await lan.node(name="desk")
        jobs = [await desk.submit("work/slow", number=n) for n in range(10)]
        await lan.until(bench.begun.wait())
        for _ in range(3):
            await lan.until(desk.topics.disable("work/slow", on="peer"))
            await lan.clock.advance(1)
            await lan.until(desk.topics.enable("work/slow", on="peer"))
            await lan.clock.advance(1)
        assert len(bench.runs) == 2  # what runs goes on, and keeps its place
        bench.go.set()
        assert [await lan.until(job.result()) for job in jobs] == list(range(10))
        assert sorted(bench.runs) == list(range(10))
        await lan.settle()
        status = await peer.status()
        assert {q["running"] + q["waiting"] for q in status["queues"].values()} == {0}

    async def test_wait_while_it_is_disabled(self, lan: Lan) -> None:
        """C015: none runs; enabled, all do."""
        bench = Bench()
        node = await lan.node(bench.app)
        await node.topics.disable("work/*")
        jobs = [await node.submit("work/count", number=n) for n in range(10)]
        await lan.clock.advance(5)
        assert bench.runs == []
        await node.topics.enable("work/*")
        assert [await lan.until(job.result(), within_s=1) for job in jobs] == list(range(10))

    async def test_in_line_at_a_peer_go_to_another(self, lan: Lan) -> None:
        one, two = Bench(), Bench()
        few: dict[str, Any] = {"queues": {"main": {"max_parallel": 1}}}
        desk = await lan.node(name="desk")
        await lan.node(one.app, name="one", **few)
        first = await desk.submit("work/slow", number=1)
        await lan.until(one.begun.wait())
        others = [await desk.submit("work/slow", number=n) for n in (2, 3)]
        await lan.clock.advance(1)
        await lan.until(desk.topics.disable("work/slow", on="one"))
        await lan.node(two.app, name="two")
        two.go.set()
        assert [await lan.until(job.result(), within_s=2) for job in others] == [2, 3]
        one.go.set()
        assert await lan.until(first.result(), within_s=2) == 1
        assert (one.runs, two.runs) == ([1], [2, 3])
