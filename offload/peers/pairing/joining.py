"""
To join a group: find whoever invites, prove that we know the code, and become a member.

The language's own client is asked in a thread: to import aiohttp would take a third of the time
that joining takes.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
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
_TROUBLE: Final = (OSError, HTTPException, Malformed, Distrusted)


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
    """Return what an inviter says; raise ``Malformed``."""
    if len(said) > ANSWER_LIMIT_BYTES:
        raise Malformed("an answer that is too long")
    wire = codec.unpack(said, max_items=16)
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
        """Return the answer to one request; raise one of ``_TROUBLE``."""
        where = self._host, self._port
        link = await asyncio.to_thread(socket.create_connection, where, CONNECT_S)
        try:
            async with asyncio.timeout(ANSWER_S):
                body = b"" if wire is None else codec.pack(wire)
                return read_answer(await asyncio.to_thread(self._talk, link, method, body))
        finally:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)  # or the thread would wait on, byte by byte
            link.close()

    def _talk(self, link: socket.socket, method: str, body: bytes) -> bytes:
        """Send one request, and return the body of its answer; blocks."""
        link.settimeout(ANSWER_S)
        http = HTTPConnection(self._host.partition("%")[0], self._port)
        http.sock = link
        told = {"Content-Type": "application/octet-stream", "Connection": "close"}
        http.request(method, JOIN_PATH, body, told)
        with http.getresponse() as answer:
            if answer.status != HTTPStatus.OK:
                raise Malformed(f"HTTP {answer.status}")
            return answer.read(ANSWER_LIMIT_BYTES + 1)


def _bytes(wire: dict[str, Any], name: str) -> bytes:
    value = wire.get(name)
    if not isinstance(value, bytes):
        raise Malformed(f"{name} is missing")
    return value
