"""
Somebody on the LAN who is not of the group, with raw sockets and much time.

``outsider.py OWN_ADDRESS SECOND_ADDRESS SECONDS EVIDENCE STOLEN TARGET=ID...`` attacks all targets
at once, in every way below, and writes down what they have ever answered (EVIDENCE, JSON: way ->
how many connections were opened, and the bytes, hex). STOLEN is a folder with key and certificate
of a member that was removed. What floods comes from the first address, what is finer from the
second: so it is not turned away with the flood.
"""

import asyncio
import json
import os
import random
import socket
import ssl
import struct
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

MDNS = ("224.0.0.251", 5353)
SERVICE = "_offload._tcp.local."
PORT = 4711
RECORDS = 3000
SILENT = 1000
KEPT_BYTES = 65_536
PTR, TXT, A, SRV = 12, 16, 1, 33
FLUSH = 0x8000
LINK = b"GET /offload/link HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
HELLO = bytes.fromhex("160301020001000200fc0303") + bytes(range(256)) * 2


class Outsider:
    def __init__(
        self, own: str, second: str, seconds: float, stolen: Path, targets: dict[str, str]
    ) -> None:
        self._own, self._second = own, second
        self._targets, self._stolen = targets, stolen
        self._until = time.monotonic() + seconds
        self.heard: dict[str, bytearray] = defaultdict(bytearray)
        self.opened: Counter[str] = Counter()
        self._mdns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._mdns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._mdns.bind((own, MDNS[1]))
        interface = socket.inet_aton(own)
        self._mdns.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        self._mdns.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)

    async def run(self) -> None:
        trap = await asyncio.start_server(self._trapped, self._own, PORT)
        ways: list[Callable[[], Awaitable[None]]] = [
            self.goodbyes,
            self.takeover,
            self.phantoms,
            self.rubbish,
            self.silence,
            self.plain_http,
            self.half_a_handshake,
            self.replay,
            self.stolen_certificate,
            self.no_certificate,
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until - time.monotonic()):
                await asyncio.gather(*(self._for_ever(way) for way in ways))
        trap.close()

    async def _for_ever(self, way: Callable[[], Awaitable[None]]) -> None:
        while True:
            with suppress(OSError):
                await way()
            await asyncio.sleep(0.2)

    # --- by multicast DNS ---

    async def goodbyes(self) -> None:
        """In the name of each."""
        for name in self._targets.values():
            self._say(record(SERVICE, PTR, 0, labels(f"{name}.{SERVICE}"), flush=False))

    async def takeover(self) -> None:
        """Each lives here now."""
        for name in self._targets.values():
            where = struct.pack(">HHH", 0, 0, PORT) + labels(f"{name}.local.")
            self._say(
                record(f"{name}.{SERVICE}", SRV, 120, where),
                record(f"{name}.local.", A, 120, socket.inet_aton(self._own)),
            )

    async def phantoms(self) -> None:
        """Instances that are not there."""
        for number in range(RECORDS):
            name = f"{random.randrange(10**12):026d}"
            host = f"10.99.0.{100 + number % 100}"
            self._say(
                record(SERVICE, PTR, 4500, labels(f"{name}.{SERVICE}"), flush=False),
                record(
                    f"{name}.{SERVICE}",
                    SRV,
                    120,
                    struct.pack(">HHH", 0, 0, 1) + labels(f"{name}.local."),
                ),
                record(f"{name}.{SERVICE}", TXT, 4500, text({"v": "1", "realm": "default"})),
                record(f"{name}.local.", A, 120, socket.inet_aton(host)),
            )
            if number % 15 == 14:
                await asyncio.sleep(0.01)
        await asyncio.sleep(2)

    async def rubbish(self) -> None:
        """What is no DNS, or claims to be more than it is, or points at itself."""
        for _ in range(50):
            self._send(os.urandom(random.randrange(1, 1400)))
            self._send(struct.pack(">6H", 0, 0x8400, 0, 65535, 65535, 65535) + os.urandom(40))
            self._send(struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\xc0\x0c" * 8)
        await asyncio.sleep(0.5)

    def _say(self, *records: bytes) -> None:
        self._send(struct.pack(">6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records))

    def _send(self, packet: bytes) -> None:
        with suppress(OSError):
            self._mdns.sendto(packet, MDNS)

    # --- by TCP ---

    async def silence(self) -> None:
        """A thousand connections that say nothing, as long as they are let."""
        for _ in range(SILENT):
            asyncio.get_running_loop().create_task(self._call("silence", b""))
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)

    async def plain_http(self) -> None:
        await self._call("plain http", b"GET /offload/link HTTP/1.1\r\nHost: x\r\n\r\n")

    async def half_a_handshake(self) -> None:
        await self._call("half a handshake", HELLO[: random.randrange(1, len(HELLO))])

    async def replay(self) -> None:
        """What somebody has said before, byte for byte."""
        await self._call(
            "replay", HELLO + b"\x14\x03\x03\x00\x01\x01" + b"\x17\x03\x03\x01\x00" + bytes(256)
        )

    async def stolen_certificate(self) -> None:
        """Key and certificate of a member that was removed, and then garbage."""
        context = client()
        context.load_cert_chain(self._stolen / "certificate.pem", self._stolen / "key.pem")
        await self._call("a stolen certificate", os.urandom(4096), context)
        await self._call("a stolen certificate", LINK, context)

    async def no_certificate(self) -> None:
        await self._call(
            "no certificate", b"GET /offload/link HTTP/1.1\r\nHost: x\r\n\r\n", client()
        )

    async def _call(self, way: str, said: bytes, tls: ssl.SSLContext | None = None) -> None:
        """Say something to one of the targets, and keep what it answers."""
        target, way = random.choice(list(self._targets)), f"{way}, tls" if tls else way
        source = self._own if way == "silence" else self._second
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(
                    target, PORT, ssl=tls, local_addr=(source, 0)
                )
                self.opened[way] += 1
                try:
                    writer.write(said)
                    while data := await reader.read(4096):
                        self._keep(way, data)
                finally:
                    writer.transport.abort()

    async def _trapped(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whoever believes the false records comes here; what does it say?"""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                self._keep("trap", await reader.read(4096))
        writer.transport.abort()

    def _keep(self, way: str, data: bytes) -> None:
        if len(self.heard[way]) < KEPT_BYTES:
            self.heard[way] += data


def client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def labels(name: str) -> bytes:
    parts = name.rstrip(".").split(".")
    return b"".join(bytes([len(part)]) + part.encode() for part in parts) + b"\0"


def record(name: str, kind: int, ttl: int, data: bytes, *, flush: bool = True) -> bytes:
    head = struct.pack(">HHIH", kind, 1 | (FLUSH if flush else 0), ttl, len(data))
    return labels(name) + head + data


def text(said: dict[str, str]) -> bytes:
    entries = [f"{key}={value}".encode() for key, value in said.items()]
    return b"".join(bytes([len(entry)]) + entry for entry in entries)


if __name__ == "__main__":
    own, second, seconds, evidence, stolen, *targets = sys.argv[1:]
    outsider = Outsider(
        own, second, float(seconds), Path(stolen), dict(target.split("=") for target in targets)
    )
    asyncio.run(outsider.run())
    ways = outsider.opened.keys() | outsider.heard.keys()
    told = {way: [outsider.opened[way], bytes(outsider.heard[way]).hex()] for way in ways}
    Path(evidence).write_text(json.dumps(told), "utf-8")
