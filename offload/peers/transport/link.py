"""One connection to a peer: what waits leaves in one message, what comes is handed up."""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import ClientWebSocketResponse, WSMessage, WSMsgType, web
from yarl import URL

from offload.buckets import Buckets
from offload.errors import Malformed, PeerClosed
from offload.peers.identity import Checked, server_name
from offload.peers.transport import frames
from offload.peers.transport.frames import Close, Hello, Message
from offload.peers.transport.meter import BESIDE_LIMIT_BYTES, LOOK_EVERY_S, Meter, bytes_read
from offload.peers.transport.pace import Pace, Queued

log = logging.getLogger(__name__)
Channel = web.WebSocketResponse | ClientWebSocketResponse
MAX_OUTSTANDING: Final = 16  # messages whose handlers still run; then reading pauses
SIMULTANEOUS_S: Final = 5.0
CLOSE_S: Final = 1.0
TELL_EVERY_S: Final = 60.0
_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux


@dataclass(frozen=True, slots=True)
class LinkUp:
    """
    A link is up. Published again for a linked peer when a newer link took the place of its former.

    What was sent on the former may be lost, so whoever keeps a peer informed begins anew.
    """

    peer: str
    hello: Hello
    address: str
    dialled: bool


@dataclass(frozen=True, slots=True)
class LinkDown:
    """
    No link to the peer is left.

    ``goodbye``: it said that it leaves. ``spare``: the link was not needed any more.
    """

    peer: str
    reason: str
    goodbye: bool
    spare: bool = False


@dataclass(frozen=True, slots=True)
class TwinFound:
    """
    Another process has our instance id (C057).

    ``younger``: it has been up for longer than we, so this instance must not go on.
    """

    younger: bool
    reason: str


@dataclass(frozen=True, slots=True)
class LinkRefused:
    """An instance that we could reach and do not link with, and why."""

    id: str
    name: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShutOut:
    """A member that we have dialled has ended the connection without a word; event."""

    address: str


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A link as people see it: where, by whom, since when (wall time)."""

    address: str
    dialled: bool
    since_wall: float
    hello: Hello

    @property
    def version(self) -> int:
        """Return the version of the protocol that is spoken: the highest that both know."""
        return min(frames.VERSIONS[1], self.hello.versions[1])


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What holds for all links.

    Attributes:
        write_s: A write that is stuck for longer ends the link.
        pace: How fast peers may speak.
        queued: What waits for them.
        cut: How often it is told whose links were cut.
    """

    write_s: float
    pace: Pace = field(default_factory=Pace)
    queued: Queued = field(default_factory=Queued)
    cut: Buckets[str] = field(default_factory=lambda: Buckets(1 / TELL_EVERY_S, 1.0))


class Link:
    """
    One link, from both hellos to its end.

    Args:
        channel: The WebSocket.
        hello: What the peer said.
        where: Host and port where we reached it, or it came from.
        terms: What holds for all links.
        dialled: Whether we dialled.

    Attributes:
        busy_s: For how long its last message has kept our thread busy.
    """

    def __init__(
        self,
        channel: Channel,
        hello: Hello,
        where: tuple[str, int],
        terms: Terms,
        *,
        dialled: bool,
    ) -> None:
        self._channel = channel
        self.hello = hello
        self.peer = hello.id
        (self.host, self.port), self.dialled = where, dialled
        self.since_wall = time.time()
        self.since_s = asyncio.get_running_loop().time()
        self.ended = asyncio.Event()
        self.slots = asyncio.Semaphore(MAX_OUTSTANDING)
        self.busy_s = 0.0
        self.malformed = 0
        self.goodbye = False
        self.spare = False
        self.code: int | None = None
        self.reason = ""
        self._terms = terms
        self._meter = Meter()
        self._told_at = -TELL_EVERY_S
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._closing: tuple[Close, str] | None = None
        self.secure = proven_by(channel) is not None
        set_patience(told_of(channel, "socket"), terms.write_s)

    @property
    def server_name(self) -> str | None:
        """The name that TLS must find at its other end; None on a plain link."""
        return server_name(self.peer) if self.secure else None

    def url(self, path: str) -> URL:
        """Return the address of ``path`` at the peer, if we have dialled it."""
        return url_of(self.host, self.port, path, secure=self.secure)

    @property
    def info(self) -> LinkInfo:
        """The link as people see it."""
        address = address_of(self.host, self.port)
        return LinkInfo(address, self.dialled, self.since_wall, self.hello)

    @property
    def open(self) -> bool:
        """Whether frames may still be sent."""
        return self._closing is None and not self.ended.is_set()

    def send(self, packed: bytes) -> bool:
        """Queue a packed frame; False if the link is ending or too much waits already."""
        if not self.open or not self._terms.queued.fits(self._waiting_bytes, len(packed)):
            return False
        self._waiting.append(packed)
        self._note_waiting(len(packed))
        self._wake.set()
        return True

    def inherit(self, former: "Link") -> None:
        """Send what ``former`` has not sent yet."""
        for packed in former._waiting:
            self.send(packed)
        former._forget_waiting()

    def retire(self, code: Close, reason: str) -> None:
        """Close the link once what waits is written."""
        if self._closing is None:
            self._closing = code, reason
            self.spare = code is Close.SPARE
            self._wake.set()

    def cut(self, reason: str) -> None:
        """End the link at once, whatever waits."""
        self.reason = self.reason or f"cut here: {reason}"
        abort(self._channel)

    async def live(self, hear: Callable[[Message], Awaitable[None]]) -> None:
        """Write and read until the link ends; ``reason`` tells why it did."""
        writer = asyncio.get_running_loop().create_task(self._write())
        metering = asyncio.get_running_loop().create_task(self._measure())
        try:
            await self._read(hear)
        finally:
            metering.cancel()
            self.ended.set()
            self._wake.set()
            if not writer.done():
                await asyncio.wait([writer], timeout=CLOSE_S)
                writer.cancel()
            self._forget_waiting()

    async def _write(self) -> None:
        try:
            while not self.ended.is_set():
                await self._wake.wait()
                self._wake.clear()
                while self._waiting and not self.ended.is_set():
                    async with asyncio.timeout(self._terms.write_s):
                        await self._channel.send_bytes(self._next())
                if self._closing:
                    code, reason = self._closing
                    self.reason = self.reason or f"closed here: {reason}"
                    await close(self._channel, code, reason)
                    return
        except TimeoutError:
            self.cut(f"the peer has taken nothing for {self._terms.write_s:g} s")
        except ConnectionError as error:
            self.reason = self.reason or f"connection lost ({error})"
            abort(self._channel)

    def _next(self) -> bytes:
        message, count = frames.join(self._waiting)
        for _ in range(count):
            self._note_waiting(-len(self._waiting.popleft()))
        return message

    def _note_waiting(self, more: int) -> None:
        self._waiting_bytes += more
        self._terms.queued.total += more

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._note_waiting(-self._waiting_bytes)

    async def _read(self, hear: Callable[[Message], Awaitable[None]]) -> None:
        while True:
            received = await self._channel.receive()
            begun_s, count = time.thread_time(), 1
            if received.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                message = frames.split(received.data)
                count = message.count
                self.busy_s = time.thread_time() - begun_s
                await hear(message)
            elif received.type not in (WSMsgType.PING, WSMsgType.PONG):
                self._note_end(received)
                return
            self._meter.note(len(received.data))
            await self._rest(count, len(received.data))

    async def _rest(self, count: int, size: int) -> None:
        """Read nothing for a while from a peer that speaks too fast."""
        now = asyncio.get_running_loop().time()
        pause_s = self._terms.pace.heard(
            self.peer, now, frames=count, size=size, busy_s=self.busy_s
        )
        self.busy_s = 0.0
        if pause_s and now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            log.warning("%s sends more than is read of one peer; it has to wait", self.peer)
        await asyncio.sleep(pause_s)  # also for 0: who sends without end must not keep the loop

    async def _measure(self) -> None:
        """Cut the link if much comes that is no message; that is, of what we are not told."""
        while (read := bytes_read(told_of(self._channel, "socket"))) is not None:
            if self._meter.look(read):
                now = asyncio.get_running_loop().time()
                self._terms.pace.heard(self.peer, now, frames=0, size=BESIDE_LIMIT_BYTES, busy_s=1)
                if self._terms.cut.draw(self.peer, now):
                    log.warning("%s sends what is no message; its link is cut", self.peer)
                self.cut("it sends what is no message")
                return
            await asyncio.sleep(LOOK_EVERY_S)

    def _note_end(self, received: WSMessage) -> None:
        if received.type is WSMsgType.CLOSE:
            self.code = received.data
            self.goodbye = self.goodbye or self.code == Close.REMOVED
            self.spare = self.spare or self.code == Close.SPARE
            self.reason = self.reason or f"closed by the peer: {received.extra or received.data}"
        else:
            cause = f" ({received.data})" if received.data else ""
            self.reason = self.reason or f"connection lost{cause}"


def takes_over(own_id: str, old: Link, new: Link) -> bool:
    """
    Say whether the accepted link ``new`` takes the place of ``old``, to the same peer.

    Nobody dials whom it is linked to: so its dialler has lost the old one, unless both dialled
    at the same time. Then both keep the one that the lower id dialled.
    """
    if not same_life(old.hello, new.hello):
        return is_later(old.hello, new.hello)
    if old.dialled == new.dialled or new.since_s - old.since_s > SIMULTANEOUS_S:
        return True
    return new.dialled == (own_id < new.peer)


def same_life(one: Hello, other: Hello) -> bool:
    """Say whether both are of one start of an instance."""
    return (one.boot, one.life) == (other.boot, other.life)


def is_later(old: Hello, new: Hello) -> bool:
    """
    Say whether ``new`` is of a later start than ``old``, which came before it.

    A life that has a name and is another one has begun since, whatever boot it counts: its store
    may be a restored one.
    """
    if old.life and new.life and old.life != new.life:
        return True
    return new.boot > old.boot


async def hear_hello(channel: Channel, where: str) -> tuple[Hello, Message]:
    """
    Wait for the peer's hello; return it, and what else came in its message.

    Raises:
        Malformed: If something else came first.
        PeerClosed: If the peer closed the connection instead, with its code and reason.
    """
    received = await channel.receive()
    if received.type is not WSMsgType.BINARY:
        said = received.extra or received.data
        reason = f"refused the link: {said}" if said else "ended the link"
        code = received.data if received.type is WSMsgType.CLOSE else 0
        raise PeerClosed(where, reason, code)
    message = frames.split(received.data)
    hellos = message.frames.pop("hello", [])
    if message.first != "hello" or len(hellos) != 1:
        raise Malformed("the first frame is no hello")
    return Hello.from_wire(hellos[0]), message


def refuse_hello(_link: Link, _fields: list[dict[str, Any]]) -> None:
    """Take in a hello that comes later than first."""
    raise Malformed("only the first frame may be one")


def note_error(link: Link, fields: list[dict[str, Any]]) -> None:
    """Take in that the peer found a frame of ours malformed."""
    log.info("%s refused a frame: %s", link.peer, str(fields[0].get("reason"))[:200])


def note_goodbye(link: Link, _fields: list[dict[str, Any]]) -> None:
    """Take in that the peer leaves."""
    link.goodbye = True


async def close(channel: Channel, code: Close, reason: str) -> None:
    """Close a WebSocket, with the reason for the other side."""
    with suppress(ConnectionError):
        await channel.close(code=code, message=reason.encode("utf-8")[:120])


def abort(channel: Channel) -> None:
    """End a connection at once, whatever waits to be written."""
    connection = told_of(channel, "socket")
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def told_of(connection: Any, name: str) -> Any:
    """Return what a connection tells of itself; None also if it is TLS and closed."""
    with suppress(AttributeError):  # asyncio's own: closed twice, it has nobody to ask
        return connection.get_extra_info(name)
    return None


def set_patience(connection: Any, patience_s: float) -> None:
    """Let the system end a connection whose peer has confirmed nothing for so long."""
    if connection is not None and _USER_TIMEOUT is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(patience_s * 1000))


def whence(peer: Any) -> tuple[str, int]:
    """Return host and port of a socket's other end; a link-local host is nothing without scope."""
    match peer:
        case [str(host), int(port), _, int(scope)] if scope and "%" not in host:
            return f"{host}%{scope}", port
        case [str(host), int(port), *_]:
            return host, port
    return "", 0


def address_of(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(host: str, port: int, path: str, *, secure: bool) -> URL:
    """Return the address of ``path`` at a peer."""
    return URL.build(scheme="https" if secure else "http", host=host, port=port, path=path)


def proven_by(connection: Any) -> str | None:
    """Return the id that TLS has proven of who is at the other end; None if the link is plain."""
    tls = told_of(connection, "ssl_object")
    return tls.peer_id if isinstance(tls, Checked) else None


def impostor(channel: Channel, hello: Hello) -> tuple[Close, str] | None:
    """Return the refusal of a peer that says it is another than TLS has proven, or None."""
    proven = proven_by(channel)
    if proven in (None, hello.id):
        return None
    return Close.OTHER, f"its certificate is that of {proven}, not of {hello.id}"
