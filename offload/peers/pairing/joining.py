"""
To join a group: find whoever invites, prove that we know the code, and become a member.

What an inviter says is read as the few bytes that ours sends, and no more: a client for all of HTTP
would take half of the time that joining takes.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from offload import codec
from offload.errors import Distrusted, JoinRefused, Malformed
from offload.peers import discovery
from offload.peers.discovery.addresses import EVERYWHERE, make_plan, parse_address
from offload.peers.identity import Identity
from offload.peers.identity.pairing import TRIES, Joiner, Secret, Welcome
from offload.peers.pairing.wire import JOIN_PATH, JOIN_PORT
from offload.peers.topology import Address, check_id

log = logging.getLogger(__name__)
SEARCH_S: Final = 8.0
CONNECT_S: Final = 3.0
ANSWER_S: Final = 15.0
ANSWER_LIMIT_BYTES: Final = 1024 * 1024
_GOOD: Final = re.compile(rb"HTTP/1\.[01] 200[ \r]")
_TROUBLE: Final = (OSError, Malformed, Distrusted)


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
    async for addresses in _inviters(where):
        for host, port in addresses:
            caller = _Caller(host, port)
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


def read_answer(said: bytes) -> dict[str, Any]:
    """Return what an inviter says, of all that came of it; raise ``Malformed``."""
    head, _, body = said.partition(b"\r\n\r\n")
    if not _GOOD.match(head):
        raise Malformed(f"{head[:40]!r}")
    wire = codec.unpack(body, max_items=16)
    if not isinstance(wire, dict):
        raise Malformed("no map")
    return wire


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

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.has_guessed = False

    async def join(self, identity: Identity, name: str, secret: Secret) -> Welcome:
        inviter = check_id((await self._ask("GET")).get("id"))
        joiner = await asyncio.to_thread(Joiner, identity, name, secret, inviter)
        begun = await self._ask("POST", {"id": identity.id, "message": joiner.message})
        proof, sealed = await asyncio.to_thread(joiner.prove, _bytes(begun, "message"))
        session = _bytes(begun, "session")
        self.has_guessed = True  # from what we send now it learns whether its guess was right
        told = await self._ask("POST", {"session": session, "proof": proof, "sealed": sealed})
        return joiner.welcome(_bytes(told, "proof"), _bytes(told, "sealed"))

    async def _ask(self, method: str, wire: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to one request; raise ``OSError``, ``TimeoutError``, ``Malformed``."""
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.timeout(ANSWER_S):
                writer.write(self._request(method, b"" if wire is None else codec.pack(wire)))
                return read_answer(await _whole(reader))
        finally:
            writer.transport.abort()

    def _request(self, method: str, body: bytes) -> bytes:
        plain = self._host.partition("%")[0]
        host = f"[{plain}]" if ":" in plain else plain
        lines = (
            f"{method} {JOIN_PATH} HTTP/1.1",
            f"Host: {host}:{self._port}",
            "Content-Type: application/octet-stream",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + body


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes until the end; raise ``Malformed`` if it is too much."""
    said = bytearray()
    while part := await reader.read(65_536):
        said += part
        if len(said) > ANSWER_LIMIT_BYTES:
            raise Malformed("an answer that is too long")
    return bytes(said)


def _bytes(wire: dict[str, Any], name: str) -> bytes:
    value = wire.get(name)
    if not isinstance(value, bytes):
        raise Malformed(f"{name} is missing")
    return value
