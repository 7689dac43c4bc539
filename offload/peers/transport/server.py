"""The listening side: sockets, HTTP routes, and what is refused before anybody looks at it."""

import errno
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from offload.errors import ConfigError, PortTaken
from offload.peers.transport.entrance import Entrance
from offload.peers.transport.frames import MAX_MESSAGE_BYTES, SUBPROTOCOL
from offload.peers.transport.guard import HttpLog, guard
from offload.peers.transport.link import CLOSE_S, Channel, proven_by, set_patience, whence

log = logging.getLogger(__name__)
LINK_PATH: Final = "/offload/link"
BLOB_PATH: Final = "/offload/blobs/"
IDLE_S: Final = 3.0  # for the first request's head, and between two requests
LINGER_S: Final = 2.0
STOP_S: Final = 1.0
OF_ONE_PEER: Final = 64  # connections: a link, files both ways, and what is about to end
_TRIES: Final = 10
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - a machine may lack a family
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
Accept = Callable[[Channel, str, int], Awaitable[None]]
Serve = Callable[[web.Request, str], Awaitable[web.StreamResponse]]
Member = Callable[[str], bool]


class Server:
    """
    Serves the protocol's routes on every address of ``listen``, all on one port.

    Args:
        accept: Takes a new WebSocket with the host and port it came from; lives as long as it.
        get: Answers a request for a blob's content.
        put: Takes a blob's content in.
        stall_s: A connection whose other side confirms nothing for so long is ended.
        tls: What connections are opened with; None: they are plain.
        member: Says whether a proven instance still belongs to the group.
    """

    def __init__(
        self,
        *,
        accept: Accept,
        get: Serve,
        put: Serve,
        stall_s: float,
        tls: ssl.SSLContext | None,
        member: Member,
    ) -> None:
        self._accept = accept
        self._get, self._put = get, put
        self._stall_s = stall_s
        self._tls, self._member = tls, member
        self._log = HttpLog()
        self._runner: web.AppRunner | None = None
        self._entrance: Entrance | None = None

    @property
    def malformed(self) -> int:
        """The number of requests that were no HTTP."""
        return self._log.malformed

    async def open(self, listen: Sequence[str], port: int | None, port_hint: int | None) -> int:
        """
        Listen; return the port.

        Raises:
            PortTaken: If ``port`` is given and in use.
            ConfigError: If an address of ``listen`` is none of this machine's.
        """
        sockets = _bind(listen, port, port_hint)
        app = web.Application(
            middlewares=[self._members_only, guard, _no_bodies], client_max_size=1
        )
        app.router.add_get(LINK_PATH, self._serve_link, allow_head=False)
        app.router.add_get(BLOB_PATH + "{sha256}", self._serving(self._get))
        app.router.add_put(BLOB_PATH + "{sha256}", self._serving(self._put))
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=self._log,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=STOP_S,
            auto_decompress=False,
        )
        await self._runner.setup()
        if self._runner.server is None:
            raise RuntimeError("the runner was set up and has no server")
        self._entrance = Entrance(self._runner.server, tls=self._tls, excess=self._excess)
        for listening in sockets:
            set_patience(listening, self._stall_s)  # accepted connections inherit it
            await self._entrance.open(listening)
        return int(sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Accept no new connections."""
        if self._entrance is not None:
            self._entrance.stop_listening()

    async def close(self) -> None:
        """End all connections, in bounded time."""
        if self._entrance is not None:
            await self._entrance.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def cut_strangers(self) -> None:
        """End the connections of those who no longer belong to the group."""
        if self._runner is None or self._runner.server is None:
            return
        for connection in self._runner.server.connections:
            transport = connection.transport
            if transport is not None and not self._belongs(transport):
                transport.abort()

    def _belongs(self, connection: Any) -> bool:
        proven = proven_by(connection)
        return proven is None or self._member(proven)

    def _excess(self, connection: Any, most_open: int) -> str:
        """Say why a connection whose peer is known is one too many; "" if it is not."""
        if self._runner is None or self._runner.server is None:
            return "the server is closed"
        open_now = self._runner.server.connections
        if len(open_now) > most_open:
            return f"{most_open} are open already"
        proven = proven_by(connection)
        if proven is None:
            return ""
        of_it = sum(c.transport is not None and proven_by(c.transport) == proven for c in open_now)
        return f"{proven} has {OF_ONE_PEER} already" if of_it > OF_ONE_PEER else ""

    @web.middleware
    async def _members_only(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse who was removed since its connection was opened."""
        if self._entrance is not None:
            self._entrance.heard(request.transport)
        if not self._belongs(request):
            raise web.HTTPForbidden(text="this instance is no member of the group\n")
        return await handler(request)

    async def _serve_link(self, request: web.Request) -> web.StreamResponse:
        offered = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")
        if SUBPROTOCOL not in map(str.strip, offered):
            raise web.HTTPBadRequest(text=f"this is for WebSockets of subprotocol {SUBPROTOCOL}\n")
        channel = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            autoping=False,
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES + 1,  # aiohttp refuses what is as long
            timeout=CLOSE_S,
        )
        await channel.prepare(request)
        await self._accept(channel, *whence(request.get_extra_info("peername")))
        return channel

    @staticmethod
    def _serving(serve: Serve) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            sha256 = request.match_info["sha256"]
            if not _SHA256.fullmatch(sha256):
                raise web.HTTPBadRequest(text="this is no SHA-256 in lower-case hex\n")
            return await serve(request, sha256)

        return handler


@web.middleware
async def _no_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a body where none belongs, before a byte of it is read."""
    if request.can_read_body and request.method != hdrs.METH_PUT:
        raise web.HTTPRequestEntityTooLarge(1, request.content_length or 0)
    return await handler(request)


# --- listening sockets -------------------------------------------------------------------------


def _bind(listen: Sequence[str], port: int | None, port_hint: int | None) -> list[socket.socket]:
    """Return bound sockets on one port: ``port``, or the hint, or a free one."""
    if port is not None:
        return _bind_all(listen, port)
    if port_hint:
        with suppress(PortTaken):
            return _bind_all(listen, port_hint)
    for _ in range(_TRIES - 1):
        with suppress(PortTaken):  # free on the first address, but not on all
            return _bind_all(listen, 0)
    return _bind_all(listen, 0)


def _bind_all(listen: Sequence[str], port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        for host in listen:
            before = len(bound)
            for family, address in _resolve(host):
                listening = _bind_one(family, (address[0], port, *address[2:]), host)
                if listening is not None:
                    bound.append(listening)
                    port = port or listening.getsockname()[1]
            if len(bound) == before and host not in _WILDCARDS:
                raise ConfigError("node.listen", f"{host} is no address of this machine")
        if not bound:
            raise ConfigError("node.listen", f"{listen[0]} is no address of this machine")
    except BaseException:
        for listening in bound:
            listening.close()
        raise
    return bound


def _resolve(host: str) -> Iterator[tuple[socket.AddressFamily, Any]]:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError("node.listen", f"{host}: {error.strerror}") from None
    for family, _, _, _, address in found:
        yield family, address


def _bind_one(family: socket.AddressFamily, address: Any, host: str) -> socket.socket | None:
    """Return a socket bound to ``address``, or None if this machine has no such address."""
    listening: socket.socket | None = None
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.setblocking(False)
    except OSError as error:
        if listening is not None:
            listening.close()
        if error.errno in _ABSENT:
            return None
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, address[1]) from None
        raise ConfigError("node.port", f"{address[1]}: {error.strerror}") from None
    return listening
