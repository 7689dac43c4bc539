"""
The entrance: connections are accepted here, one by one, and are few until they are known.

A connection is known once its handshake has proven whose it is, or, where links are plain, once
its first request has come. Who is turned away is cut without a word, and counted.
"""

import asyncio
import logging
import resource
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from offload.peers.transport.crowd import Crowd, limit
from offload.tasks import Tasks

log = logging.getLogger(__name__)
HANDSHAKE_S: Final = 3.0
BACKLOG: Final = 256
LOOK_S: Final = 0.1
NO_DESCRIPTOR_S: Final = 0.1
TELL_EVERY_S: Final = 60.0
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time at all
_OPEN_SHARE: Final = 2  # of the descriptors, this part may be connections at most


class Entrance:
    """
    Accepts connections, and hands them over to who speaks HTTP with them.

    Args:
        serve: Makes what speaks with a connection.
        tls: What they are opened with; None: they are plain.
        excess: Says why a known connection is one too many, given how many may be open; or "".

    Attributes:
        turned_away: How many were cut because too many stood at the entrance.
        unproven: How many did not prove to be of the group.
    """

    def __init__(
        self,
        serve: Callable[[], asyncio.BaseProtocol],
        *,
        tls: ssl.SSLContext | None = None,
        excess: Callable[[asyncio.BaseTransport, int], str] = lambda *_: "",
    ) -> None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_open = 1_000_000 if descriptors < 0 else descriptors // _OPEN_SHARE
        self._serve, self._tls, self._excess = serve, tls, excess
        self._crowd: Crowd[asyncio.Task[None]] = Crowd(limit(descriptors))
        self._accepting: list[asyncio.Task[None]] = []
        self._heard: WeakKeyDictionary[asyncio.BaseTransport, asyncio.Event] = WeakKeyDictionary()
        self._tasks = Tasks()
        self._told_at = -TELL_EVERY_S
        self.turned_away = 0
        self.unproven = 0

    async def open(self, listening: socket.socket) -> None:
        """Accept what comes to a socket that is bound."""
        listening.setblocking(False)
        listening.listen(BACKLOG)
        accepting = self._tasks.start(self._accept(listening))
        accepting.add_done_callback(lambda _: listening.close())
        self._accepting.append(accepting)
        await asyncio.sleep(0)  # it accepts when this returns

    def stop_listening(self) -> None:
        """Accept no new connections."""
        for accepting in self._accepting:
            accepting.cancel()

    async def close(self) -> None:
        """Accept none, and end those that are not known yet."""
        self.stop_listening()
        await self._tasks.close()

    def heard(self, connection: asyncio.BaseTransport | None) -> None:
        """Note that the first request of a connection has come."""
        if self._tls is None and connection is not None:
            self._heard.setdefault(connection, asyncio.Event()).set()

    # --- inside ----------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, (host, *_) = await loop.sock_accept(listening)
            except OSError as error:  # it was gone already, or there is no descriptor left
                log.debug("a connection was not accepted: %s", error)
                await asyncio.sleep(NO_DESCRIPTOR_S)
                continue
            self._let_in(connection, host)
            await asyncio.sleep(0)  # a flood of them must not keep the loop to itself

    def _let_in(self, connection: socket.socket, host: str) -> None:
        connection.setblocking(False)
        task = self._tasks.start(self._know(connection, host))
        fits, goes = self._crowd.enter(host, task)
        if not fits:
            task.cancel()
            _cut(connection)
        if goes is not None:
            goes.cancel()
        if goes is not None or not fits:
            self._turn_away(host)

        def known(_: asyncio.Task[None]) -> None:
            self._crowd.leave(host, task)
            if task.cancelled():  # perhaps before it began
                connection.close()

        task.add_done_callback(known)

    async def _know(self, connection: socket.socket, host: str) -> None:
        """Stand at the entrance until the connection is known, or too much time has passed."""
        transport: Any = None
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._serve,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S,
            )
            if self._tls is None:
                await self._first_word(transport)
        except (OSError, TimeoutError) as error:
            self.unproven += 1
            log.debug("%s did not prove to be of the group: %s", host, error)
        except asyncio.CancelledError:
            if transport is not None:
                transport.abort()
            raise
        else:
            self._check(transport)

    async def _first_word(self, transport: Any) -> None:
        """Wait for the first request of a plain connection, and end one that sends none."""
        heard = self._heard.setdefault(transport, asyncio.Event())
        for _ in range(int(HANDSHAKE_S / LOOK_S)):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await heard.wait()
            if transport.is_closing() or heard.is_set():
                return
        transport.abort()

    def _check(self, transport: Any) -> None:
        reason = self._excess(transport, self._most_open)
        if reason:
            log.debug("a connection is ended: %s", reason)
            transport.abort()

    def _turn_away(self, host: str) -> None:
        self.turned_away += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            log.warning(
                "too many connections that do not say whose they are, one of them from %s;"
                " %d were cut so far",
                host,
                self.turned_away,
            )


def _cut(connection: socket.socket) -> None:
    """End a connection at once, and keep nothing of it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
