"""
A network in memory: links as ``offload.peers.transport`` makes them, and a switch between them.

Frames are packed and checked as on the wire. Like TCP, a link keeps what a cut holds up until the
cut is healed, and loses it if one side gives the link up meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from offload.blobs import Blobs
from offload.clock import Clock
from offload.errors import BlobMissing, Malformed, OffloadError, PeerRefused, PeerUnreachable
from offload.events import Bus
from offload.peers.discovery import Settings
from offload.peers.membership import Membership
from offload.peers.transport import (
    Handler,
    Hello,
    LinkDown,
    LinkInfo,
    LinkRefused,
    LinkUp,
    frames,
)
from offload.tasks import Tasks

HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 4711
CHUNK_BYTES: Final = 1024 * 1024
Fate = Callable[[str], int]  # kind of a frame -> how often it arrives


class Cable:
    """One link, as both of its ends have it; another link of the same two is another cable."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A packed frame under way."""

    cable: Cable
    source: "MemoryTransport"
    target: "MemoryTransport"
    kind: str
    packed: bytes


class Switch:
    """Who is plugged in, who cannot reach whom, and what is under way."""

    def __init__(self) -> None:
        self.stations: dict[str, MemoryTransport] = {}  # by instance id, crashed ones too
        self.cuts: set[frozenset[str]] = set()
        self.fates: list[Fate] = []
        self.held: set[str] = set()  # kinds that are kept back
        self._ports: dict[str, int] = {}
        self._stuck: list[Frame] = []
        self._under_way: list[Frame] = []
        self._watchers: set[asyncio.Event] = set()

    @property
    def busy(self) -> bool:
        """Whether a frame is under way, or its receiver is at work on it."""
        return bool(self._under_way) or any(s.busy for s in self.stations.values())

    def plug(self, station: "MemoryTransport") -> int:
        """Take in an instance; return its port, the same each time."""
        self.stations[station.id] = station
        port = self._ports.setdefault(station.id, FIRST_PORT + len(self._ports))
        self.stir()
        return port

    def at(self, port: int) -> "MemoryTransport | None":
        """Return who listens, or listened, at ``port``."""
        return next((self.stations[i] for i, p in self._ports.items() if p == port), None)

    def is_cut(self, one: str, other: str) -> bool:
        """Say whether the two cannot reach each other."""
        return frozenset((one, other)) in self.cuts

    def heal(self) -> None:
        """End all trouble; what was held up arrives now."""
        self.cuts.clear()
        self.fates.clear()
        self.held.clear()
        stuck, self._stuck = self._stuck, []
        for frame in stuck:
            self._launch(frame)
        self.stir()

    def watch(self) -> asyncio.Event:
        """Return an event that is set whenever it may be worth while to dial again."""
        event = asyncio.Event()
        self._watchers.add(event)
        return event

    def stir(self) -> None:
        """Let all look anew for whom they could link with."""
        for event in self._watchers:
            event.set()

    def carry(self, frame: Frame) -> None:
        """Take a frame to its target, as often as its fate wants."""
        copies = 1
        for fate in self.fates:
            copies *= fate(frame.kind)
        for _ in range(copies):
            if frame.kind in self.held or self.is_cut(frame.source.id, frame.target.id):
                self._stuck.append(frame)
            else:
                self._launch(frame)

    def _launch(self, frame: Frame) -> None:
        if not self._under_way:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._under_way.append(frame)

    def _deliver(self) -> None:
        """What was sent within one turn of the loop arrives as one message per link."""
        arriving, self._under_way = self._under_way, []
        messages: dict[Cable, dict[MemoryTransport, list[Frame]]] = {}
        for frame in arriving:
            messages.setdefault(frame.cable, {}).setdefault(frame.target, []).append(frame)
        for cable, directions in messages.items():
            for target, parts in directions.items():
                target.hear(parts[0].source.id, cable, [part.packed for part in parts])


class MemoryTransport:
    """The links of one instance, in place of ``offload.peers.transport.Transport``."""

    def __init__(
        self,
        switch: Switch,
        *,
        hello: Callable[[], Hello],
        handlers: Mapping[str, Handler],
        blobs: Blobs,
        bus: Bus,
        **_of_sockets: Any,
    ) -> None:
        self._switch = switch
        self.hello = hello
        self._handlers = handlers
        self._blobs = blobs
        self._bus = bus
        self._links: dict[str, tuple[Cable, LinkInfo]] = {}
        self._tasks = Tasks()
        self._fetching: dict[str, asyncio.Lock] = {}
        self.up = False
        self.id = ""
        self.port = 0

    @property
    def busy(self) -> bool:
        """Whether a handler is at work."""
        return len(self._tasks) > 0

    async def open(self) -> None:
        """Plug in; from here on others may link."""
        self.id, self.up = self.hello().id, True
        self.port = self._switch.plug(self)

    async def run(self) -> NoReturn:
        """Stay until cancelled; then say goodbye."""
        try:
            while True:
                await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Say goodbye to all peers."""
        self.unplug(goodbye=True)
        await self._tasks.close()

    def unplug(self, *, goodbye: bool = False) -> None:
        """End all links; without a goodbye the others only see that they are lost."""
        self.up = False
        links, self._links = self._links, {}
        for peer, (cable, _) in links.items():
            if not self._switch.is_cut(self.id, peer):
                reason = "it leaves" if goodbye else "connection lost"
                self._switch.stations[peer].lose(self.id, cable, reason, goodbye=goodbye)

    def peers(self) -> dict[str, LinkInfo]:
        """Return the linked peers, by instance id."""
        return {peer: info for peer, (_, info) in self._links.items()}

    def refusals(self) -> tuple[LinkRefused, ...]:
        """Return nobody: all speak the same version here."""
        return ()

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Send a frame on its way; False if there is no link."""
        link = self._links.get(peer)
        if link is None:
            return False
        packed = frames.frame(kind, fields)
        target = self._switch.stations[peer]
        self._switch.carry(Frame(link[0], self, target, kind, packed))
        return True

    async def dial(self, host: str, port: int, want: str | None = None) -> str:
        """Link with who is plugged in at ``port``; raise ``PeerRefused``, ``PeerUnreachable``."""
        where, there = f"{host}:{port}", self._switch.at(port)
        if not self.up:
            raise PeerUnreachable(where, "this instance is not open")
        if there is not None and self._switch.is_cut(self.id, there.id):
            raise PeerUnreachable(where, "no answer")
        if there is None or not there.up:
            raise PeerRefused(where, "connection refused")
        own, other = self.hello(), there.hello()
        refusal = frames.refusal(own, other)
        if refusal is not None or want not in (None, other.id):
            raise PeerUnreachable(where, refusal[1] if refusal else f"it is {other.id}")
        if there.id not in self._links:
            cable = Cable()
            self.take_up(cable, other, port, dialled=True)
            there.take_up(cable, own, self.port, dialled=False)
        return there.id

    def drop(self, peer: str, reason: str) -> None:
        """Give up the link to ``peer``; it learns of that unless it is cut off."""
        if peer in self._links:
            cable = self._links[peer][0]
            soon = asyncio.get_running_loop().call_soon
            soon(partial(self.lose, peer, cable, f"cut here: {reason}"))
            if not self._switch.is_cut(self.id, peer):
                soon(partial(self._switch.stations[peer].lose, self.id, cable, "connection lost"))

    def release(self, peer: str) -> None:
        """Close the link to ``peer``; both learn that it was not needed any more."""
        if peer in self._links:
            cable = self._links[peer][0]
            soon = asyncio.get_running_loop().call_soon
            soon(partial(self.lose, peer, cable, "not needed", spare=True))
            there = self._switch.stations[peer]
            soon(partial(there.lose, self.id, cable, "not needed", spare=True))

    def complain(self, peer: str, reason: str) -> None:
        """Tell ``peer`` that a frame of its was malformed."""
        self.send(peer, "error", {"reason": reason, "count": 1})

    async def fetch(self, peer: str, sha256: str, size: int) -> None:
        """
        Copy a blob of ``peer``, or of another who has it.

        Raises:
            PeerUnreachable, BlobMissing, BlobMismatch: What came of the first one, if all fail.
        """
        async with self._fetching.setdefault(sha256, asyncio.Lock()):
            if self._blobs.has(sha256):
                return
            there, why = self._holder(peer, sha256, size)
            for other in self._links:
                there = there or self._holder(other, sha256, size)[0]
            if there is None:
                raise why
            await asyncio.to_thread(_copy, there._blobs, self._blobs, sha256, size)

    def _holder(
        self, peer: str, sha256: str, size: int
    ) -> "tuple[MemoryTransport | None, OffloadError]":
        there = self._switch.stations.get(peer)
        cut = self._switch.is_cut(self.id, peer)
        if there is None or peer not in self._links or cut:
            return None, PeerUnreachable(peer, "there is no link")
        has = there._blobs.size(sha256) == size
        return there if has else None, BlobMissing(sha256)

    # --- what others do to it ----------------------------------------------------------------

    def take_up(self, cable: Cable, hello: Hello, port: int, *, dialled: bool) -> None:
        """Have a link from now on."""
        address = f"{HOST}:{port}"
        self._links[hello.id] = cable, LinkInfo(address, dialled, 0.0, hello)
        self._bus.publish(LinkUp(hello.id, hello, address, dialled))

    def lose(
        self, peer: str, cable: Cable, reason: str, *, goodbye: bool = False, spare: bool = False
    ) -> None:
        """Have this link no more; nothing happens if there is another one by now."""
        if self.up and peer in self._links and self._links[peer][0] is cable:
            del self._links[peer]
            self._bus.publish(LinkDown(peer, reason, goodbye, spare))
            self._switch.stir()

    def hear(self, peer: str, cable: Cable, packed: list[bytes]) -> None:
        """Hand the frames of one message to their handlers."""
        if not self.up or peer not in self._links or self._links[peer][0] is not cable:
            return
        while packed:
            data, count = frames.join(packed)
            packed = packed[count:]
            for kind, fields in frames.split(data).frames.items():
                handler = self._handlers.get(kind)
                if handler is not None:
                    self._call(peer, handler, fields)

    def _call(self, peer: str, handler: Handler, fields: list[dict[str, Any]]) -> None:
        try:
            working = handler(peer, fields)
        except Malformed as error:
            self._complain(peer, error)
            return
        if working is not None:
            self._tasks.start(self._work(peer, working))

    async def _work(self, peer: str, working: Awaitable[None]) -> None:
        try:
            await working
        except Malformed as error:
            self._complain(peer, error)

    def _complain(self, peer: str, error: Malformed) -> None:
        self.send(peer, "error", {"reason": error.reason, "count": 1})


class MemoryDiscovery:
    """Links all who are plugged in; see ``offload.peers.discovery.Discovery``."""

    def __init__(
        self,
        switch: Switch,
        membership: Membership,
        links: MemoryTransport,
        _bus: Bus,
        _clock: Clock,
        _settings: Settings,
    ) -> None:
        self._switch = switch
        self._membership = membership
        self._links = links

    def show_again(self) -> None:
        """Say nothing: in memory there are no groups."""

    async def run(self) -> NoReturn:
        """Dial whoever is not linked, whenever that may have become possible."""
        self._membership.announce(addresses=[(HOST, self._links.port)])
        changed = self._switch.watch()
        while True:
            changed.clear()
            for station in tuple(self._switch.stations.values()):
                if station is not self._links and station.id not in self._links.peers():
                    await self._try(station)
            await changed.wait()

    async def _try(self, station: MemoryTransport) -> None:
        try:
            await self._links.dial(HOST, station.port, station.id)
        except PeerRefused:
            self._membership.refused(station.id)
        except PeerUnreachable:
            return  # it is cut off; there will be a stir when that is over


def _copy(source: Blobs, target: Blobs, sha256: str, size: int) -> None:
    arriving = target.incoming(sha256, size)
    try:
        with source.path(sha256).open("rb") as file:
            file.seek(arriving.offset)
            while chunk := file.read(CHUNK_BYTES):
                arriving.write(chunk)
        arriving.finish()
    finally:
        arriving.close()
