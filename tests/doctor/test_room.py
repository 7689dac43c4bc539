"""The doctor of an instance asks linked peers, and answers when it is asked (issue 4, line 8)."""

import asyncio
import socket
from typing import Any

import pytest

from offload import Node
from offload.doctor import wire
from offload.doctor.facts import Mdns
from offload.errors import UsageError
from offload.peers.discovery.looking import Shown
from offload.peers.transport import TwinFound
from offload.testing import Lan

TOKENS = ("0123456789abcdef", "fedcba9876543210")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look around for a moment only: there is nobody but the peers of the test."""
    monkeypatch.setattr("offload.doctor.multicast.LOOK_S", 0.2)
    monkeypatch.setattr("offload.peers.discovery.soundings.EVERY_S", 0.05)


async def examined(lan: Lan, node: Node, host: str = "") -> dict[str, dict[str, Any]]:
    """Return the findings by check, while time goes on."""
    looking = asyncio.create_task(node.doctor(host))
    while not looking.done():
        await lan.clock.advance(0.5)
        await asyncio.sleep(0.05)
    return {finding["check"]: finding for finding in (await looking)["findings"]}


class TestALinkedPeer:
    async def test_is_heard_and_hears(self, lan: Lan) -> None:
        node, _ = await lan.node(name="desk"), await lan.node(name="attic")
        found = await examined(lan, node)
        assert found["multicast"]["text"] == "attic and this machine hear each other"
        assert found["peers"]["text"] == "linked with attic"

    async def test_knocks_at_what_is_announced(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="attic")
        with socket.create_server(("127.0.0.1", 0)) as server:
            here = server.getsockname()[:2]
            node._house.membership.announce(addresses=[here, ("192.0.2.1", 4711)])
            await lan.settle()
            answer = await node._house.doctor._ask(peer.id, *TOKENS)
        again = await node._house.doctor._ask(peer.id, *TOKENS)
        assert answer.reason == ""
        assert answer.knocked == {here: ""}  # it is on loopback alone, and so are its knocks
        assert again.knocked == {here: "connection refused"}

    async def test_that_does_not_know_the_question_is_told_of(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="attic")
        del peer._house._handlers["sound"]
        found = await examined(lan, node)
        assert "attic could not be asked (no answer within 5 s" in found["peers"]["text"]
        assert "could be asked" in found["multicast"]["text"]

    async def test_that_is_asked_twice_at_once_answers_one_of_them(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="attic")
        ask = node._house.doctor._ask
        answers = await asyncio.gather(ask(peer.id, *TOKENS), ask(peer.id, *TOKENS))
        assert sorted(a.reason for a in answers) == ["", "it is busy with another's question"]

    async def test_whose_link_breaks_is_not_waited_for(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="attic")
        del peer._house._handlers["sound"]
        asked = asyncio.create_task(node._house.doctor._ask(peer.id, *TOKENS))
        await asyncio.sleep(0)
        await lan.crash(peer)
        assert (await asked).reason == "the link was lost"

    async def test_cannot_answer_in_the_name_of_another(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="attic")
        del peer._house._handlers["sound"]
        doctor = node._house.doctor
        asked = asyncio.create_task(doctor._ask(peer.id, *TOKENS))
        await asyncio.sleep(0)
        number = doctor._number
        forged = {"number": number, "reason": "forged"}
        doctor._on_sounded("x" * 26, [forged])
        doctor._on_sounded(peer.id, [{"number": number + 1, "reason": "old"}])
        assert not asked.done()
        doctor._on_sounded(peer.id, [{"number": number, "reason": "its own"}])
        assert (await asked).reason == "its own"

    async def test_may_be_named_instead_of_an_address(self, lan: Lan) -> None:
        node, peer = await lan.node(name="desk"), await lan.node(name="attic")
        found = await examined(lan, node, "attic")
        assert found["reachable"]["about"] == f"127.0.0.1:{peer._house.transport.port}"
        with pytest.raises(UsageError, match="is no address"):
            await node.doctor("cel/lar")

    async def test_at_a_port_is_looked_at_there_though_others_show_themselves(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = await lan.node(name="desk")
        shown = Shown("b" * 26, (("127.0.0.1", 4711),), "elsewhere", "")

        async def looked(*_: object) -> Mdns:
            return Mdns(True, shown=(shown,))

        monkeypatch.setattr("offload.doctor.checkup.looked", looked)
        found = await examined(lan, node, "127.0.0.1:1")
        assert found["reachable"]["about"] == "127.0.0.1:1"


class TestATwin:
    async def test_that_was_met_is_a_fault(self, lan: Lan) -> None:
        """C057."""
        node = await lan.node(name="desk")
        node.bus.publish(TwinFound(False, "'desk' at 192.0.2.9:4711 has the same id"))
        found = await examined(lan, node)
        assert found["identity"]["state"] == "fault"
        assert "'desk' at 192.0.2.9:4711" in found["identity"]["text"]


def test_an_answer_is_cut_to_what_fits() -> None:
    told = wire.Answer(reason="x" * 1000)
    assert len(wire.answer(1, told)["reason"]) == wire.REASON_LIMIT
