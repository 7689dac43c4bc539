"""Looks whether the port of the link answers, or could be had. Sockets live for a moment only."""

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Final

from offload.peers.transport.visit import Door, knock

_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with
KNOCK_S: Final = 2.0


async def answers(listen: Sequence[str], port: int) -> str:
    """Return why we do not answer at our own port, or ""."""
    hosts = [_LOOPBACK.get(host, host) for host in listen]
    knocks = await asyncio.gather(*(knock(host, port, KNOCK_S) for host in hosts))
    for host, found in zip(hosts, knocks, strict=True):
        if found.door is not Door.OPEN:
            return f"{host}: {found.reason}"
    return ""


def could_be_had(listen: Sequence[str], port: int) -> str:
    """Return why we could not listen there, or ""; blocks for a moment."""
    for host in listen:
        try:
            resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:  # the latter: it can be no name
            return f"{host}: {getattr(error, 'strerror', None) or error}"
        for family, kind, _, _, address in resolved:
            try:
                with socket.socket(family, kind) as tried:
                    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    tried.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return f"{host}: another program has port {port}"
                return f"{host}: {error.strerror}"
    return ""
