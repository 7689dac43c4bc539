"""
Instances of different versions: what one of the next version says, this one takes or ignores.

The other one speaks versions 1 and 2: all its frames have fields that this one does not know, it
sends kinds that this one does not know, and its hello says so.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offload import App
from offload.config import Config
from offload.datadir import DataDir
from offload.node import Node
from offload.parts import REAL, Parts
from offload.peers.transport import Hello, Transport, frames


class LaterHello(Hello):
    """A hello with more in it."""

    __slots__ = ()

    def to_wire(self) -> dict[str, Any]:
        return {**super().to_wire(), "mood": "good", "abilities": {"teleport": [1, 2]}}


class LaterTransport(Transport):
    """Speaks ``versions``, and more than this version knows in every frame."""

    versions = (1, 2)

    def __init__(self, *, hello: Any, **rest: Any) -> None:
        def later() -> LaterHello:
            said = replace(hello(), versions=self.versions)
            return LaterHello(*(getattr(said, name) for name in Hello.__slots__))

        super().__init__(hello=later, **rest)

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        news = {"later": [1, {"deep": None}], "since": "version 2"}
        if isinstance(fields.get("announcement"), dict):
            news["announcement"] = {**fields["announcement"], "colour": "blue", "shoes": [43]}
        super().send(peer, "teleport", {"where": kind, "bytes": b"\x00"})
        return super().send(peer, kind, {**fields, **news})


class LastTransport(LaterTransport):
    """Speaks version 2 only."""

    versions = (2, 2)


def app() -> App:
    made = App()
    made.consumer("text/shout", isolate="thread")(shout)
    return made


def shout(text: str) -> str:
    return text.upper()


class Pair:
    """Two nodes on this host that know of each other by configuration."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack

    async def open(self, name: str, parts: Parts, *, consumers: App | None = None) -> Node:
        ports = [p.read_text("ascii").strip() for p in self._folder.glob("*/port")]
        config = Config.make(
            node={"name": name, "data_dir": self._folder / name, "realm": "versions"},
            discovery={"mdns": False, "peers": [f"127.0.0.1:{port}" for port in ports]},
        )
        node = Node(config, consumers, DataDir(self._folder / name), parts)
        return await self._stack.enter_async_context(node)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        yield Pair(tmp_path, stack)


async def met(*nodes: Node) -> None:
    async with asyncio.timeout(20):
        while not all(len(node.topology.instances) == len(nodes) for node in nodes):
            await asyncio.sleep(0.01)


LATER = replace(REAL, network=LaterTransport)
LAST = replace(REAL, network=LastTransport)


class TestAnInstanceOfTheNextVersion:
    async def test_is_a_member_and_does_work(self, pair: Pair) -> None:
        """Jobs go both ways; unknown fields and kinds are ignored, and nothing is complained of."""
        ours = await pair.open("ours", REAL)
        later = await pair.open("later", LATER, consumers=app())
        await met(ours, later)
        async with asyncio.timeout(20):
            assert await ours.offload("text/shout", text="hey") == "HEY"
        transport = ours._house.transport
        assert isinstance(transport, Transport)
        assert transport.unknown > 0
        assert transport.malformed == 0

    async def test_gives_work_too(self, pair: Pair) -> None:
        later = await pair.open("later", LATER)
        ours = await pair.open("ours", REAL, consumers=app())
        await met(ours, later)
        async with asyncio.timeout(20):
            assert await later.offload("text/shout", text="hey") == "HEY"

    async def test_is_spoken_to_in_the_highest_common_version(self, pair: Pair) -> None:
        ours, later = await pair.open("ours", REAL), await pair.open("later", LATER)
        await met(ours, later)
        shown = {i["name"]: i["protocol"] for i in ours.topology_json()["instances"]}
        assert shown == {"ours": None, "later": 1}


class TestAnInstanceWithoutACommonVersion:
    @pytest.mark.parametrize("ours_dials", [True, False])
    async def test_is_refused_with_a_clear_reason(
        self, pair: Pair, caplog: pytest.LogCaptureFixture, ours_dials: bool
    ) -> None:
        """Issue line 9: shown in the topology, and said once in the log, on both sides."""
        parts = {"last": LAST, "ours": REAL}
        opened = {n: await pair.open(n, parts[n]) for n in sorted(parts, reverse=not ours_dials)}
        both = "'last' speaks protocol version 2, 'ours' version 1"
        turned = "'ours' speaks protocol version 1, 'last' version 2"
        async with asyncio.timeout(20):
            while not all(node.topology_json()["refused"] for node in opened.values()):
                await asyncio.sleep(0.01)
        (refused,) = opened["ours"].topology_json()["refused"]
        assert refused["reason"] == (both if ours_dials else turned)
        assert refused["name"] == ("last" if ours_dials else "")  # it did not say who it is
        assert len(opened["ours"].topology.instances) == 1
        await asyncio.sleep(1.5)  # in which it is tried again
        assert caplog.text.count(f"at {refused['address']}: {refused['reason']}") == 1


def test_a_message_may_hold_frames_of_unknown_kinds() -> None:
    packed = [frames.frame(kind, {"a": 1}) for kind in ("teleport", "beat")]
    assert frames.split(frames.join(packed)[0]).frames.keys() == {"teleport", "beat"}
