"""
A switch in user space, that delays and loses: ``switch.py SOCKET…`` joins these interfaces.

Each line of its standard input is the weather from then on: ``DELAY JITTER LOSS``, seconds,
seconds, and a part of 1. ``switch.py --whole DEVICE`` has a device send whole packets with their
checksums: what the kernel leaves to hardware nobody would do here.
"""

import ctypes
import fcntl
import heapq
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

EVERYTHING: Final = 3  # ETH_P_ALL
OUTGOING: Final = 4  # PACKET_OUTGOING: our own
SIOCETHTOOL: Final = 0x8946
OFFLOADS: Final = (0x17, 0x1F, 0x24, 0x2C)  # ETHTOOL_STXCSUM, STSO, SGSO, SGRO
LONGEST: Final = 65_536


class Switch:
    """Frames wait in ``due`` until it is their time."""

    def __init__(self, names: list[str]) -> None:
        self._ports = {name: _opened(name) for name in names}
        self._where: dict[bytes, str] = {}  # hardware address -> port
        self._due: list[tuple[float, int, str, bytes]] = []
        self._count = 0
        self._delay_s = self._jitter_s = self._loss = 0.0
        self._chance = random.Random(1)

    def run(self) -> None:
        """Forward until the standard input ends."""
        selector = selectors.DefaultSelector()
        for name, port in self._ports.items():
            selector.register(port, selectors.EVENT_READ, name)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ, "")
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for key, _ in selector.select(wait_s):
                if key.data:
                    self._take(key.data)
                elif not self._turn():
                    return
            self._send()

    def _turn(self) -> bool:
        line = os.read(sys.stdin.fileno(), 4096).decode("ascii").strip()
        if line:
            self._delay_s, self._jitter_s, self._loss = map(float, line.split("\n")[-1].split())
        return bool(line)

    def _take(self, name: str) -> None:
        for frame in _arrived(self._ports[name]):
            self._where[frame[6:12]] = name
            known = None if frame[0] & 1 else self._where.get(frame[:6])
            for other in [known] if known else self._ports:
                if other != name and self._chance.random() >= self._loss:
                    self._count += 1
                    late_s = self._delay_s + self._chance.uniform(-1, 1) * self._jitter_s
                    entry = time.monotonic() + late_s, self._count, other, frame
                    heapq.heappush(self._due, entry)

    def _send(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, name, frame = heapq.heappop(self._due)
            with suppress(OSError):  # its cable may be out
                self._ports[name].send(frame)


def _opened(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
    port.bind((name, 0))
    port.setblocking(False)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
    return port


def _arrived(port: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):  # nothing more, or the cable is out
        while True:
            frame, address = port.recvfrom(LONGEST)
            if address[2] != OUTGOING and len(frame) >= 14:
                yield frame


def make_whole(device: str) -> None:
    """Let nothing of a packet be left to hardware."""
    with socket.socket() as any_socket:
        for command in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", device.encode("ascii"), ctypes.addressof(value))
            with suppress(OSError):  # it knows no such thing
                fcntl.ioctl(any_socket, SIOCETHTOOL, request)


if __name__ == "__main__":
    if sys.argv[1] == "--whole":
        make_whole(sys.argv[2])
    else:
        Switch(sys.argv[1:]).run()
