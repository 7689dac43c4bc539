"""An invitation that is shown by mDNS while it is open, on loopback (C111)."""

import secrets

from offload.peers.discovery.addresses import Plan
from offload.peers.discovery.invitations import found, shown

HERE = Plan(("127.0.0.1",), ("127.0.0.1",), ())
ID = "a" * 26


async def seen(realm: str, within_s: float) -> list[tuple[str, int]]:
    async for addresses in found(HERE, realm, within_s):
        return addresses
    return []


async def test_an_open_invitation_is_found() -> None:
    realm = secrets.token_hex(8)
    async with shown(HERE, ID, 4999, realm):
        assert await seen(realm, within_s=20) == [("127.0.0.1", 4999)]


async def test_that_of_another_realm_is_not() -> None:
    async with shown(HERE, ID, 4999, secrets.token_hex(8)):
        assert await seen(secrets.token_hex(8), within_s=0.5) == []
