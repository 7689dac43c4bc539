"""The node: in which order its rooms open."""

import pytest

from offload import App
from offload.distributor import Distributor
from offload.testing import Lan
from offload.testing.network import MemoryTransport


async def test_what_the_last_boot_left_is_taken_up_before_a_peer_can_say_anything(
    lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DESIGN §5, rule 3; else what a peer offers meanwhile would be taken for something left."""
    order: list[str] = []
    recover, listen = Distributor.recover, MemoryTransport.open

    async def recovering(self: Distributor) -> None:
        await recover(self)
        order.append("recovered")

    async def opening(self: MemoryTransport) -> None:
        order.append("open to peers")
        await listen(self)

    monkeypatch.setattr(Distributor, "recover", recovering)
    monkeypatch.setattr(MemoryTransport, "open", opening)
    await lan.node(App())
    assert order == ["recovered", "open to peers"]
