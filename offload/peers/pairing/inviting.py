"""
An invitation on the network: a small server of its own, open only as long as it is.

It speaks plain HTTP to whoever comes: what matters is sealed under the key that only one who
knows the code can make. Closed, it goes on refusing for a while, as it refuses a wrong code. Who
comes costs little: connections are few (``Entrance``), and so are the tries of one address.
"""

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from offload import codec
from offload.buckets import Buckets
from offload.errors import JoinRefused, Malformed, OffloadError
from offload.peers import discovery
from offload.peers.discovery import EVERYWHERE, make_plan
from offload.peers.identity import instance_id
from offload.peers.identity.pairing import Invitation, Request, Welcome
from offload.peers.pairing.wire import JOIN_PATH, JOIN_PORT
from offload.peers.transport import Entrance, HttpLog
from offload.peers.transport.guard import guard
from offload.tasks import Tasks

log = logging.getLogger(__name__)
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
BODY_LIMIT_BYTES: Final = 8192
CALL_S: Final = 10.0  # a whole exchange with one joiner takes less
CALLS: Final = 8  # at once
BEGINS: Final = 10.0  # of one address before it has to wait; each costs us 20 ms
BEGINS_PER_S: Final = 1.0
LINGER_S: Final = 20.0
Admit = Callable[[Request], Awaitable[Welcome]]


@dataclass(frozen=True, slots=True)
class Tried:
    """
    What has happened to an invitation.

    Attributes:
        kind: ``wrong`` (somebody did not know the code), ``joined``, or ``closed``.
        host: Where from.
        tries_left: How many wrong ones it still takes.
        id: Who has joined.
        name: What that one is called.
        reason: Why it was closed.
    """

    kind: str
    host: str = ""
    tries_left: int = 0
    id: str = ""
    name: str = ""
    reason: str = ""


class Inviting:
    """
    Serves one invitation.

    Args:
        invitation: What it is.
        own_id: The inviter's instance id.
        admit: Makes a joiner a member.
        listen: The addresses to be reached at.
        realm: What the invitation is shown for.
        interfaces: For mDNS, as in the configuration.
        mdns: Whether to show it by mDNS.
        tell: Hears what happens.
    """

    def __init__(
        self,
        invitation: Invitation,
        *,
        own_id: str,
        admit: Admit,
        listen: Sequence[str],
        realm: str,
        interfaces: Sequence[str],
        mdns: bool,
        tell: Callable[[Tried], None],
    ) -> None:
        self.port = 0
        self._invitation, self._own_id, self._admit = invitation, own_id, admit
        self._listen, self._realm, self._interfaces = tuple(listen), realm, tuple(interfaces)
        self._mdns = mdns
        self._tell = tell
        self._over = asyncio.Event()
        self._calls = 0
        self._begins: Buckets[str] = Buckets(BEGINS_PER_S, BEGINS)
        self._one_at_a_time = asyncio.Lock()
        self._entrance: Entrance | None = None
        self._exit = AsyncExitStack()
        self._tasks = Tasks()

    async def open(self) -> None:
        """Listen, and show the invitation; raise ``OSError`` if that cannot be."""
        app = web.Application(middlewares=[guard], client_max_size=BODY_LIMIT_BYTES)
        app.router.add_get(JOIN_PATH, self._who, allow_head=False)
        app.router.add_post(JOIN_PATH, self._call)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=HttpLog(),
            keepalive_timeout=CALL_S,
            shutdown_timeout=0.2,
            auto_decompress=False,
        )
        await runner.setup()
        self._exit.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("the runner was set up and has no server")
        self._entrance = Entrance(runner.server)
        self._exit.push_async_callback(self._entrance.close)
        for listening in _bound(self._listen):
            self.port = int(listening.getsockname()[1])
            await self._entrance.open(listening)
        if self._mdns:
            self._tasks.start(self._show())

    async def wait(self, *, linger: bool) -> None:
        """Return when the invitation is over, with ``linger`` a little after that; then close."""
        try:
            left_s = max(self._invitation.until - time.monotonic(), 0)
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._over.wait()
            if not self._over.is_set():
                self._end("it has expired")
            if linger:
                await asyncio.sleep(LINGER_S)
        finally:
            await self.close()

    async def close(self) -> None:
        """End it, whatever its state; may be called again."""
        self._over.set()
        await self._tasks.close()
        await self._exit.aclose()

    def withdraw(self) -> None:
        """Take nobody in any more."""
        self._invitation.used = True
        if not self._over.is_set():
            self._end("it was withdrawn")

    async def _show(self) -> None:
        plan = await asyncio.to_thread(
            make_plan, self._listen, port=self.port, interfaces=self._interfaces
        )
        async with discovery.shown(plan, self._own_id, self.port, self._realm):
            await self._over.wait()

    def _end(self, reason: str) -> None:
        self._over.set()
        self._tell(Tried("closed", reason=reason))

    # --- what joiners say --------------------------------------------------------------------

    async def _who(self, request: web.Request) -> web.Response:
        self._heard(request)
        return _answer({"id": self._own_id})

    def _heard(self, request: web.Request) -> None:
        if self._entrance is not None:
            self._entrance.heard(request.transport)

    async def _call(self, request: web.Request) -> web.Response:
        self._heard(request)
        if self._calls >= CALLS:
            raise web.HTTPServiceUnavailable
        self._calls += 1
        try:
            async with asyncio.timeout(CALL_S):
                wire = codec.unpack(await request.read(), max_items=16)
                return await self._answer(wire, request.remote or "")
        except Malformed:
            raise web.HTTPBadRequest from None
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        finally:
            self._calls -= 1

    async def _answer(self, wire: Any, host: str) -> web.Response:
        match wire:
            case {"id": str(joiner), "message": bytes(message)} if len(joiner) <= 64:
                now = time.monotonic()
                if not self._begins.draw(host, now):
                    raise web.HTTPTooManyRequests
                async with self._one_at_a_time:  # so that running jobs notice nothing of it
                    session, answer = await asyncio.to_thread(
                        self._invitation.begin, joiner, message, now
                    )
                return _answer({"session": session, "message": answer})
            case {"session": bytes(session), "proof": bytes(proof), "sealed": bytes(sealed)}:
                return await self._prove(session, proof, sealed, host)
        raise Malformed("no message of a joiner")

    async def _prove(self, session: bytes, proof: bytes, sealed: bytes, host: str) -> web.Response:
        before = self._invitation.tries_left
        try:
            request, seal = self._invitation.prove(session, proof, sealed, time.monotonic())
        except JoinRefused:
            left = self._invitation.tries_left
            if left < before:
                self._tell(Tried("wrong", host, left))
                if not left:
                    self._end("three wrong tries")
            raise web.HTTPForbidden from None
        try:
            welcome = await self._admit(request)
        except OffloadError as error:
            self._end(str(error))
            raise web.HTTPForbidden from None
        proof, sealed = seal(welcome)
        self._tell(Tried("joined", host, id=instance_id(request.public), name=request.name))
        self._end("it was used")
        return _answer({"proof": proof, "sealed": sealed})


def _answer(wire: dict[str, Any]) -> web.Response:
    return web.Response(body=codec.pack(wire), content_type="application/octet-stream")


def _bound(listen: Sequence[str]) -> list[socket.socket]:
    """Return listening sockets on one port: the usual one, or, if it is taken, a free one."""
    try:
        return _all_bound(listen, JOIN_PORT)
    except OSError:
        return _all_bound(listen, 0)


def _all_bound(listen: Sequence[str], port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        for host in listen:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            chosen = bound[0].getsockname()[1] if bound else port
            try:
                bound.append(socket.create_server((host, chosen), family=family))
            except OSError as error:
                if host not in EVERYWHERE or error.errno not in _ABSENT:
                    raise  # else this machine has no such family
        if not bound:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except OSError:
        for one in bound:
            one.close()
        raise
    return bound
