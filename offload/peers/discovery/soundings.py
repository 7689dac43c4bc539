"""
Whether multicast gets through: a small packet is sent on each interface, and who hears it tells.

A *sounding* is a well-formed question of mDNS that nobody answers, marked by a token. It goes to
the group and port of mDNS, so what stops mDNS stops it. The sockets that hear are bound to the
group's address: what is sent to one machine alone still reaches whoever serves mDNS here.
"""

import asyncio
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import psutil

from offload.peers.discovery.addresses import is_loopback

PORT: Final = 5353
GROUPS: Final = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
TIMES: Final = 4  # a packet may be lost
EVERY_S: Final = 0.25
HEARD_LIMIT: Final = 1000
_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
_MARK: Final = re.compile(rb"\x10([0-9a-f]{16})\x0e_offload-probe")
_AFTER: Final = b"\x0e_offload-probe\x04_udp\x05local\0" + struct.pack("!HH", 16, 1)
_ONE_QUESTION: Final = struct.pack("!6H", 0, 0, 1, 0, 0, 0)
# Linux hands a socket what any other one has joined, unless it is told not to; Python 3.11 has no
# names for that.
_ONLY_JOINED: Final = {socket.AF_INET: (socket.IPPROTO_IP, 49), socket.AF_INET6: (41, 29)}


@dataclass(frozen=True, slots=True)
class Way:
    """An interface by its name, and the address by which it is used there."""

    interface: str
    address: str

    @property
    def family(self) -> socket.AddressFamily:
        """The version of IP."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


@dataclass(frozen=True, slots=True)
class Heard:
    """A sounding came in: by which interface, and from which address."""

    interface: str
    host: str


def ways(addresses: Iterable[str]) -> tuple[Way, ...]:
    """Return the ways by which mDNS goes for these addresses, one per interface and version."""
    wanted = set(addresses)
    found: dict[tuple[str, bool], Way] = {}
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            six = ":" in entry.address
            if entry.address in wanted and not (six and is_loopback(entry.address)):
                found.setdefault((name, six), Way(name, entry.address))
    return tuple(found.values())


def is_token(text: object) -> bool:
    """Say whether ``text`` marks a sounding."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


class Soundings:
    """
    Hears and sends on ``ways`` while it is open (``async with``).

    Attributes:
        deaf: The ways on which nothing can be heard, and why.
    """

    def __init__(self, ways: Sequence[Way]) -> None:
        self.ways = tuple(ways)
        self.deaf: dict[Way, str] = {}
        self._ears: list[socket.socket] = []
        self._heard: dict[str, dict[Heard, None]] = {}
        self._count = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for way in self.ways:
            try:
                ear = _ear(way)
            except OSError as error:
                self.deaf[way] = error.strerror or str(error)
                continue
            self._ears.append(ear)
            loop.add_reader(ear, self._take, ear, way)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for ear in self._ears:
            asyncio.get_running_loop().remove_reader(ear)
            ear.close()
        self._ears.clear()

    async def say(self, *tokens: str) -> dict[Way, str]:
        """Send these soundings on all ways, a few times; return why not, "" where it was done."""
        sent: dict[Way, str] = {}
        for number in range(TIMES):
            if number:
                await asyncio.sleep(EVERY_S)
            for way in self.ways:
                sent[way] = _say(way, tokens)
        await asyncio.sleep(EVERY_S)  # so that the last one is heard
        return sent

    def heard(self, token: str) -> tuple[Heard, ...]:
        """Return where this sounding came in."""
        return tuple(self._heard.get(token, ()))

    def _take(self, ear: socket.socket, way: Way) -> None:
        with suppress(OSError):  # a packet less; others follow
            packet, sender = ear.recvfrom(9000)
            host = str(sender[0]).partition("%")[0]
            for token in _tokens(packet):
                if self._count < HEARD_LIMIT:
                    self._count += 1
                    self._heard.setdefault(token, {})[Heard(way.interface, host)] = None


def packed(token: str) -> bytes:
    """Return a sounding as it travels."""
    return _ONE_QUESTION + b"\x10" + token.encode("ascii") + _AFTER


def _tokens(packet: bytes) -> Iterator[str]:
    for found in _MARK.finditer(packet):
        yield found.group(1).decode("ascii")


def _say(way: Way, tokens: Iterable[str]) -> str:
    """Send on one way; return why that is not possible, or ""."""
    try:
        with socket.socket(way.family, socket.SOCK_DGRAM) as mouth:
            mouth.setblocking(False)
            if way.family is socket.AF_INET:
                mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _packed(way))
                mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
                where: tuple[str, int] | tuple[str, int, int, int] = (GROUPS[way.family], PORT)
            else:
                number = socket.if_nametoindex(way.interface)
                mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
                mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
                where = (GROUPS[way.family], PORT, 0, number)
            for token in tokens:
                mouth.sendto(packed(token), where)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _ear(way: Way) -> socket.socket:
    """Return a socket that hears what comes to the group by this way, and nothing else."""
    ear = socket.socket(way.family, socket.SOCK_DGRAM)
    try:
        ear.setblocking(False)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":
            ear.setsockopt(*_ONLY_JOINED[way.family], 0)
        group = socket.inet_pton(way.family, GROUPS[way.family])
        if way.family is socket.AF_INET:
            ear.bind((GROUPS[way.family], PORT))
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + _packed(way))
        else:
            number = socket.if_nametoindex(way.interface)
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            ear.bind((GROUPS[way.family], PORT, 0, number))
            joined = group + struct.pack("@I", number)
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
    except BaseException:
        ear.close()
        raise
    return ear


def _packed(way: Way) -> bytes:
    return socket.inet_aton(way.address)
