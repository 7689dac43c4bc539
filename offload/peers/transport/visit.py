"""
A visit: who listens there, without becoming a link.

The side that is dialled speaks first, so a visitor hears its hello and says none.
"""

import asyncio
import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from offload.errors import Malformed, PeerUnreachable
from offload.peers.identity import Credentials
from offload.peers.transport.dialling import Dialling
from offload.peers.transport.frames import Close, Hello
from offload.peers.transport.link import abort, address_of, close, hear_hello

REACH_S: Final = 3.0
GREET_S: Final = 4.0
_NO_WAY: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)


class Door(StrEnum):
    """How a host answers when somebody knocks at a port."""

    OPEN = "open"
    REFUSED = "refused"  # the host is there, and nothing listens
    SILENT = "silent"  # nothing comes back
    NO_WAY = "no way"  # the network says that the host cannot be reached
    UNKNOWN = "unknown"  # the name has no address


@dataclass(frozen=True, slots=True)
class Knock:
    """What came of a knock at a port: in the system's words, and which address answered."""

    door: Door
    reason: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """
    What came of a visit.

    Attributes:
        knock: Whether there is a door.
        hello: What the instance behind it says of itself, if it does.
        reason: Why it does not.
    """

    knock: Knock
    hello: Hello | None = None
    reason: str = ""


async def knock(host: str, port: int, within_s: float = REACH_S) -> Knock:
    """Open a TCP connection, and close it."""
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Knock(Door.SILENT, f"no answer within {within_s:g} s")
    except socket.gaierror as error:
        return Knock(Door.UNKNOWN, error.strerror or str(error))
    except UnicodeError as error:  # it can be no name
        return Knock(Door.UNKNOWN, str(error))
    except ConnectionRefusedError:
        return Knock(Door.REFUSED, "connection refused")
    except OSError as error:
        door = Door.NO_WAY if error.errno in _NO_WAY else Door.SILENT
        return Knock(door, error.strerror or str(error))
    answered = writer.get_extra_info("peername") or ("",)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return Knock(Door.OPEN, host=str(answered[0]))


async def visit(host: str, port: int, credentials: Credentials | None) -> Visit:
    """Hear the hello of who listens there; ``credentials`` None: without TLS."""
    knocked = await knock(host, port)
    if knocked.door is not Door.OPEN:
        return Visit(knocked)
    dialling = Dialling(credentials, dial_s=REACH_S, stall_s=GREET_S)
    dialling.open()
    try:
        async with asyncio.timeout(GREET_S):
            return Visit(knocked, await _hello(dialling, host, port))
    except PeerUnreachable as error:
        return Visit(knocked, reason=error.reason)
    except TimeoutError:
        return Visit(knocked, reason=f"it said nothing within {GREET_S:g} s")
    except (Malformed, OSError) as error:
        return Visit(knocked, reason=f"it is no instance: {error}")
    finally:
        await dialling.close()


async def _hello(dialling: Dialling, host: str, port: int) -> Hello:
    channel = await dialling.connect(host, port, None)
    try:
        hello, _ = await hear_hello(channel, address_of(host, port))
    except BaseException:
        abort(channel)
        raise
    await close(channel, Close.AWAY, "only a visit")
    return hello
