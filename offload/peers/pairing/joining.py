"""To join a group: find whoever invites, prove that we know the code, and become a member."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from offload import codec
from offload.errors import Distrusted, JoinRefused, Malformed
from offload.peers import discovery
from offload.peers.discovery.addresses import EVERYWHERE, make_plan, parse_address
from offload.peers.identity import Identity
from offload.peers.identity.pairing import TRIES, Joiner, Secret, Welcome
from offload.peers.pairing.wire import JOIN_PATH, JOIN_PORT
from offload.peers.topology import Address, check_id
from offload.peers.transport.link import url_of

log = logging.getLogger(__name__)
SEARCH_S: Final = 8.0
CONNECT_S: Final = 3.0
ANSWER_S: Final = 15.0
ANSWER_LIMIT_BYTES: Final = 1024 * 1024
_TROUBLE: Final = (aiohttp.ClientError, OSError, TimeoutError, Malformed, Distrusted)


@dataclass(frozen=True, slots=True)
class Where:
    """
    Where to look for the inviter.

    Attributes:
        host: ``host`` or ``host:port``; "" to look for it by mDNS.
        listen: Where we listen: on loopback only, we look on loopback only, and everywhere too.
        realm: Whose invitations count.
        interfaces: For mDNS.
    """

    host: str = ""
    listen: tuple[str, ...] = EVERYWHERE
    realm: str = "default"
    interfaces: tuple[str, ...] = ()


async def join(
    identity: Identity, name: str, secret: Secret, where: Where, warn: Callable[[str], None]
) -> Welcome:
    """
    Return what an inviter gives who knows the secret, too.

    Whoever answers without knowing it has had one guess: after three of those we stop.

    Args:
        identity: Our key.
        name: What people call us.
        secret: What was typed.
        where: Where to look.
        warn: Is told what a person should see.

    Raises:
        JoinRefused: If nobody takes us in; the reason is the same for all causes.
    """
    guesses = 0
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        async for addresses in _inviters(where):
            for host, port in addresses:
                caller = _Caller(http, host, port)
                try:
                    return await caller.join(identity, name, secret)
                except _TROUBLE as error:
                    log.debug("%s:%d does not take us in: %s", host, port, error)
                if caller.has_guessed:
                    guesses += 1
                    warn(f"{host}:{port} answered, and does not take this code")
                    break  # not once more at another address of the same one
            if guesses == TRIES:
                warn("three have answered that do not; nobody else is asked")
                break
    raise JoinRefused


async def _inviters(where: Where) -> AsyncIterator[list[Address]]:
    if where.host:
        yield [parse_address(where.host, JOIN_PORT, key="--host")]
        return
    plan = await asyncio.to_thread(
        make_plan, where.listen, port=JOIN_PORT, interfaces=where.interfaces
    )
    search = discovery.found(plan, where.realm, SEARCH_S)
    try:
        async for addresses in search:
            yield addresses
    finally:
        await search.aclose()


class _Caller:
    """One try with one inviter."""

    def __init__(self, http: aiohttp.ClientSession, host: str, port: int) -> None:
        self._http = http
        self._url = url_of(host, port, JOIN_PATH, secure=False)
        self.has_guessed = False

    async def join(self, identity: Identity, name: str, secret: Secret) -> Welcome:
        async with self._http.get(self._url) as response:
            inviter = check_id((await _read(response)).get("id"))
        joiner = await asyncio.to_thread(Joiner, identity, name, secret, inviter)
        begun = await self._post({"id": identity.id, "message": joiner.message})
        proof, sealed = await asyncio.to_thread(joiner.prove, _bytes(begun, "message"))
        session = _bytes(begun, "session")
        self.has_guessed = True  # from what we send now it learns whether its guess was right
        told = await self._post({"session": session, "proof": proof, "sealed": sealed})
        return joiner.welcome(_bytes(told, "proof"), _bytes(told, "sealed"))

    async def _post(self, wire: dict[str, Any]) -> dict[str, Any]:
        async with self._http.post(self._url, data=codec.pack(wire)) as response:
            return await _read(response)


async def _read(response: aiohttp.ClientResponse) -> dict[str, Any]:
    if response.status != 200:
        raise Malformed(f"HTTP {response.status}")
    parts: list[bytes] = []
    async for part in response.content.iter_chunked(65_536):
        parts.append(part)
        if sum(map(len, parts)) > ANSWER_LIMIT_BYTES:
            raise Malformed("an answer that is too long")
    wire = codec.unpack(b"".join(parts), max_items=16)
    if not isinstance(wire, dict):
        raise Malformed("no map")
    return wire


def _bytes(wire: dict[str, Any], name: str) -> bytes:
    value = wire.get(name)
    if not isinstance(value, bytes):
        raise Malformed(f"{name} is missing")
    return value
